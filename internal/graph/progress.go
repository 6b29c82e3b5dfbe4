package graph

import (
	"context"
	"sync/atomic"
	"time"

	"freshet/emitters"
)

// pollEvery is how often rows are looked at that are not yet as they will be.
const pollEvery = 10 * time.Millisecond

// poll looks until everything is as it will be. look is given how much is, and returns how much is now, and whether it
// is worth looking on at once.
func (i *importer) poll(ctx context.Context, stage Stage, total int, look func(done int) (int, bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	i.Progress(stage, 0, total)
	for done := 0; done < total; {
		now, on, err := look(done)
		if err != nil {
			return i.failed(ctx, err)
		}
		done = now
		i.Progress(stage, done, total)
		if on {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return i.failed(ctx, context.Cause(ctx))
		}
	}
	return nil
}

// writes are the writes of a stage.
type writes struct {
	i       *importer
	stage   Stage
	total   int
	skipped int
	begun   int
	acked   atomic.Int64 // from the producer's goroutine
}

func (i *importer) writes(stage Stage, total int) *writes {
	i.Progress(stage, 0, total)
	return &writes{i: i, stage: stage, total: total}
}

// skip notes what need not be written.
func (w *writes) skip(n int) { w.skipped += n }

// begin notes that n things are about to be written as one, and returns what to call when they are. A failure ends the
// import.
func (w *writes) begin(n int, acked func(emitters.Position)) emitters.Done {
	w.begun += n
	w.tell()
	return func(at emitters.Position, err error) {
		if err != nil {
			w.i.fail(err)
			return
		}
		if acked != nil {
			acked(at)
		}
		w.acked.Add(int64(n))
	}
}

func (w *writes) tell() int {
	acked := int(w.acked.Load())
	w.i.Progress(w.stage, w.skipped+acked, w.total)
	return acked
}

// wait waits until everything begun is acknowledged.
func (w *writes) wait(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for w.tell() < w.begun {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
