package feeds

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// fail notes why Redis cannot be written, and logs it once.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	first := w.failure == nil
	w.failure = err
	w.mu.Unlock()
	if first {
		w.cfg.Logger.Warn("redis is not written", "error", err)
	}
}

// mend pauses and recovers, until it works or ctx ends, and then answers false. Sessions that end meanwhile are not
// kept waiting: what they do not commit comes again.
func (w *Writer) mend(ctx context.Context, pause *backoff.ExponentialBackOff) bool {
	for {
		at, err := w.cfg.Inputs.At(ctx)
		if err == nil {
			if _, err = w.recover(ctx, at, true); err == nil {
				return true
			}
		}
		w.fail(err)
		w.dismiss()
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case r := <-w.recovers:
			w.serve(ctx, r)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// dismiss lets go of those who wait for a session that has ended.
func (w *Writer) dismiss() {
	w.mu.Lock()
	ended := w.backlog.Ended()
	w.mu.Unlock()
	ended.Done(ErrStopped)
}

// serve answers a session that is about to begin. It tries until Redis answers or the session is over.
func (w *Writer) serve(ctx context.Context, r recoverRequest) {
	pause := newPause()
	for {
		d, err := w.recover(r.ctx, r.at, false)
		if err == nil {
			r.reply <- recoverReply{decision: d}
			return
		}
		w.fail(err)
		w.dismiss()
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
			continue
		case <-r.ctx.Done():
		case <-ctx.Done():
		}
		timer.Stop()
		r.reply <- recoverReply{err: fmt.Errorf("prepare redis for a session: %w", err)}
		return
	}
}

// recover runs the flusher's Recover. A session that is running goes back if it has to.
func (w *Writer) recover(ctx context.Context, at Positions, running bool) (Decision, error) {
	if session, _ := w.cfg.Inputs.Finished(); running && session != 0 {
		w.session = session // it may be younger than the last note, and its positions are worth as little
	}
	d, err := w.flusher.Recover(ctx, int64(w.session), at, w.cfg.Inputs.Ends)
	if err != nil {
		return Decision{}, err
	}
	w.noted = nil
	w.mu.Lock()
	w.failure = nil
	w.mu.Unlock()
	switch {
	case len(d.Lost) == 0:
	case len(d.Back) == 0:
		w.cfg.Logger.Info("redis is new", "zones", len(d.Lost))
	default:
		w.cfg.Logger.Warn("redis has lost writes: going back", "zones", len(d.Lost), "to", describe(d.Back))
	}
	if running && d.Again() {
		w.cfg.Inputs.Back(d.Back)
	}
	return d, nil
}

func newPause() *backoff.ExponentialBackOff {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = 20 * time.Millisecond
	pause.MaxInterval = 2 * time.Second
	return pause
}

func describe(offsets map[Input]int64) []string {
	var parts []string
	for input, offset := range offsets {
		parts = append(parts, fmt.Sprintf("%s=%d", input.field(), offset))
	}
	return parts
}
