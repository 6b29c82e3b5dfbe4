// Package pause lets time pass, unless a context ends before.
package pause

import (
	"context"
	"time"
)

// For waits for d, and returns nil; when ctx ends before, or has ended, it returns ctx's error. A d that is not
// positive does not wait.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
