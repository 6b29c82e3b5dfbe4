package streams

import (
	"context"
	"slices"
	"time"

	"freshet"
)

const (
	// DefaultHeld is how many records may be held at once, some 300 bytes each. Past that the reading of the log waits
	// until some of them are found, and what comes stays in Kafka.
	DefaultHeld = 4096
	// DefaultHeldFor is how long a record is held while readers find others. Then the streams that wait for it are told to
	// read their feeds anew: a page says "complete": false as long as the post is missing.
	DefaultHeldFor = 30 * time.Second
)

// slot is the place of an event in the queues of the streams that are given it.
type slot struct {
	event *Event // nil: there is nothing to tell
	// held, unless nil, is why event is not known: readers do not find the post yet. A stream tells what lies before such
	// a slot and waits there, so that its order is the log's; streams that do not want the author do not notice. By the
	// hub's mu, once the slot is in a queue.
	held *held
}

// held is a record that readers do not find yet.
type held struct {
	entry
	slot   *slot
	before *Mark     // of the records before those that were read together with it
	since  time.Time // for so long others have been found, and this one not
}

// hold makes slots for the entries of which nothing is known, if there is room for so many.
func (h *Hub) hold(entries []entry, open []int, told []*slot, known []bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := 0
	for _, n := range open {
		if !known[n] {
			left++
		}
	}
	if len(h.held)+left > h.cfg.Held {
		return false
	}
	now := time.Now()
	for _, n := range open {
		if !known[n] {
			known[n], told[n] = true, &slot{}
			told[n].held = &held{entry: entries[n], slot: told[n], before: h.mark, since: now}
		}
	}
	h.waiting.Add(int64(left))
	return true
}

// settle looks for the posts of held records until ctx ends.
func (h *Hub) settle(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; {
		h.mu.Lock()
		waiting := slices.Clone(h.held)
		h.mu.Unlock()
		if len(waiting) == 0 {
			select {
			case <-h.holds:
				pause = firstPause
			case <-ctx.Done():
			}
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-h.holds:
			pause = firstPause
		case <-timer.C:
			pause = min(2*pause, lastPause)
		case <-ctx.Done():
		}
		timer.Stop()
		for part := range slices.Chunk(waiting, pastAtOnce) {
			h.settlePart(ctx, part)
		}
	}
}

// settlePart looks once for the posts of some held records.
func (h *Hub) settlePart(ctx context.Context, part []*held) {
	refs := make([]ref, len(part))
	for i, w := range part {
		refs[i] = w.ref
	}
	found, err := h.find(ctx, refs)
	now := time.Now()
	if err != nil {
		if ctx.Err() == nil {
			h.log.Debug("held records of posts cannot be looked for", "error", err)
		}
		for _, w := range part {
			w.since = now // nobody's post is found now
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	settled := map[*held]bool{}
	for i, w := range part {
		f := found[i].orTold(&w.entry, now.Sub(w.since))
		switch {
		case f.known:
			w.slot.event, w.slot.held = f.event, nil
			settled[w] = true
		case now.Sub(w.since) >= h.cfg.HeldFor:
			h.log.Warn("readers do not find a post, and its streams begin anew", "post", w.post, "author", w.author)
			for _, s := range h.byAuthor[w.author] {
				if slices.Contains(s.queue, w.slot) {
					s.beginAnew(w.slot)
					s.rouse()
				}
			}
			w.slot.held = nil
			settled[w] = true
		}
	}
	if len(settled) == 0 {
		return
	}
	h.held = slices.DeleteFunc(h.held, func(w *held) bool { return settled[w] })
	for s := range h.stuck {
		if !s.isStuck() {
			delete(h.stuck, s)
			s.rouse()
		}
	}
}

// orTold is the finding, or what the record itself says of an edit whose post is in neither Redis nor, yet, the post
// store: it has all of the post, and Redis would know if the post were deleted.
func (f finding) orTold(e *entry, waited time.Duration) finding {
	if !f.known && f.well && e.kind == int32(freshet.PostEdited) && waited >= editPatience {
		f.known, f.event = true, &Event{Kind: freshet.PostEdited, Post: e.event.Post, Author: f.author}
		f.event.Post.CreatedAt = f.event.Post.ID.Time()
	}
	return f
}

// isStuck says whether the stream waits for a held record. The caller holds the hub's mu.
func (s *Stream) isStuck() bool { return len(s.queue) > 0 && s.queue[0].held != nil }

// beginAnew has the stream told to read the feed anew, because it will not be told of a slot, or not of all that waits
// behind one. What is held otherwise it goes on waiting for. The caller holds the hub's mu.
func (s *Stream) beginAnew(without *slot) {
	s.lost = true
	s.queue = slices.DeleteFunc(s.queue, func(other *slot) bool { return other == without || other.held == nil })
}

// giveHeld gives the stream what is held of the authors whom it wants. The caller holds the hub's mu.
func (h *Hub) giveHeld(s *Stream) {
	for _, w := range h.held {
		if _, wants := slices.BinarySearch(s.wants, w.author); wants {
			s.give(w.slot)
		}
	}
}
