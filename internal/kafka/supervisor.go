package kafka

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/lovoo/goka"
	"golang.org/x/sync/errgroup"
)

// SuperviseOptions are the pauses of Supervise; zero values stand for the defaults.
type SuperviseOptions struct {
	// Health is told of starts and failures, unless nil; run tells it that it is running.
	Health *Health
	// MinPause and MaxPause bound the pause before a restart: 200 ms and 30 s.
	MinPause, MaxPause time.Duration
	// Stable is how long run has to last for the pauses to begin anew: a minute.
	Stable time.Duration
}

// errReturned is what a part failed with that returned nil before it was told to stop.
var errReturned = errors.New("returned before it was told to stop")

// Supervise calls run again and again until ctx ends, and then returns nil, after run has returned. run builds what it
// runs anew each time. If it returns before ctx has ended, with or without an error, it is started again after a pause
// that grows.
func Supervise(ctx context.Context, name string, logger *slog.Logger, run func(ctx context.Context) error,
	opts SuperviseOptions) error {
	if logger == nil {
		logger = slog.Default()
	}
	health := opts.Health
	if health == nil {
		health = &Health{}
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = orDefault(opts.MinPause, 200*time.Millisecond)
	pauses.MaxInterval = orDefault(opts.MaxPause, 30*time.Second)
	pauses.Multiplier = 2
	stable := orDefault(opts.Stable, time.Minute)
	pauses.Reset()

	for ctx.Err() == nil {
		began := time.Now()
		health.Starting(name)
		err := run(ctx)
		if ctx.Err() != nil {
			if err != nil && !onlyCanceled(err) {
				logger.Warn("stopped with an error", "part", name, "error", err)
			}
			break
		}
		if err == nil {
			err = errReturned
		}
		if time.Since(began) >= stable {
			pauses.Reset()
		}
		pause := pauses.NextBackOff()
		health.Failed(name, err)
		logger.Error("failed, will be started again", "part", name, "after", time.Since(began), "pause", pause,
			"error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

// RunProcessor runs a processor and calls ready once, unless nil, when it has recovered its tables and consumes. From
// then on it runs what is to run beside the processor, and ends the processor when one of these fails. It returns when
// all have ended, with the first error, or what the processor's Run returns.
func RunProcessor(ctx context.Context, p *goka.Processor, ready func(),
	beside ...func(ctx context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(ctx)
	g.Go(func() error {
		defer stop()
		return p.Run(ctx)
	})
	g.Go(func() error {
		if !awaitRecovered(running, p) {
			return nil // it has ended, and Run says why
		}
		if ready != nil {
			ready()
		}
		for _, run := range beside {
			g.Go(func() error { return run(running) })
		}
		return nil
	})
	return g.Wait()
}

// readyAgain is how long one wait for goka's signal takes. The signal is about the partitions of the moment: when they
// are taken away it may never come, or come without them, and the next session has others.
const readyAgain = time.Second

// awaitRecovered returns true when the processor has recovered its tables, and false when ctx ends.
func awaitRecovered(ctx context.Context, p *goka.Processor) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		waiting, cancel := context.WithTimeout(ctx, readyAgain)
		err := p.WaitForReadyContext(waiting)
		cancel()
		if err == nil && p.Recovered() {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return false
}

func orDefault(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}
