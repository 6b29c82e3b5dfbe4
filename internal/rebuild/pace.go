// Package rebuild makes anew what was made wrong: feeds, follower trees, the post store. Each may run while everything
// else goes on, and again at any time: nothing is taken away that is not brought back by what comes from the log or the
// tables.
//
//	feeds.go  feeds, by making them cold: the next read of each builds it
//	graph.go  follower trees, by having the rows of following state everything again
//	store.go  the post store, from the log of posts
package rebuild

import (
	"context"
	"time"

	"freshet/internal/pause"
)

// pace holds something to a rate.
type pace struct {
	rate float64 // a second; 0: as fast as it goes
	due  time.Time
}

// spend waits until n more may have been done.
func (p *pace) spend(ctx context.Context, n int) error {
	if p.rate <= 0 || n == 0 {
		return ctx.Err()
	}
	if now := time.Now(); p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	return pause.For(ctx, time.Until(p.due))
}

// Progress is told how far a stage is.
type Progress func(stage string, done, total int)
