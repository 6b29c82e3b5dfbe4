package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

const (
	// clockSkew is by how much the clocks of API processes, which stamp ids and records, may differ.
	clockSkew = 30 * time.Second
	// treeLevels is how often the ends of the loop are waited for: a tree of eight levels below its root holds more than
	// there are people.
	treeLevels = 8
	// flushTimeout bounds the wait for a level.
	flushTimeout = time.Minute
)

// ErrStalled is wrapped by the error for a fan-out that does not get on: what it has begun to deliver cannot be judged.
var ErrStalled = errors.New("fan-out does not get on; freshet offsets list shows where it stands")

// flushed is the posts that are in Redis as far as they will ever be: in the outbox of their author and in the feeds of
// those who followed it. It is not changed.
type flushed struct {
	below  freshet.PostID // all ids below are
	recent map[freshet.PostID]struct{}
	// ends are the committed offsets of posts from which this was found out.
	ends map[int32]int64
}

func (f flushed) has(id freshet.PostID) bool {
	if id < f.below {
		return true
	}
	_, ok := f.recent[id]
	return ok
}

// flushed finds out what is flushed now. A post that was published and is not among it is on its way.
func (s *Sources) flushed(ctx context.Context) (flushed, error) {
	topic, loop := s.cfg.Names.Topic(freshet.Posts), s.cfg.Names.Loop(freshet.FanoutGroup)
	now := time.Now()
	ends, err := s.ends(ctx, topic)
	if err != nil {
		return flushed{}, err
	}
	f := flushed{recent: map[freshet.PostID]struct{}{}}
	if f.ends, err = s.committed(ctx, topic); err != nil {
		return f, err
	}
	low := now
	for partition, end := range ends {
		if f.ends[partition] >= end {
			continue
		}
		next, err := s.record(ctx, topic, partition, f.ends[partition])
		if err != nil {
			return f, err
		}
		if next.Time.Before(low) {
			low = next.Time
		}
	}
	low = low.Add(-emitters.ProduceTimeout - clockSkew)
	f.below = freshet.FirstPostID(low)
	if err := s.recentPosts(ctx, topic, low.Add(-clockSkew), f); err != nil {
		return f, err
	}
	return f, s.awaitLoop(ctx, loop)
}

// recentPosts reads which posts were created, from a time on, below the committed offsets.
func (s *Sources) recentPosts(ctx context.Context, topic string, since time.Time, f flushed) error {
	from, err := s.lookup.Since(ctx, topic, since)
	if err != nil {
		return err
	}
	return s.span(ctx, topic, from, f.ends, func(r kafka.Fetched) {
		var e events.PostEvent
		if proto.Unmarshal(r.Value, &e) == nil && e.GetKind() == events.PostEvent_CREATED {
			f.recent[freshet.PostID(e.GetId())] = struct{}{}
		}
	})
}

// awaitLoop waits until what the nodes of trees have handed to each other by now is flushed, level after level.
func (s *Sources) awaitLoop(ctx context.Context, loop string) error {
	before := int64(-1)
	for range treeLevels {
		ends, err := s.ends(ctx, loop)
		if err != nil {
			return err
		}
		total := int64(0)
		for _, end := range ends {
			total += end
		}
		if total == before {
			return nil // nothing went further down
		}
		before = total
		if err := s.awaitCommitted(ctx, loop, ends); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sources) awaitCommitted(ctx context.Context, topic string, ends map[int32]int64) error {
	deadline := time.Now().Add(flushTimeout)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		committed, err := s.committed(ctx, topic)
		if err != nil {
			return err
		}
		behind := int64(0)
		for partition, end := range ends {
			behind += max(0, end-committed[partition])
		}
		if behind == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d messages of %s are not flushed after %s: %w", behind, topic, flushTimeout, ErrStalled)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
