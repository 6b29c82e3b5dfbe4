package streams

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"freshet"
	"freshet/views"
)

// Stream is one reader of one feed. It is for one goroutine, which closes it.
type Stream struct {
	hub     *Hub
	account freshet.Number
	wake    chan struct{} // has a value when there is something to take
	abort   func()
	past    *past // what is to be told before it is live; nil afterwards
	greeted bool
	// refreshing is held while wants is made of the row.
	refreshing sync.Mutex

	// By the hub's mu.
	opened bool // it has been indexed
	live   bool // it gets what is handed out
	closed bool
	slow   bool
	lost   bool             // it has to be told to read the feed anew
	stale  bool             // the account's row has changed
	wants  []freshet.Number // replaced, never changed
	late   []freshet.Number // those of wants who came last
	queue  []*slot
}

// Batch is what a stream has to tell.
type Batch struct {
	Events []*Event
	// Mark, unless nil, is how far the stream is after the events.
	Mark *Mark
	// Reset says that something was lost before: the reader has to read the feed anew.
	Reset bool
}

// Open opens a stream of an account's feed: from a position on, or of what comes from now on if that is nil. abort is
// called, from another goroutine, when the stream is ended because its reader is too slow: it should make a write fail
// that waits. The error wraps views.ErrNotReady, ErrMost, ErrMostOfAccount or ErrEnding.
func (h *Hub) Open(account freshet.Number, from Position, abort func()) (*Stream, error) {
	select {
	case <-h.ready:
	default:
		return nil, fmt.Errorf("open a stream: the log is being found: %w", views.ErrNotReady)
	}
	if h.ending.Err() != nil {
		return nil, ErrEnding
	}
	s := &Stream{hub: h, account: account, wake: make(chan struct{}, 1), abort: abort, stale: true}
	h.mu.Lock()
	switch {
	case h.noted.Load() >= int64(h.cfg.Most):
		h.mu.Unlock()
		return nil, ErrMost
	case len(h.byAccount[account]) >= h.cfg.MostOfAccount:
		h.mu.Unlock()
		return nil, ErrMostOfAccount
	}
	h.byAccount[account] = append(h.byAccount[account], s) // from here on it is told of changes of the row
	h.noted.Add(1)
	h.mu.Unlock()
	if err := h.refresh(s); err != nil {
		s.Close()
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.opened = true
	switch {
	case from == nil:
		s.live = true
		h.giveHeld(s)
	case len(from) != len(h.next):
		s.live, s.lost = true, true
		h.giveHeld(s)
	default:
		h.resumes.Add(1)
		from = slices.Clone(from)
		for i := range from {
			from[i] = min(from[i], h.next[i]) // another process may be ahead of this one
		}
		s.past = &past{position: from}
	}
	return s, nil
}

// Next waits for something to tell, at most for as long as wait says, and then tells nothing but how far the stream is.
// Its error is that of ctx, ErrSlow, ErrEnding, or of a view that has ended.
func (s *Stream) Next(ctx context.Context, wait time.Duration) (Batch, error) {
	if s.past != nil {
		return s.resume(ctx, wait)
	}
	if s.greeted {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-s.wake:
		case <-timer.C:
		case <-s.hub.ending.Done():
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
	s.greeted = true
	if fresh, err := s.awaitFresh(ctx, wait); !fresh {
		s.rouse() // what waits is still there
		return Batch{}, err
	}
	b, err := s.take()
	if err != nil {
		return Batch{}, err
	}
	b.Events, err = s.visible(b.Events)
	return b, err
}

// awaitFresh waits, for as long as wait says, for views that know what may be shown, and says whether they are there.
func (s *Stream) awaitFresh(ctx context.Context, wait time.Duration) (bool, error) {
	if s.hub.cfg.Fresh.Err() == nil {
		return true, nil
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(s.hub.ending, cancel)()
	switch err := s.hub.cfg.Fresh.Await(waiting); {
	case err == nil:
		return true, nil
	case s.hub.ending.Err() != nil:
		return false, ErrEnding
	}
	return false, ctx.Err()
}

// take takes all that waits, up to what readers do not find yet.
func (s *Stream) take() (Batch, error) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.slow {
		return Batch{}, ErrSlow
	}
	b := Batch{Mark: h.mark, Reset: s.lost}
	n := 0
	for ; n < len(s.queue) && s.queue[n].held == nil; n++ {
		if e := s.queue[n].event; e != nil {
			b.Events = append(b.Events, e)
		}
	}
	if s.queue = slices.Clone(s.queue[n:]); s.isStuck() {
		b.Mark = s.queue[0].held.before // who comes back from there is told of it, and of what follows
		h.stuck[s] = struct{}{}
	}
	if s.lost {
		s.lost, b.Events = false, nil // who reads the feed anew finds what they say
		h.resets.Add(1)
	}
	if len(b.Events) == 0 && !b.Reset && h.ending.Err() != nil {
		return Batch{}, ErrEnding
	}
	return b, nil
}

// visible leaves out what the stream must not tell any more.
func (s *Stream) visible(events []*Event) ([]*Event, error) {
	if len(events) == 0 {
		return nil, nil
	}
	h := s.hub
	if err := h.refresh(s); err != nil {
		return nil, err
	}
	h.mu.Lock()
	wants := s.wants
	h.mu.Unlock()
	shown := events[:0]
	for _, e := range events {
		ok, err := h.shows(s, wants, e.Post)
		if err != nil {
			return nil, err
		}
		if ok {
			shown = append(shown, e)
		}
	}
	h.events.Add(int64(len(shown)))
	return shown, nil
}

// Close ends the stream.
func (s *Stream) Close() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return
	}
	s.closed, s.live, s.queue, s.opened = true, false, nil, false
	delete(h.stuck, s)
	h.index(s, nil)
	streams := h.byAccount[s.account]
	streams = slices.DeleteFunc(streams, func(other *Stream) bool { return other == s })
	if h.byAccount[s.account] = streams; len(streams) == 0 {
		delete(h.byAccount, s.account)
	}
	h.noted.Add(-1)
}

// give puts an event into the stream's queue. The caller holds the hub's mu.
func (s *Stream) give(e *slot) {
	if !s.live || s.slow {
		return
	}
	switch full := len(s.queue) >= s.hub.cfg.Queue; {
	case full && s.isStuck(): // which is not the reader's fault
		if s.beginAnew(nil); len(s.queue) >= s.hub.cfg.Queue {
			s.queue = nil
		}
		s.queue = append(s.queue, e)
		s.rouse()
		return
	case full:
		s.slow, s.queue = true, nil
		s.hub.slow.Add(1)
		if s.abort != nil {
			s.abort()
		}
	default:
		s.queue = append(s.queue, e)
	}
	if s.isStuck() {
		s.hub.stuck[s] = struct{}{}
		return
	}
	s.rouse()
}

func (s *Stream) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
