package feeds

import "context"

// Waiters wait for a batch to be written, each for the session of its message. They are not safe for concurrent use.
type Waiters struct{ waiting []waiter }

type waiter struct {
	ctx  context.Context // of the session that waits
	done func(error)
}

// Add lets somebody wait; done is called once.
func (w *Waiters) Add(ctx context.Context, done func(error)) {
	w.waiting = append(w.waiting, waiter{ctx, done})
}

// Len is how many wait.
func (w *Waiters) Len() int { return len(w.waiting) }

// Done tells all of them, and none is left. It must not be called under a lock that one of them may want.
func (w *Waiters) Done(err error) {
	for _, waiter := range w.waiting {
		waiter.done(err)
	}
	w.clear()
}

func (w *Waiters) clear() {
	clear(w.waiting)
	w.waiting = w.waiting[:0]
}

// moveTo has others hold them instead.
func (w *Waiters) moveTo(others *Waiters) {
	others.waiting = append(others.waiting, w.waiting...)
	w.clear()
}

// Ended takes out those whose sessions have ended: what such a session did not commit comes again.
func (w *Waiters) Ended() *Waiters {
	ended := &Waiters{}
	kept := w.waiting[:0]
	for _, waiter := range w.waiting {
		if waiter.ctx.Err() != nil {
			ended.waiting = append(ended.waiting, waiter)
		} else {
			kept = append(kept, waiter)
		}
	}
	clear(w.waiting[len(kept):])
	w.waiting = kept
	return ended
}
