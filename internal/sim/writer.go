package sim

import (
	"context"
	"time"

	"freshet"
	"freshet/internal/feeds"
)

// writer is what stands around feeds.Backlog and feeds.Flusher on a fan-out host: sessions, watermarks.
type writer struct {
	h       *host
	conn    *conn
	flusher *feeds.Flusher
	backlog *feeds.Backlog
	suspect bool
	noteAt  time.Time
	stored  []int64 // by partition of posts: how far the archive was when last asked
}

func newWriter(h *host) {
	w := h.w
	// So few at once that the ring has work of its own in a world of some accounts.
	backlog := feeds.NewBacklog(w.layout, 1+w.rng.IntN(3), 1+w.rng.IntN(3))
	wr := &writer{h: h, backlog: backlog, stored: make([]int64, w.partitions)}
	wr.conn = &conn{c: w.redis, p: h.proc, below: map[freshet.PostID]bool{}}
	wr.flusher = feeds.NewFlusher(wr.conn, w.layout, w.fresh("w"), func() string { return w.fresh("t") })
	h.writer = wr
	w.spawn(h.proc, "writer", wr.run)
	w.spawn(h.proc, "compactor", wr.compact)
}

func (wr *writer) add(d feeds.Delivery, done func()) {
	wr.backlog.Add(background, d, func(error) { done() })
}

func (wr *writer) barrier(done func()) { wr.backlog.Barrier(background, func(error) { done() }) }

func (wr *writer) idle() bool {
	return wr.backlog.Empty() && !wr.suspect && wr.h.sess != nil && wr.h.sess.ready
}

func (wr *writer) run(c *coro) {
	w, h := wr.h.w, wr.h
	for {
		s := h.sess
		switch {
		case s != nil && !s.over && !s.ready:
			wr.open(c, s)
		case wr.suspect:
			wr.recover(c)
		case !wr.backlog.Empty():
			wr.flush()
		case s != nil && s.ready && !s.over && !w.now.Before(wr.noteAt):
			wr.note(s)
		default:
			c.until(func() bool {
				s := h.sess
				return s != nil && !s.over && !s.ready || !wr.backlog.Empty() ||
					s != nil && s.ready && !s.over && !w.now.Before(wr.noteAt)
			})
		}
		if wr.suspect {
			c.pass()
		}
	}
}

func (wr *writer) flush() {
	w := wr.h.w
	ready, next := wr.backlog.Take()
	s := wr.h.sess
	if w.mutated("watermark before the data") && s != nil && s.ready && !s.over && (w.scene != nil || w.chance(3)) {
		wr.note(s)
	}
	if !ready.Empty() || !next.Empty() {
		if wr.h.zombieTo > 0 {
			w.count("writer: a zombie flushes")
		}
		if _, err := wr.flusher.Flush(background, ready, next); err != nil {
			w.count("writer: a flush fails")
			w.tracef("%s: %v !", wr.h.name, err)
			wr.suspect = true
			return
		}
	}
	if !wr.backlog.Empty() {
		w.count("writer: a flush of a part")
	}
	wr.backlog.Flushed().Done(nil)
}

// positions are what Recover has to know, of the partitions of a session.
func (wr *writer) positions(s *session) feeds.Positions {
	w := wr.h.w
	at := feeds.Positions{Committed: map[feeds.Input]int64{}, Stored: map[int32]int64{}}
	for _, p := range s.parts {
		for _, t := range w.redisTopics() {
			at.Committed[feeds.Input{Topic: t.name, Partition: int32(p.number)}] = w.fanout.committedOf(t, p.number)
		}
	}
	wr.askArchive()
	for p, offset := range wr.stored {
		at.Stored[int32(p)] = offset
	}
	return at
}

func (wr *writer) askArchive() {
	progress, err := wr.h.w.store.Progress(background)
	if err != nil {
		return
	}
	for p := range wr.stored {
		wr.stored[p] = progress[int32(p)].Offset
	}
}

func (w *world) redisTopics() []*topic { return []*topic{w.posts, w.replays, w.loop} }

func (w *world) ends(context.Context) (map[feeds.Input]int64, error) {
	ends := map[feeds.Input]int64{}
	for _, t := range w.redisTopics() {
		for p := range w.partitions {
			ends[feeds.Input{Topic: t.name, Partition: int32(p)}] = t.end(p)
			w.current.pass()
		}
	}
	return ends, nil
}

// open recovers for a session that is about to begin.
func (wr *writer) open(c *coro, s *session) {
	w := wr.h.w
	at, began := wr.positions(s), w.step
	c.pass()
	d, err := wr.flusher.Recover(background, s.number-1, at, w.ends)
	if err != nil {
		w.tracef("%s: %v !", wr.h.name, err)
		c.pass()
		return
	}
	wr.suspect = false
	wr.decided(began, d)
	back := d.Back
	for input, offset := range s.seek {
		if to, ok := back[input]; ok {
			back[input] = min(to, offset)
		}
	}
	if !w.mutated("do not go back") {
		s.prepare(back)
	} else {
		s.prepare(nil)
	}
}

