package auth

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// loadTimeout bounds a load: who needs the value waits for it.
const loadTimeout = 3 * time.Second

// reloaded is a value that is read again by whoever needs it and finds it too old. If that fails, the last good one
// stays: a server of key sets that is away must not lock everybody out.
type reloaded[T any] struct {
	what  string // for logs
	load  func(context.Context) (*T, error)
	retry time.Duration // after a failure
	log   *slog.Logger
	now   func() time.Time

	flight singleflight.Group
	last   atomic.Pointer[loaded[T]]
}

type loaded[T any] struct {
	value *T // nil: never yet
	err   error
	at    time.Time
}

// get returns the value, read again if the last attempt is older than a time. An error means that there never was one.
func (r *reloaded[T]) get(ctx context.Context, maxAge time.Duration) (*T, error) {
	last := r.last.Load()
	if last != nil && last.err != nil {
		maxAge = min(maxAge, r.retry)
	}
	if last == nil || r.now().Sub(last.at) >= maxAge {
		_, _, _ = r.flight.Do("", func() (any, error) { // what it finds is in last
			if now := r.last.Load(); now == last {
				r.reload(ctx, last)
			}
			return nil, nil
		})
		last = r.last.Load()
	}
	if last.value == nil {
		return nil, last.err
	}
	return last.value, nil
}

func (r *reloaded[T]) reload(ctx context.Context, before *loaded[T]) {
	// Others wait for the result, so the end of one request does not end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	value, err := r.load(ctx)
	if err != nil && before != nil {
		value = before.value
		if before.err == nil {
			r.log.Error("credentials could not be read again; those read before stay good", "from", r.what, "error", err)
		}
	}
	r.last.Store(&loaded[T]{value, err, r.now()})
}
