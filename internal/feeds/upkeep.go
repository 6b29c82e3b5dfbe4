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

// askedAgain is in how many parts of the limit a log that has passed it grows on until it is asked for again.
const askedAgain = 4

// outgrown says whether an append that made a log so long has brought it past the limit, or past a further part of it.
// Redis carries appends out one after another, so of all writers one finds this of each such length, and the others
// leave the log to it: of several that read it only one could write. If that compaction fails, or nobody is left to do
// it, the log grows by another part, and one asks again.
func outgrown(length int64, appended, limit int) bool {
	return partsPast(length, limit) > partsPast(length-int64(appended), limit)
}

// partsPast is how many lengths at which a log is asked for are below its own.
func partsPast(length int64, limit int) int64 {
	past := length - int64(limit)
	if past <= 0 {
		return 0
	}
	part := int64(max(1, limit/askedAgain))
	return (past + part - 1) / part
}

// enqueue asks the compactors for a block or an author. What finds no room comes again when the log has grown by
// another part, or with the author's next post, unless it is urgent.
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
				w.cfg.Logger.Debug("not compacted; it is asked for again when it has grown", "error", err)
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
