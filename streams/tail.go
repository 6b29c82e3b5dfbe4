package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"freshet"
	"freshet/internal/kafka"
	"freshet/internal/pause"
	"freshet/views"
)

const (
	// gatherFor is how long records are gathered that may belong together. Brokers answer one by one, so of two posts by
	// different authors the later one may be read first; if it is not later than this, they are put in order.
	gatherFor = 20 * time.Millisecond
	// mostOfRound bounds the records of a round.
	mostOfRound = 4096
	// fillFrom is how far back the ring is filled when the process starts, so that those who come back from another
	// process or an earlier run are served from it.
	fillFrom = 5 * time.Minute
	// While readers do not find what the log says they are asked again, this often and then ever more rarely.
	firstPause, lastPause = 10 * time.Millisecond, time.Second
	// editPatience is how long an edit is waited for whose post is in neither Redis nor, yet, the post store.
	editPatience = 2 * time.Second
)

// Run reads the posts topic until ctx ends, for as long as it takes.
func (h *Hub) Run(ctx context.Context) error {
	defer h.Drain()
	lookup, err := kafka.NewLookup(h.cfg.Brokers, h.cfg.Client...)
	if err != nil {
		return err
	}
	defer lookup.Close()
	var from, ends map[int32]int64
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		if from, ends, err = h.begin(ctx, lookup); err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		h.log.Warn("the streams do not know where the log of posts ends, trying again", "error", err)
		if pause.For(ctx, wait) != nil {
			return nil
		}
	}
	reader, err := kafka.OpenReader(h.cfg.Brokers, h.cfg.Topic, from, h.cfg.Client...)
	if err != nil {
		return err
	}
	defer reader.Close()
	h.start(from)
	for !h.reached(ends) {
		h.step(ctx, reader)
		if ctx.Err() != nil {
			return nil
		}
	}
	close(h.ready)
	var others sync.WaitGroup
	others.Go(func() { h.catchUp(ctx) })
	others.Go(func() { h.settle(ctx) })
	defer others.Wait()
	for ctx.Err() == nil {
		h.step(ctx, reader)
	}
	return nil
}

// begin finds where to read from, and where the log ends.
func (h *Hub) begin(ctx context.Context, lookup *kafka.Lookup) (from, ends map[int32]int64, err error) {
	if from, err = lookup.Since(ctx, h.cfg.Topic, time.Now().Add(-fillFrom)); err != nil {
		return nil, nil, err
	}
	found, err := lookup.Ends(ctx, h.cfg.Topic)
	if err != nil {
		return nil, nil, err
	}
	ends = make(map[int32]int64, len(found))
	for at, end := range found {
		ends[at.Partition] = end
		from[at.Partition] = min(end, max(from[at.Partition], end-int64(h.cfg.Ring)/int64(h.cfg.Partitions)))
	}
	if len(ends) != int(h.cfg.Partitions) || len(from) != len(ends) {
		return nil, nil, fmt.Errorf("%s has %d partitions, want %d", h.cfg.Topic, len(ends), h.cfg.Partitions)
	}
	return from, ends, nil
}

func (h *Hub) start(from map[int32]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next = make(Position, h.cfg.Partitions)
	for partition, offset := range from {
		h.next[partition] = offset
	}
	h.ring = newRing(h.cfg.Ring, slices.Clone(h.next))
	h.mark = markAt(h.next)
}

// reached says whether everything of before the ends was handed out.
func (h *Hub) reached(ends map[int32]int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for partition, end := range ends {
		if h.next[partition] < end {
			return false
		}
	}
	return true
}

// step reads a round and hands it out.
func (h *Hub) step(ctx context.Context, reader *kafka.Reader) {
	records, err := reader.Poll(ctx, mostOfRound)
	if len(records) > 0 {
		gathering, cancel := context.WithTimeout(ctx, gatherFor)
		for gathering.Err() == nil && len(records) < mostOfRound {
			more, failed := reader.Poll(gathering, mostOfRound-len(records))
			records, err = append(records, more...), errors.Join(err, failed)
		}
		cancel()
	}
	if err != nil && ctx.Err() == nil {
		h.log.Warn("the log of posts cannot be read everywhere, trying again", "error", err)
		if len(records) == 0 {
			_ = pause.For(ctx, lastPause) // the loop looks whether ctx has ended
		}
	}
	if len(records) > 0 {
		h.round(ctx, records)
	}
}

