package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"freshet/internal/kafka"
	"freshet/internal/pause"
)

const (
	// replaysAtOnce is how many streams read the log at the same time; others wait.
	replaysAtOnce = 4
	// mostReplayed bounds the records that are read for one stream that comes back, and replayTimeout the time: a few
	// seconds of one core. Reading the feed anew is less than more of them.
	mostReplayed  = 1 << 20
	replayTimeout = 30 * time.Second
	// mostPast bounds the events of the past that a stream tells.
	mostPast = 10_000
	// pastAtOnce is how many posts are looked up at once.
	pastAtOnce = 128
)

// past is what a stream that begins in the past has yet to tell.
type past struct {
	position Position // everything below has been told
	pending  []ref    // in order
	then     Position // the position when pending has been told
	scanned  uint64   // the ring has been looked through up to here
}

// errPast says that the past cannot be told.
var errPast = errors.New("what the stream has missed cannot be told")

// resume tells a part of the past, or makes the stream live.
func (s *Stream) resume(ctx context.Context, wait time.Duration) (Batch, error) {
	if s.hub.ending.Err() != nil {
		return Batch{}, ErrEnding
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.hub.ending, cancel)()
	err := s.collect(ctx, wait)
	switch {
	case ctx.Err() != nil:
		return Batch{}, ctx.Err()
	case errors.Is(err, errPast):
		s.hub.log.Debug("a stream begins anew", "account", s.account, "error", err)
		s.join(true)
		return s.Next(ctx, wait)
	case errors.Is(err, errWait):
		return Batch{}, nil
	case err != nil:
		return Batch{}, err
	case s.past == nil:
		return s.Next(ctx, wait)
	}
	return s.tell(ctx, wait)
}

// join makes the stream live. The hub gives it what it hands out from now on.
func (s *Stream) join(lost bool) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.past, s.live, s.lost = nil, true, s.lost || lost
	s.hub.giveHeld(s)
}

