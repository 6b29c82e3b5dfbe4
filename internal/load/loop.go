package load

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// Outcome is what became of many requests.
type Outcome struct {
	Sent, Failed int
	// Took is from the first request to the last answer.
	Took time.Duration
	// Answers is how long answers took, in microseconds. Of an open loop it counts from when the request was due, so what
	// a slow answer makes wait behind it counts as well.
	Answers *hdrhistogram.Histogram
	// First is the first error.
	First error
}

// NewHistogram is for times from a microsecond to a minute, to three digits.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Minute.Microseconds(), 3)
}

// Record notes a time; what is longer than the histogram's range counts as its end.
func Record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), h.HighestTrackableValue())) // it is in the range
}

// ErrEnough ends a worker before its time.
var ErrEnough = errors.New("there is nothing left to do")

// Open does something at a rate for a time, however long each takes, as long as one of the workers is free. When all
// are busy, what is due waits, and its time counts from when it was due.
func Open(
	ctx context.Context, workers int, rate float64, d time.Duration, do func(ctx context.Context, worker int) error,
) Outcome {
	count := int64(rate * d.Seconds())
	start := time.Now()
	return run(ctx, workers, do, func(i int64) (time.Time, bool) {
		return start.Add(time.Duration(float64(i) / rate * float64(time.Second))), i < count
	})
}

// Closed does something with every worker, again as soon as it is done, for a time.
func Closed(ctx context.Context, workers int, d time.Duration, do func(ctx context.Context, worker int) error) Outcome {
	end := time.Now().Add(d)
	return run(ctx, workers, do, func(int64) (time.Time, bool) {
		now := time.Now()
		return now, now.Before(end)
	})
}

func run(
	ctx context.Context, workers int, do func(ctx context.Context, worker int) error,
	due func(i int64) (at time.Time, more bool),
) Outcome {
	var (
		next  atomic.Int64
		mu    sync.Mutex
		g     errgroup.Group
		total = Outcome{Answers: NewHistogram()}
		start = time.Now()
	)
	for worker := range workers {
		g.Go(func() error {
			own := Outcome{Answers: NewHistogram()}
			for ctx.Err() == nil {
				at, more := due(next.Add(1) - 1)
				if !more || !sleepUntil(ctx, at) {
					break
				}
				err := do(ctx, worker)
				if errors.Is(err, ErrEnough) {
					break
				}
				own.Sent++
				if err != nil {
					own.Failed++
					if own.First == nil {
						own.First = err
					}
					continue
				}
				Record(own.Answers, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			total.Sent += own.Sent
			total.Failed += own.Failed
			total.Answers.Merge(own.Answers)
			total.First = errors.Join(total.First, own.First)
			return nil
		})
	}
	_ = g.Wait() // never an error
	total.Took = time.Since(start)
	return total
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