// round hands records out. What readers do not find yet is held, and with it the streams that want it; the round waits
// only when nothing can be looked up, or too much is held.
func (h *Hub) round(ctx context.Context, records []kafka.Fetched) {
	entries := h.entries(records)
	if len(entries) == 0 {
		return
	}
	h.read.Add(int64(len(entries)))
	told := make([]*slot, len(entries)) // what is known of them; nil: nothing, or that there is nothing to tell
	known := make([]bool, len(entries))
	for wait := firstPause; ; {
		err := h.refreshAll()
		if err == nil {
			open := h.handOut(entries, told, known)
			if len(open) == 0 {
				if h.noted.Load() > 0 {
					h.delay.Store(int64(time.Since(entries[len(entries)-1].at)))
				}
				return
			}
			var left int
			left, err = h.look(ctx, entries, open, told, known)
			if err == nil && (left == 0 || h.hold(entries, open, told, known)) {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if wait == firstPause {
			h.waiting.Add(int64(len(entries)))
		}
		if err != nil && wait >= lastPause {
			h.log.Warn("streams wait for what cannot be read now", "error", err)
		}
		if pause.For(ctx, wait) != nil {
			return
		}
		wait = min(2*wait, lastPause)
	}
}

// entries are the records in the order in which they are handed out. A hole in a partition, where records were removed
// before they were read, is told to all streams.
func (h *Hub) entries(records []kafka.Fetched) []entry {
	next := slices.Clone(h.next) // nobody else writes it
	entries := make([]entry, 0, len(records))
	hole := false
	for _, r := range records {
		if r.Offset < next[r.Partition] {
			continue // known
		}
		if r.Offset > next[r.Partition] {
			hole = true
			h.log.Warn("records of posts were removed before the streams had them", "partition", r.Partition,
				"from", next[r.Partition], "to", r.Offset)
			next[r.Partition] = r.Offset
		}
		next[r.Partition]++
		e, err := parse(r)
		if err != nil {
			h.log.Warn("streams pass over a record that cannot be read", "error", err)
		}
		entries = append(entries, e)
	}
	if hole {
		h.lose(next)
	}
	return inOrder(entries)
}

// lose has all streams told to read their feeds anew, for records of before a position are lost.
func (h *Hub) lose(next Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ring = newRing(len(h.ring.refs), slices.Clone(next))
	h.next = slices.Clone(next)
	h.mark = markAt(next)
	for _, streams := range h.byAccount {
		for _, s := range streams {
			s.lost = true
			s.rouse()
		}
	}
}

// handOut gives the entries to the streams that follow their authors, if all is known that is needed; else it returns
// those of which more has to be known, and nothing has happened.
func (h *Hub) handOut(entries []entry, told []*slot, known []bool) (open []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range entries {
		if !known[i] && entries[i].kind != 0 && len(h.byAuthor[entries[i].author]) > 0 {
			open = append(open, i)
		}
	}
	if len(open) > 0 {
		return open
	}
	next := slices.Clone(h.next)
	for i := range entries {
		next[entries[i].partition] = entries[i].offset + 1
		h.ring.push(entries[i].ref)
	}
	h.next, h.mark = next, &Mark{Position: next}
	for i, e := range told {
		if e == nil {
			continue
		}
		if e.held != nil {
			h.held = append(h.held, e.held)
			select {
			case h.holds <- struct{}{}:
			default:
			}
		}
		for _, s := range h.byAuthor[entries[i].author] {
			s.give(e)
		}
	}
	return nil
}

// look finds out about open entries, and returns how many are left of which nothing is known yet.
func (h *Hub) look(
	ctx context.Context, entries []entry, open []int, told []*slot, known []bool,
) (left int, err error) {
	refs := make([]ref, len(open))
	for i, n := range open {
		refs[i] = entries[n].ref
	}
	found, err := h.find(ctx, refs)
	if err != nil {
		return len(open), err
	}
	for i, n := range open {
		switch f := found[i]; {
		case !f.known:
			left++
		case f.event != nil:
			told[n] = &slot{event: f.event}
		}
		known[n] = found[i].known
	}
	return left, nil
}

// finding is what readers find of a record.
type finding struct {
	known  bool
	event  *Event // nil: there is nothing to tell
	well   bool   // of one that is not known: the post is not deleted, and its author is known
	author freshet.AccountID
}

// find looks up what records are about, the way that pages do.
func (h *Hub) find(ctx context.Context, refs []ref) ([]finding, error) {
	found := make([]finding, len(refs))
	var asked []views.Record
	var places []int
	for i, r := range refs {
		author, known, err := h.cfg.Accounts.ByNumber(r.author)
		if err != nil {
			return nil, err
		}
		kind := freshet.PostEventKind(r.kind)
		switch {
		case kind == freshet.PostDeleted:
			post := freshet.Post{ID: r.post, Author: r.author}
			found[i] = finding{known: true, event: &Event{Kind: kind, Post: post, Author: author.ID}}
		case known: // else it has yet to come to this process
			found[i].author = author.ID
			asked = append(asked, views.Record{
				Post: r.post, Partition: r.partition, Offset: r.offset, Created: kind == freshet.PostCreated,
			})
			places = append(places, i)
		}
	}
	if len(asked) == 0 {
		return found, nil
	}
	looks, err := h.cfg.Feeds.Look(ctx, asked)
	if err != nil {
		return nil, err
	}
	for i, l := range looks {
		f, kind := &found[places[i]], freshet.PostEventKind(refs[places[i]].kind)
		switch l.Sight {
		case views.Shown:
			f.known, f.event = true, &Event{Kind: kind, Post: l.Post, Author: f.author}
		case views.Gone:
			f.known = true
		case views.Later:
			f.well = l.Well
		}
	}
	return found, nil
}
