package accept

import (
	"context"
	"sync"
	"time"

	"freshet"
	"freshet/internal/posts"
)

const (
	// unmarkEvery is how long marks are gathered that are to be taken off: posts of the same moment share partitions.
	unmarkEvery = time.Second
	// unmarkMost bounds what waits, some megabytes. What is more a sweep finds.
	unmarkMost = 200_000
	// unmarkAtEnd is how long a process that ends still tries.
	unmarkAtEnd = 2 * time.Second
)

// unmarker takes marks off posts that are in the log. Nobody waits for it: a mark that stays only makes work for a
// sweep. The zero value is ready to use.
type unmarker struct {
	mu  sync.Mutex
	ids []freshet.PostID
}

func (u *unmarker) add(id freshet.PostID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.ids) < unmarkMost {
		u.ids = append(u.ids, id)
	}
}

func (u *unmarker) take() []freshet.PostID {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids := u.ids
	u.ids = nil
	return ids
}

// flush takes off the marks that wait. Those that the store does not take wait for the next time.
func (u *unmarker) flush(ctx context.Context, store posts.Marks) error {
	ids := u.take()
	if len(ids) == 0 {
		return nil
	}
	err := store.Unmark(ctx, ids)
	if err != nil {
		for _, id := range ids {
			u.add(id)
		}
	}
	return err
}

// run flushes until ctx ends, and once more then.
func (u *unmarker) run(ctx context.Context, store posts.Marks, failed func(error)) {
	ticker := time.NewTicker(unmarkEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			failed(u.flush(ctx, store))
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmarkAtEnd)
	defer cancel()
	failed(u.flush(last, store))
}
