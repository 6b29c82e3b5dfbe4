package streams

import (
	"context"
	"slices"
	"time"

	"freshet"
	"freshet/internal/pause"
)

// lateFor is how far back posts are looked for when an account is found to follow somebody more. A follow that another
// process took comes here a moment later, and what was posted in between belongs to the feed; so do the few posts that
// are older than the follow. It is as much as a view may be behind before that is noticed.
const lateFor = 10 * time.Second

// late is posts that were handed out before it was known that the stream's account follows their author.
type late struct {
	stream *Stream
	refs   []ref
}

// catchUp indexes streams anew when their accounts' rows change, also while nobody posts, and gives them what came
// late.
func (h *Hub) catchUp(ctx context.Context) {
	var waiting []late
	for wait := firstPause; ; {
		err := h.refreshAll()
		waiting = append(waiting, h.takeLate()...)
		if err == nil {
			waiting, err = h.giveLate(ctx, waiting)
		}
		if err == nil && len(waiting) == 0 {
			select {
			case <-h.kick:
			case <-ctx.Done():
				return
			}
			wait = firstPause
			continue
		}
		if pause.For(ctx, wait) != nil {
			return
		}
		wait = min(2*wait, lastPause)
	}
}

// takeLate finds what the streams that follow somebody more have missed.
func (h *Hub) takeLate() []late {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []late
	for _, s := range h.late {
		if !s.live { // it looks by itself
			continue
		}
		if refs := h.missed(s); len(refs) > 0 {
			found = append(found, late{s, refs})
		}
	}
	h.late = nil
	return found
}

// missed is the young posts of the authors whom the stream follows since it was asked last. The caller holds mu.
func (h *Hub) missed(s *Stream) (refs []ref) {
	authors := s.late
	if s.late = nil; len(authors) == 0 {
		return nil
	}
	slices.Sort(authors)
	oldest := freshet.FirstPostID(time.Now().Add(-lateFor))
	longAgo := freshet.FirstPostID(time.Now().Add(-2 * lateFor)) // ids do not rise from record to record
	for n := h.ring.end; n > h.ring.first(); n-- {
		r := h.ring.at(n - 1)
		if freshet.PostEventKind(r.kind) != freshet.PostCreated {
			continue
		}
		if r.post < longAgo {
			break
		}
		if _, found := slices.BinarySearch(authors, r.author); found && r.post >= oldest {
			refs = append(refs, r)
		}
	}
	slices.Reverse(refs)
	return refs
}

// giveLate gives streams what came late, as far as readers find it, and returns the rest.
func (h *Hub) giveLate(ctx context.Context, waiting []late) (left []late, err error) {
	for i, l := range waiting {
		found, err := h.find(ctx, l.refs)
		if err != nil {
			return append(left, waiting[i:]...), err
		}
		n := slices.IndexFunc(found, func(f finding) bool { return !f.known })
		if n < 0 {
			n = len(found)
		} else {
			left = append(left, late{l.stream, l.refs[n:]})
		}
		h.mu.Lock()
		for _, f := range found[:n] {
			if f.event != nil {
				l.stream.give(&slot{event: f.event})
			}
		}
		h.mu.Unlock()
	}
	return left, nil
}
