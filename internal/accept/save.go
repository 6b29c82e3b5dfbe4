package accept

import (
	"context"
	"sync"
	"time"

	"freshet"
	"freshet/emitters"
	"freshet/internal/posts"
)

const (
	// saveTimeout bounds a save, once it has begun.
	saveTimeout = 5 * time.Second
	// saveMost is how many posts of a batch are saved, and then published, at a time: far fewer than can be saved in
	// saveTimeout, so that a large batch is not given up when half of it is saved. What is left when the request's time is
	// over is not saved.
	saveMost = 2000
	// Longest is how long it takes from the minting of an id until the log has the post, or nobody waits for it: two
	// saves, because one may wait for the one before, and publishing.
	Longest = 2*saveTimeout + emitters.ProduceTimeout
	// savesAtOnce is how many saves are under way. What comes meanwhile goes together in the next: the slower the store
	// answers, the more posts share a request to it.
	savesAtOnce = 4
)

// saver saves the posts of many requests together. The zero value is ready to use.
type saver struct {
	mu      sync.Mutex
	filling *saving // nil: nothing waits
	running int
}

// saving is posts that are saved by one call, and fail together.
type saving struct {
	posts []freshet.Post
	done  chan struct{}
	err   error // when done is closed
}

// save returns when the posts are saved, or it is not known whether they are. It does not end with ctx, which is looked
// at before: who asked would not know what it leaves behind.
func (s *saver) save(ctx context.Context, store posts.Marks, all []freshet.Post) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.filling == nil {
		s.filling = &saving{done: make(chan struct{})}
	}
	mine := s.filling
	mine.posts = append(mine.posts, all...)
	if s.running < savesAtOnce {
		s.running++
		go s.run(context.WithoutCancel(ctx), store) // ends before, or with, the last of those that wait for it
	}
	s.mu.Unlock()
	<-mine.done
	return mine.err
}

// run saves until nothing waits.
func (s *saver) run(ctx context.Context, store posts.Marks) {
	for {
		s.mu.Lock()
		next := s.filling
		s.filling = nil
		if next == nil {
			s.running--
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		bounded, cancel := context.WithTimeout(ctx, saveTimeout)
		next.err = store.Save(bounded, next.posts)
		cancel()
		close(next.done)
	}
}
