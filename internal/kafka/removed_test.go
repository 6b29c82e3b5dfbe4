package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kadm"
)

// shortened has a group that has committed ten messages of posts/0 and stopped, while there are twenty, of which those
// below start are removed.
func shortened(t *testing.T, start int64) (*cluster, *seen, []goka.Edge) {
	t.Helper()
	c := newCluster(t, 1, "posts")
	c.write("posts", 0, 10)
	s := &seen{}
	edge := edges(textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) }))
	r := c.start(c.group("g", nil), "g", edge)
	c.awaitCommitted("g", "posts", 0, 10)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	c.write("posts", 0, 10)
	c.remove(start)
	return c, s, edge
}

// remove removes the records of posts/0 below an offset.
func (c *cluster) remove(below int64) {
	c.t.Helper()
	deleted, err := c.adm.DeleteRecords(context.Background(), kadm.Offsets{
		"posts": {0: {Topic: "posts", Partition: 0, At: below}}})
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// A group whose next messages are gone says so, lets somebody make good for them, and goes on with the first that is
// left; not with the last, and not before that has worked.
func TestRemovedRecords(t *testing.T) {
	t.Parallel()
	c, s, edge := shortened(t, 15)
	var mu sync.Mutex
	var told []map[TopicPartition]Gone
	away := errors.New("redis is away")
	g := c.group("g", func(cfg *GroupConfig) {
		cfg.Removed = func(_ context.Context, gone map[TopicPartition]Gone) error {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, maps.Clone(gone))
			if len(told) == 1 {
				return away
			}
			return nil
		}
	})
	if err := c.start(g, "g", edge).wait(); !errors.Is(err, away) {
		t.Fatalf("Run returned %v, want %v", err, away)
	}
	if at := c.committed("g", "posts", 0); at != 10 || s.total.Load() != 10 || g.Removed()["posts"] != 0 {
		t.Errorf("committed %d, %d messages processed, %v counted as removed; want 10, 10 and none", at, s.total.Load(),
			g.Removed())
	}
	c.start(g, "g", edge)
	await(t, "the rest", func() bool { return s.total.Load() == 15 })
	c.awaitCommitted("g", "posts", 0, 20)
	mu.Lock()
	defer mu.Unlock()
	want := map[TopicPartition]Gone{posts0: {10, 15}}
	if !slices.EqualFunc(told, []map[TopicPartition]Gone{want, want}, maps.Equal) {
		t.Errorf("told of %v, want %v twice", told, want)
	}
	if n := g.Removed()["posts"]; n != 5 {
		t.Errorf("%d records are counted as removed, want 5", n)
	}
}

// Assigned may go back to what is no longer there.
func TestGoingBackToRemovedRecords(t *testing.T) {
	t.Parallel()
	c, s, edge := shortened(t, 5)
	g := c.group("g", func(cfg *GroupConfig) {
		cfg.Assigned = func(_ context.Context, at map[TopicPartition]int64) (map[TopicPartition]int64, error) {
			if at[posts0] != 10 {
				t.Errorf("assigned at %v", at)
			}
			return map[TopicPartition]int64{posts0: 2}, nil
		}
	})
	c.start(g, "g", edge)
	await(t, "the rest", func() bool { return s.total.Load() == 25 })
	if n := g.Removed()["posts"]; n != 3 || s.times("posts", 0, 5) != 2 {
		t.Errorf("%d records are counted as removed, want 3; the first that is left was processed %d times", n,
			s.times("posts", 0, 5))
	}
}

// Records that retention removes while a session is behind end that session and not the processor.
func TestRecordsRemovedAhead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts")
	const batches, each, kept = 50, 10, 5
	for range batches {
		c.write("posts", 0, each)
	}
	held, let := make(chan struct{}), make(chan struct{})
	var once sync.Once
	g := c.group("g", func(cfg *GroupConfig) {
		cfg.MaxInFlight = 1
		cfg.Config.Consumer.Fetch.Default, cfg.Config.Consumer.Fetch.Max = 100, 100 // a batch at a time
		cfg.Config.ChannelBufferSize = 1
	})
	var s seen
	r := c.start(g, "g", edges(textInput("posts", func(ctx goka.Context, _ any) {
		once.Do(func() { close(held) })
		<-let
		s.add(ctx)
	})))
	<-held
	c.remove(batches*each - kept)
	close(let)
	c.awaitCommitted("g", "posts", 0, batches*each)
	if !r.alive() {
		t.Error("the processor has ended")
	}
	if n := g.Removed()["posts"]; n == 0 || n+s.total.Load() < batches*each {
		t.Errorf("%d records are counted as removed, %d processed, of %d", n, s.total.Load(), batches*each)
	}
}

// What is never shortened on purpose is not skipped.
func TestRemovedTruth(t *testing.T) {
	t.Parallel()
	c, s, edge := shortened(t, 15)
	g := c.group("g", func(cfg *GroupConfig) { cfg.Truth = []string{"posts"} })
	wantOutOfRange(t, c.start(g, "g", edge), OutOfRangeError{"g", posts0, 10, 15, 20})
	if n := s.total.Load(); n != 10 {
		t.Errorf("%d messages processed, want 10", n)
	}
	g.Seek(map[TopicPartition]int64{posts0: 15})
	c.start(g, "g", edge)
	await(t, "the rest", func() bool { return s.total.Load() == 15 })
}

// A group that has committed more than a partition has, because a broker has lost the end, processes nothing until it
// is told where to go on.
func TestCommittedBeyondTheEnd(t *testing.T) {
	t.Parallel()
	c, s, edge := shortened(t, 0)
	var lost kadm.Offsets
	lost.Add(kadm.Offset{Topic: "posts", Partition: 0, At: 25, LeaderEpoch: -1})
	if err := c.adm.CommitAllOffsets(context.Background(), "g", lost); err != nil {
		t.Fatal(err)
	}
	g := c.group("g", nil)
	wantOutOfRange(t, c.start(g, "g", edge), OutOfRangeError{"g", posts0, 25, 0, 20})
	if at := c.committed("g", "posts", 0); at != 25 || s.total.Load() != 10 {
		t.Errorf("committed %d, %d messages processed, want 25 and 10", at, s.total.Load())
	}
	g.Seek(map[TopicPartition]int64{posts0: 10})
	c.start(g, "g", edge)
	await(t, "the rest", func() bool { return s.total.Load() == 20 })
}

func wantOutOfRange(t *testing.T, r *running, want OutOfRangeError) {
	t.Helper()
	var found *OutOfRangeError
	if err := r.wait(); !errors.As(err, &found) || *found != want {
		t.Errorf("Run returned %v, want %v", err, &want)
	}
}