// collect finds what is still to be told; when that is nothing, the stream is live.
func (s *Stream) collect(ctx context.Context, wait time.Duration) error {
	for len(s.past.pending) == 0 {
		if err := s.hub.refresh(s); err != nil {
			return err
		}
		joined, floor, err := s.fromRing()
		if joined || err != nil {
			return err
		}
		if floor != nil {
			if err := s.fromLog(ctx, floor, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// fromRing takes what the ring has. It returns the ring's floor if that is above where the stream is, and makes the
// stream live if it has everything.
func (s *Stream) fromRing() (joined bool, floor Position, err error) {
	h, p := s.hub, s.past
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.lost {
		s.past, s.live = nil, true
		h.giveHeld(s)
		return true, nil, nil
	}
	if !p.position.covers(h.ring.floor) {
		return false, slices.Clone(h.ring.floor), nil
	}
	for n := max(p.scanned, h.ring.first()); n < h.ring.end; n++ {
		r := h.ring.at(n)
		if r.offset < p.position[r.partition] || r.kind == 0 {
			continue
		}
		if _, wants := slices.BinarySearch(s.wants, r.author); wants {
			p.pending = append(p.pending, r)
		}
	}
	if len(p.pending) > mostPast {
		return false, nil, fmt.Errorf("%w: it is %d events", errPast, len(p.pending))
	}
	p.pending = append(p.pending, h.missed(s)...)
	p.scanned, p.then = h.ring.end, h.next
	if len(p.pending) == 0 {
		s.past, s.live = nil, true
		return true, nil, nil
	}
	return false, nil, nil
}

// errWait says that a stream has to wait for others.
var errWait = errors.New("wait")

// fromLog reads what lies between the stream's position and another one.
func (s *Stream) fromLog(ctx context.Context, until Position, wait time.Duration) error {
	h, p := s.hub, s.past
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case h.replays <- struct{}{}:
		defer func() { <-h.replays }()
	case <-waiting.Done():
		return errWait
	}
	h.logs.Add(1)
	reading, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	from := map[int32]int64{}
	var records int64
	for partition, end := range until {
		if at := p.position[partition]; at < end {
			from[int32(partition)] = at
			records += end - at
		}
	}
	if records > mostReplayed {
		return fmt.Errorf("%w: it is %d records behind", errPast, records)
	}
	then := slices.Clone(p.position)
	for partition := range from {
		then[partition] = until[partition]
	}
	if err := h.reachesBack(reading, from); err != nil {
		return err
	}
	entries, err := s.replay(reading, from, until)
	if err != nil {
		return err
	}
	for _, e := range inOrder(entries) {
		p.pending = append(p.pending, e.ref)
	}
	p.then = then
	if len(p.pending) == 0 {
		p.position = p.then
	}
	return nil
}

// reachesBack says whether the log still has what lies behind the positions.
func (h *Hub) reachesBack(ctx context.Context, from map[int32]int64) error {
	lookup, err := kafka.NewLookup(h.cfg.Brokers, h.cfg.Client...)
	if err != nil {
		return err
	}
	defer lookup.Close()
	starts, err := lookup.Starts(ctx, h.cfg.Topic)
	if err != nil {
		return err
	}
	for partition, at := range from {
		if at < starts[partition] {
			return fmt.Errorf("%w: partition %d begins at %d, and it is at %d", errPast, partition, starts[partition], at)
		}
	}
	return nil
}

// replay reads the log and keeps what the stream wants.
func (s *Stream) replay(ctx context.Context, from map[int32]int64, until Position) ([]entry, error) {
	h := s.hub
	h.mu.Lock()
	wants := s.wants
	h.mu.Unlock()
	reader, err := kafka.OpenReader(h.cfg.Brokers, h.cfg.Topic, from, h.cfg.Client...)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var entries []entry
	for len(from) > 0 {
		records, err := reader.Poll(ctx, mostOfRound)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: the log does not answer in time: %w", errPast, ctx.Err())
		}
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			next, open := from[r.Partition]
			if !open || r.Offset < next {
				continue
			}
			if r.Offset > next {
				return nil, fmt.Errorf("%w: records of partition %d from %d to %d are gone", errPast, r.Partition, next, r.Offset)
			}
			if from[r.Partition] = next + 1; next+1 >= until[r.Partition] {
				delete(from, r.Partition)
			}
			e, err := parse(r)
			if err != nil {
				continue // the hub has logged it, or another process's
			}
			if _, found := slices.BinarySearch(wants, e.author); found {
				entries = append(entries, e)
			}
		}
		if len(entries) > mostPast {
			return nil, fmt.Errorf("%w: it is more than %d events", errPast, mostPast)
		}
	}
	return entries, nil
}

// tell looks some of the past up and tells it, when readers find what the records say.
func (s *Stream) tell(ctx context.Context, wait time.Duration) (Batch, error) {
	p := s.past
	refs := p.pending[:min(len(p.pending), pastAtOnce)]
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var found []finding
	for again := firstPause; ; again = min(2*again, lastPause) {
		var err error
		found, err = s.hub.find(waiting, refs)
		if err == nil && s.hub.cfg.Fresh.Err() == nil &&
			!slices.ContainsFunc(found, func(f finding) bool { return !f.known }) {
			break
		}
		if pause.For(waiting, again) != nil {
			return Batch{}, ctx.Err() // the rest of the past is told by a later call
		}
	}
	var events []*Event
	next := slices.Clone(p.position)
	for i, f := range found {
		if f.event != nil {
			events = append(events, f.event)
		}
		next[refs[i].partition] = refs[i].offset + 1
	}
	if p.pending = p.pending[len(refs):]; len(p.pending) == 0 {
		next = slices.Clone(p.then)
	}
	p.position = next
	events, err := s.visible(events)
	return Batch{Events: events, Mark: markAt(next)}, err
}
