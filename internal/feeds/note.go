package feeds

import (
	"context"

	"freshet/internal/crash"
)

// note writes the watermarks and releases what they pass; when nothing has moved, it only looks whether something is
// lost.
func (w *Writer) note(ctx context.Context) {
	session, offsets := w.cfg.Inputs.Finished()
	if session == 0 {
		return // nothing is open yet, or nobody has anything to lose
	}
	w.session = session
	marks := w.moved(offsets)
	noted, err := w.flusher.Note(ctx, int64(session), marks)
	switch {
	case err != nil:
		w.fail(err)
		w.mend(ctx, newPause())
	case noted && len(marks) > 0:
		crash.At(crash.Noted)
		w.noted = offsets
		w.cfg.Inputs.Release(session, offsets)
	}
}

// moved is those of the offsets that the zones do not have yet: with many partitions and zones, most of the work of a
// note is what has not changed.
func (w *Writer) moved(offsets map[Input]int64) map[Input]int64 {
	if w.noted == nil {
		return offsets
	}
	moved := map[Input]int64{}
	for input, offset := range offsets {
		if before, ok := w.noted[input]; !ok || before != offset {
			moved[input] = offset
		}
	}
	return moved
}
