package kafka

import (
	"context"
	"hash/fnv"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"
)

// Sweeper goes over a processor's table in the background, a slice of the rows at a time: whatever bug or disaster has
// left behind is then put right without anyone knowing its cause. It is for one processor at a time and goes on where
// it was when a supervisor builds the next one.
type Sweeper struct {
	// Every is the time between two slices, and Slices how many there are: the whole takes one times the other.
	Every  time.Duration
	Slices uint32
	Logger *slog.Logger

	next atomic.Uint32
}

// The pace of a sweep: a day for all rows.
const (
	DefaultSweepEvery  = 15 * time.Minute
	DefaultSweepSlices = 96
)

// NewSweeper makes a sweeper of the usual pace.
func NewSweeper(logger *slog.Logger) *Sweeper {
	return &Sweeper{Every: DefaultSweepEvery, Slices: DefaultSweepSlices, Logger: logger}
}

const sweepVisitor = "sweep"

// Sweep is the edge of a processor whose rows are swept: callback is called for each row of the present slice, and may
// read it and emit. What it returns an error for is logged, and the sweep goes on.
func Sweep(callback func(ctx goka.Context) error) goka.Edge {
	return goka.Visitor(sweepVisitor, func(ctx goka.Context, slice any) {
		s, ok := slice.(sweepSlice)
		if !ok || !s.has(ctx.Key()) {
			return
		}
		if err := callback(ctx); err != nil {
			s.logger.Warn("a row is left out of the sweep", "key", ctx.Key(), "error", err)
		}
	})
}

// sweepSlice is what a visitor is told: which rows it is about.
type sweepSlice struct {
	number, of uint32
	logger     *slog.Logger
}

func (s sweepSlice) has(key string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // a hash's Write never fails
	// The low bits of the same hash decide the partition; what remains spreads the rows of one.
	return h.Sum32()>>10%s.of == s.number
}

// run sweeps until ctx ends. A visit that a rebalance cuts short is made again by the next round.
func (s *Sweeper) run(ctx context.Context, p *goka.Processor) {
	ticker := time.NewTicker(s.Every)
	defer ticker.Stop()
	log := orDefaultLogger(s.Logger)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		slice := sweepSlice{number: s.next.Add(1) % s.Slices, of: s.Slices, logger: log}
		if err := p.VisitAll(ctx, sweepVisitor, slice); err != nil && ctx.Err() == nil {
			log.Info("a sweep was cut short", "slice", slice.number, "error", err)
		}
	}
}
