package feeds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freshet"
)

// compactors is how many blocks are compacted at a time. One alone would wait for Redis most of the time, behind the
// pipelines of the flushes.
const compactors = 4

// longest is how many times the limit a log may be long before flushing waits for compaction: or a backlog, drained
// faster than its logs can be compacted, would fill Redis.
const longest = 4

// enqueue asks the compactors for a block or an author. What finds no room comes again with the next flush, unless it
// is urgent.
func (w *Writer) enqueue(ctx context.Context, long any, urgent bool) {
	if _, waiting := w.long.LoadOrStore(long, true); waiting {
		return
	}
	if urgent {
		select {
		case w.work <- long:
		case <-ctx.Done():
		}
		return
	}
	select {
	case w.work <- long:
	default:
		w.long.Delete(long)
	}
}

func (w *Writer) compactor(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case long := <-w.work:
			if err := w.compact(ctx, long); err != nil && ctx.Err() == nil {
				w.cfg.Logger.Debug("not compacted; the next flush asks again", "error", err)
			}
			w.long.Delete(long)
		}
	}
}

func (w *Writer) compact(ctx context.Context, long any) error {
	author, isOutbox := long.(freshet.Number)
	if isOutbox {
		err := w.cfg.Layout.TrimOutbox(ctx, w.cfg.Conn, author)
		if errors.Is(err, ErrCorrupt) {
			w.corrupt(fmt.Errorf("the outbox of account %d was given up, and its zone with it: %w", author, err))
		}
		return err
	}
	block, _ := long.(uint64)
	oldest := DayOf(time.Now()) - Day(w.cfg.ColdAfter)
	result, err := w.cfg.Layout.CompactBlock(ctx, w.cfg.Conn, block, oldest, randomName())
	if result.Corrupt != nil {
		w.corrupt(fmt.Errorf("feeds of block %d were made cold: %w", block, result.Corrupt))
	}
	return err
}

func (w *Writer) corrupt(err error) {
	if w.cfg.Corrupt != nil {
		w.cfg.Corrupt(err)
	}
}
