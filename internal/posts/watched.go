package posts

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Reporter says how far a post store is. A Store is one.
type Reporter interface {
	Progress(ctx context.Context) (map[int32]Progress, error)
}

// Watcher asks a post store again and again how far it is. What it said last stays true, because a store only goes on:
// a store that is away is taken for one that stands still. It is safe for concurrent use.
type Watcher struct {
	store Reporter
	every time.Duration
	log   *slog.Logger
	last  atomic.Pointer[map[int32]Progress]
}

// NewWatcher makes a watcher that asks this often while it runs. A nil logger is slog.Default().
func NewWatcher(store Reporter, every time.Duration, log *slog.Logger) *Watcher {
	if log == nil {
		log = slog.Default()
	}
	return &Watcher{store: store, every: every, log: log}
}

// Run asks the store until ctx ends, and then returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	silent := false
	for {
		progress, err := w.store.Progress(ctx)
		switch {
		case err == nil:
			w.last.Store(&progress)
			silent = false
		case ctx.Err() == nil && !silent:
			silent = true
			w.log.Warn("the post store does not say how far it is; it is taken to be where it was", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Last is what the store said last, not to be changed; nil as long as it has said nothing.
func (w *Watcher) Last() map[int32]Progress {
	if last := w.last.Load(); last != nil {
		return *last
	}
	return nil
}

// watchEvery is how old an answer of Watched.Progress may be, a store's answering time apart, while the store answers.
const watchEvery = 250 * time.Millisecond

// Watched is a store that is asked beside, not in, each call of Progress how far it is.
type Watched struct {
	Store
	watcher *Watcher
}

// Watch watches a store while Run runs. A nil logger is slog.Default().
func Watch(store Store, log *slog.Logger) *Watched {
	return &Watched{store, NewWatcher(store, watchEvery, log)}
}

// Run asks the store until ctx ends, and then returns nil.
func (w *Watched) Run(ctx context.Context) error { return w.watcher.Run(ctx) }

// Progress implements Store: what the store said last, not to be changed. As long as it has said nothing, it is asked.
func (w *Watched) Progress(ctx context.Context) (map[int32]Progress, error) {
	if last := w.watcher.Last(); last != nil {
		return last, nil
	}
	return w.Store.Progress(ctx)
}
