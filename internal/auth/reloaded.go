package auth

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// loadTimeout bounds a load: who cannot do without its result waits for it.
	loadTimeout = 3 * time.Second
	// patience is how long those wait who have an older value, from the beginning of the load: a server that hangs must
	// not hold everybody up.
	patience = 250 * time.Millisecond
)

// reloaded is a value that is read again when somebody needs it and finds it too old. If that fails, or takes long, the
// last good one stays: a server of key sets that is away must not lock everybody out.
type reloaded[T any] struct {
	what  string // for logs
	load  func(context.Context) (*T, error)
	retry time.Duration // after a failure
	log   *slog.Logger
	now   func() time.Time

	last atomic.Pointer[loaded[T]]

	mu      sync.Mutex
	closed  bool
	end     context.CancelFunc // of the load under way
	loading *loading           // nil: none
	running sync.WaitGroup
}

type loaded[T any] struct {
	value *T // nil: never yet
	err   error
	at    time.Time
}

// loading is a load under way.
type loading struct {
	done    chan struct{}
	patient time.Time // until when those wait for it who have an older value
}

// get returns the value, read again if the last attempt is older than a time; a must waits for that as long as it
// takes.
// An error means that there never was a value.
func (r *reloaded[T]) get(ctx context.Context, maxAge time.Duration, must bool) (*T, error) {
	last := r.last.Load()
	if last != nil && last.err != nil {
		maxAge = min(maxAge, r.retry)
	}
	if last == nil || r.now().Sub(last.at) >= maxAge {
		l := r.begin(last)
		if last == nil || last.value == nil || must {
			l.wait(ctx, loadTimeout)
		} else {
			l.wait(ctx, time.Until(l.patient))
		}
		last = r.last.Load()
	}
	switch {
	case last == nil:
		return nil, context.Cause(ctx) // which ended before the first load
	case last.value == nil:
		return nil, last.err
	}
	return last.value, nil
}

func (l *loading) wait(ctx context.Context, atMost time.Duration) {
	timer := time.NewTimer(max(0, atMost))
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// begin begins a load, unless one is under way or there was one since.
func (r *reloaded[T]) begin(before *loaded[T]) *loading {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loading != nil {
		return r.loading
	}
	l := &loading{done: make(chan struct{}), patient: time.Now().Add(patience)}
	if r.closed || r.last.Load() != before {
		close(l.done)
		return l
	}
	r.loading = l
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	r.end = cancel
	r.running.Go(func() {
		defer cancel()
		r.reload(ctx, before)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.loading = nil
		close(l.done)
	})
	return l
}

func (r *reloaded[T]) reload(ctx context.Context, before *loaded[T]) {
	value, err := r.load(ctx)
	if err != nil && before != nil {
		value = before.value
		if before.err == nil {
			r.log.Error("credentials could not be read again; those read before stay good", "from", r.what, "error", err)
		}
	}
	r.last.Store(&loaded[T]{value, err, r.now()})
}

// close ends a load that is under way and waits for its end; none begins afterwards.
func (r *reloaded[T]) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	if r.closed = true; r.end != nil {
		r.end()
	}
	r.mu.Unlock()
	r.running.Wait()
}
