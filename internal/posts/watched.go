package posts

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// watchEvery is how old an answer of Watched.Progress may be, a store's answering time apart, while the store answers.
const watchEvery = 250 * time.Millisecond

// Watched is a store that is asked beside, not in, each call of Progress how far it is. What it said last stays true,
// because a store only goes on: whoever reads takes a store that is away for one that stands still.
type Watched struct {
	Store
	log  *slog.Logger
	last atomic.Pointer[map[int32]Progress]
}

// Watch watches a store while Run runs. A nil logger is slog.Default().
func Watch(store Store, log *slog.Logger) *Watched {
	if log == nil {
		log = slog.Default()
	}
	return &Watched{Store: store, log: log}
}

// Run asks the store until ctx ends, and then returns nil.
func (w *Watched) Run(ctx context.Context) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	silent := false
	for {
		progress, err := w.Store.Progress(ctx)
		switch {
		case err == nil:
			w.last.Store(&progress)
			silent = false
		case ctx.Err() == nil && !silent:
			silent = true
			w.log.Warn("the post store does not say how far it is; pages end where it was", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Progress implements Store: what the store said last, not to be changed. As long as it has said nothing, it is asked.
func (w *Watched) Progress(ctx context.Context) (map[int32]Progress, error) {
	if last := w.last.Load(); last != nil {
		return *last, nil
	}
	return w.Store.Progress(ctx)
}
