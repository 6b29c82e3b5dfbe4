package emitters

import (
	"context"
	"fmt"
	"sync"

	"freshet"
)

// Posts writes many posts that were created. All are handed to the producer before any acknowledgement is waited for,
// as far as there are places for writes in flight, and in the order given: so those of an author keep it. Each has an
// outcome of its own, in the order of posts; what is not acknowledged when ctx ends, or ProduceTimeout is over, wraps
// ErrUnavailable and may still arrive. saved says that the posts were saved in the post store before; see
// freshet.PostEvent.
func (e *Emitters) Posts(ctx context.Context, posts []freshet.Post, saved bool) []Outcome {
	ctx, cancel := context.WithTimeout(ctx, ProduceTimeout)
	defer cancel()
	b := &pending{outcomes: make([]Outcome, len(posts)), left: len(posts), done: make(chan struct{})}
	for i := range b.outcomes {
		b.outcomes[i].Err = errPending
	}
	large := e.streams[freshet.Posts].large
	if len(posts) <= fewPosts {
		large = make(chan struct{}, len(posts))
	}
	for i, post := range posts {
		select {
		case large <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		settle := func(p Position, err error) {
			<-large
			b.settle(i, Outcome{p, err})
		}
		event := freshet.PostEvent{Kind: freshet.PostCreated, Post: post, Saved: saved}
		if err := e.PostAsync(ctx, event, settle); err != nil {
			settle(Position{}, err)
		}
	}
	if len(posts) > 0 {
		select {
		case <-b.done:
		case <-ctx.Done():
		}
	}
	return b.end(func(i int) error {
		return fmt.Errorf("write to %s under key %q: %w: %w",
			e.names.Topic(freshet.Posts), posts[i].Author.Key(), ErrUnavailable, context.Cause(ctx))
	})
}

// errPending is the outcome of a write that has none yet.
var errPending = fmt.Errorf("%w yet", ErrUnavailable)

// pending is the outcomes of writes in flight.
type pending struct {
	mu       sync.Mutex
	outcomes []Outcome
	left     int
	done     chan struct{} // closed when none is left
}

func (b *pending) settle(i int, o Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outcomes == nil {
		return // nobody waits for it any more
	}
	b.outcomes[i] = o
	if b.left--; b.left == 0 {
		close(b.done)
	}
}

// end takes the outcomes; those that come later are forgotten.
func (b *pending) end(late func(i int) error) []Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	outcomes := b.outcomes
	b.outcomes = nil
	for i := range outcomes {
		if outcomes[i].Err == errPending { //nolint:errorlint // this very value
			outcomes[i].Err = late(i)
		}
	}
	return outcomes
}
