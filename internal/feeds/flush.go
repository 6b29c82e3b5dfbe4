package feeds

import (
	"context"
	"fmt"
	"time"

	"freshet/internal/crash"
)

// flush writes what is next, however long that takes.
func (w *Writer) flush(ctx context.Context) {
	ready, next := w.take()
	pause := newPause()
	for {
		flushed, err := w.flusher.Flush(ctx, ready, next)
		if err == nil {
			crash.At(crash.Flushed)
			w.finish(ctx, flushed)
			return
		}
		w.fail(err)
		if !w.mend(ctx, pause) {
			w.giveUp(ErrStopped)
			return
		}
	}
}

// flushRest is for the end: nobody is there to recover for.
func (w *Writer) flushRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	for !w.empty() {
		ready, next := w.take()
		flushed, err := w.flusher.Flush(ctx, ready, next)
		if err != nil {
			w.giveUp(fmt.Errorf("%w: %w", ErrStopped, err))
			return
		}
		w.finish(ctx, flushed)
	}
}

func (w *Writer) empty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.backlog.Empty()
}

func (w *Writer) take() (ready, next *Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.room)
	w.room = make(chan struct{})
	return w.backlog.Take()
}

func (w *Writer) finish(ctx context.Context, flushed Flushed) {
	w.mu.Lock()
	w.failure = nil
	waiters, more := w.backlog.Flushed(), !w.backlog.Empty()
	w.mu.Unlock()
	waiters.Done(nil)
	if more {
		w.wake()
	}
	for i := range flushed.Logs {
		log := &flushed.Logs[i]
		if outgrown(log.Length, len(log.Entries), w.cfg.LogLimit) {
			w.enqueue(ctx, log.Block, log.Length > int64(w.cfg.LogLimit*longest))
		}
	}
	for _, outbox := range flushed.Outboxes {
		if outbox.Length > int64(2*idSize*w.cfg.Layout.FeedLength) {
			w.enqueue(ctx, outbox.Author, false)
		}
	}
}

// giveUp tells everybody that what they wait for may not be in Redis.
func (w *Writer) giveUp(err error) {
	w.mu.Lock()
	waiters := w.backlog.All()
	w.mu.Unlock()
	waiters.Done(err)
}
