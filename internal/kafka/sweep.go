package kafka

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/lovoo/goka"
)

// Sweeper has a processor go over its rows in the background, a slice of them at a time: whatever bug or disaster has
// left behind is then put right without anyone knowing its cause. For each row it sends the processor a message through
// its loop topic, so that a row is dealt with in its turn, like any other message. (goka's own way, Processor.VisitAll,
// returns before the visits under way have ended when a rebalance cuts it short, and holds the rebalance up.)
type Sweeper struct {
	// Every is the time between two slices, and Slices how many there are: the whole takes one times the other. Zero
	// values stand for DefaultSweepEvery and DefaultSweepSlices.
	Every  time.Duration
	Slices uint32
	// Keys calls visit for the keys of all rows whose turn the processor can take, until visit returns an error.
	Keys func(visit func(key string) error) error
	// Send sends the message for a row.
	Send func(key string) (*goka.Promise, error)
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// The usual pace of a sweep: a day for all rows.
const (
	DefaultSweepEvery  = 15 * time.Minute
	DefaultSweepSlices = 96
)

// sweepAhead is how many messages of a sweep may be unacknowledged.
const sweepAhead = 512

// Run sweeps until ctx ends, and then returns nil. A slice that fails is logged; its rows have their turn again in the
// next round.
func (s *Sweeper) Run(ctx context.Context) error {
	every, slices := s.Every, s.Slices
	if every == 0 {
		every = DefaultSweepEvery
	}
	if slices == 0 {
		slices = DefaultSweepSlices
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	// By the clock: a processor that starts again, or a partition that moves, does not begin with the first rows anew.
	for slice := uint32(time.Now().UnixNano() / int64(every) % int64(slices)); ; slice = (slice + 1) % slices {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.sweep(ctx, slice, slices); err != nil && ctx.Err() == nil {
			orDefaultLogger(s.Logger).Warn("a sweep was cut short", "slice", slice, "of", slices, "error", err)
		}
	}
}

func (s *Sweeper) sweep(ctx context.Context, slice, slices uint32) error {
	ahead := make(chan struct{}, sweepAhead)
	defer func() { // every message has been answered
		for range sweepAhead {
			ahead <- struct{}{}
		}
	}()
	return s.Keys(func(key string) error {
		if !inSlice(key, slice, slices) {
			return nil
		}
		select {
		case ahead <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		promise, err := s.Send(key)
		if err != nil {
			<-ahead
			return fmt.Errorf("send the row %q its turn: %w", key, err)
		}
		promise.Then(func(error) { <-ahead }) // its turn comes again
		return nil
	})
}

// inSlice spreads the rows of one partition: the low bits of the hash decide the partition.
func inSlice(key string, slice, slices uint32) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // a hash's Write never fails
	return h.Sum32()>>10%slices == slice
}