// recover is for a session that runs, after a failure.
func (wr *writer) recover(c *coro) {
	w, s := wr.h.w, wr.h.sess
	if s == nil || s.over {
		c.until(func() bool { return wr.h.sess != nil && !wr.h.sess.over })
		return
	}
	before := s.finished()
	at, began := wr.positions(s), w.step
	c.pass()
	drop := s.number
	if w.mutated("positions of old sessions noted") {
		drop = 0
	}
	d, err := wr.flusher.Recover(background, drop, at, w.ends)
	if err != nil {
		w.tracef("%s: %v !", wr.h.name, err)
		c.pass()
		return
	}
	wr.suspect = false
	wr.decided(began, d)
	again := d.Again()
	if w.mutated("another writer's recovery ignored") {
		again = len(d.Lost) > 0
	}
	if !again || w.mutated("do not go back") {
		return
	}
	if w.mutated("positions of old sessions noted") {
		_, _ = wr.flusher.Note(background, s.number, before)
	}
	s.seek = d.Back
	if wr.h.sess != s || s.over {
		return // the next session goes back anyway
	}
	if wr.h.zombieTo > 0 {
		return // nobody seeks for it; it goes on as it is
	}
	w.tracef("%s goes back !", wr.h.name)
	wr.h.g.rebalance()
}

func (wr *writer) decided(began int, d feeds.Decision) {
	w := wr.h.w
	if len(d.Lost) > 0 {
		w.count("recovery: a loss is noticed")
		w.tracef("%s finds zones %v lost, back to %v !", wr.h.name, d.Lost, d.Back)
	}
	if d.Changed {
		w.count("recovery: another writer has recovered")
	}
	w.truth.decided(wr.h, began, d)
}

// finished is how far each input that writes to Redis is finished.
func (s *session) finished() map[feeds.Input]int64 {
	marks := map[feeds.Input]int64{}
	if !s.ready {
		return marks
	}
	for _, p := range s.parts {
		for _, in := range p.inputs {
			if s.h.w.isRedisTopic(in.topic) {
				marks[feeds.Input{Topic: in.topic.name, Partition: int32(p.number)}] = in.tracker.Finished()
			}
		}
	}
	return marks
}

func (w *world) isRedisTopic(t *topic) bool { return t == w.posts || t == w.replays || t == w.loop }

func (wr *writer) note(s *session) {
	w := wr.h.w
	wr.noteAt = w.now.Add(time.Duration(200+w.rng.IntN(800)) * time.Millisecond)
	marks := s.finished()
	if w.mutated("watermark before the data") {
		for _, p := range s.parts {
			for _, in := range p.inputs {
				if w.isRedisTopic(in.topic) {
					marks[feeds.Input{Topic: in.topic.name, Partition: int32(p.number)}] = in.next
				}
			}
		}
	}
	began := w.step
	noted, err := wr.flusher.Note(background, s.number, marks)
	if err != nil {
		w.tracef("%s: %v !", wr.h.name, err)
		wr.suspect = true
		return
	}
	if !noted {
		return
	}
	w.truth.verifiedSince(wr.h, began)
	w.count("writer: watermarks noted")
	for _, p := range s.parts {
		for _, in := range p.inputs {
			if upTo, ok := marks[feeds.Input{Topic: in.topic.name, Partition: int32(p.number)}]; ok {
				in.tracker.Watermark(upTo)
				in.moved()
			}
		}
	}
	wr.askArchive()
}

// compact runs beside the flushes: blocks and outboxes in any order.
func (wr *writer) compact(c *coro) {
	w := wr.h.w
	for {
		c.until(func() bool { return w.scene == nil && (w.rng.IntN(150) < w.rates["compaction"] || w.chance(400)) })
		account := w.someone()
		if w.chance(4) {
			if err := w.layout.TrimOutbox(background, wr.conn, account); err == nil {
				w.count("compaction: an outbox trimmed")
			}
			continue
		}
		oldest := feeds.DayOf(w.now) - 14
		found, err := w.layout.CompactBlock(background, wr.conn, account.Block(), oldest, w.fresh("g"))
		if err != nil {
			continue
		}
		if found.Entries > 0 {
			w.count("compaction: entries merged")
		}
		if found.Dropped > 0 {
			w.count("compaction: entries of cold accounts dropped")
		}
		if found.Corrupt != nil {
			w.count("compaction: a corrupt value healed")
		}
	}
}
