package kafka

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestSupervise(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var health Health
	health.Starting("api")
	health.Running("api")
	broken := errors.New("broken")
	var starts []time.Time
	failures := make(chan []PartStatus, 10)
	runs := 0
	result := make(chan error, 1)
	go func() {
		result <- Supervise(ctx, "fanout", testLogger(t), func(ctx context.Context) error {
			runs++
			starts = append(starts, time.Now())
			switch runs {
			case 1, 2:
				return broken
			case 3:
				return nil // too early
			}
			_, missing := health.Ready()
			failures <- missing
			health.Running("fanout")
			<-ctx.Done()
			return errors.New("while stopping")
		}, SuperviseOptions{Health: &health, MinPause: 20 * time.Millisecond})
	}()
	missing := <-failures
	if len(missing) != 1 || missing[0].Name != "fanout" || missing[0].State != Starting ||
		!errors.Is(missing[0].Err, errReturned) {
		t.Errorf("missing %+v", missing)
	}
	await(t, "ready", func() bool { ready, _ := health.Ready(); return ready })
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if runs != 4 {
		t.Errorf("%d runs, want 4", runs)
	}
	if first := starts[1].Sub(starts[0]); first < 10*time.Millisecond { // 20 ms, give or take half
		t.Errorf("started again after %s", first)
	}
}

func TestSupervisePauseBeginsAnewAfterAStableRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	runs := 0
	began := time.Now()
	err := Supervise(ctx, "p", testLogger(t), func(context.Context) error {
		if runs++; runs == 12 {
			cancel()
		}
		return errors.New("again")
	}, SuperviseOptions{MinPause: time.Millisecond, MaxPause: time.Minute, Stable: time.Nanosecond})
	if err != nil {
		t.Error(err)
	}
	// Doubling eleven times would have taken more than a second.
	if took := time.Since(began); took > time.Second {
		t.Errorf("12 runs took %s", took)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var h Health
	if ready, missing := h.Ready(); !ready || len(missing) != 0 {
		t.Errorf("nothing: %v, %v", ready, missing)
	}
	cause := errors.New("no broker")
	h.Starting("b")
	h.Failed("a", cause)
	first := h.Parts()[0].Since
	h.Failed("a", cause)
	ready, missing := h.Ready()
	if ready || len(missing) != 2 || missing[0].Name != "a" || missing[0].State != Failed ||
		!errors.Is(missing[0].Err, cause) || !missing[0].Since.Equal(first) || missing[1].State != Starting {
		t.Errorf("ready %v, missing %+v", ready, missing)
	}
	h.Running("a")
	h.Remove("b")
	if ready, _ := h.Ready(); !ready || h.Parts()[0].Err != nil {
		t.Errorf("parts %+v", h.Parts())
	}
}
