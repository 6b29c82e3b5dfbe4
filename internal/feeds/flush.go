package feeds

import (
	"context"
	"fmt"
	"time"

	"freshet/internal/crash"
)

// flush swaps the batches and writes the full one, however long that takes.
func (w *Writer) flush(ctx context.Context) {
	p := w.swap()
	pause := newPause()
	for {
		flushed, err := w.flusher.Flush(ctx, p.batch)
		if err == nil {
			crash.At(crash.Flushed)
			w.finish(ctx, p, flushed)
			return
		}
		w.fail(err)
		if !w.mend(ctx, p, pause) {
			p.waiters.Done(ErrStopped)
			return
		}
	}
}

// flushOnce is for the end: nobody is there to recover for.
func (w *Writer) flushOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	p := w.swap()
	flushed, err := w.flusher.Flush(ctx, p.batch)
	if err == nil {
		w.finish(ctx, p, flushed)
		return
	}
	p.waiters.Done(fmt.Errorf("%w: %w", ErrStopped, err))
}

func (w *Writer) swap() *pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.filling
	if w.filling, w.spare = w.spare, nil; w.filling == nil { // the last flush was given up
		w.filling = &pending{batch: NewBatch()}
	}
	w.busy = true
	close(w.room)
	w.room = make(chan struct{})
	return p
}

func (w *Writer) finish(ctx context.Context, p *pending, flushed Flushed) {
	w.mu.Lock()
	w.busy, w.failure = false, nil
	w.mu.Unlock()
	p.waiters.Done(nil)
	for i := range flushed.Logs {
		if log := &flushed.Logs[i]; log.Length > int64(w.cfg.LogLimit) {
			w.enqueue(ctx, log.Block, log.Length > int64(w.cfg.LogLimit*longest))
		}
	}
	for _, outbox := range flushed.Outboxes {
		if outbox.Length > int64(2*idSize*w.cfg.Layout.FeedLength) {
			w.enqueue(ctx, outbox.Author, false)
		}
	}
	p.batch.Reset()
	w.mu.Lock()
	w.spare = p
	w.mu.Unlock()
}
