package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var posts0 = TopicPartition{"posts", 0}

func TestSeekWithoutStopping(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts")
	c.write("posts", 0, 100)
	g := c.group("g", nil)
	var s seen
	r := c.start(g, "g", edges(textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) })))
	c.awaitCommitted("g", "posts", 0, 100)
	began := time.Now()
	g.Seek(map[TopicPartition]int64{posts0: 40})
	await(t, "60 messages again", func() bool { return s.total.Load() == 160 })
	t.Logf("60 messages replayed %s after the call", time.Since(began))
	if s.times("posts", 0, 39) != 1 || s.times("posts", 0, 40) != 2 {
		t.Error("the replay does not begin at 40")
	}
	c.awaitCommitted("g", "posts", 0, 100)
	if !r.alive() {
		t.Error("the processor has stopped")
	}
}

func TestSeekAndWait(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts")
	c.write("posts", 0, 10)
	g := c.group("g", nil)
	var s seen
	r := c.start(g, "g", edges(textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) })))
	c.awaitCommitted("g", "posts", 0, 10)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.SeekAndWait(ctx, map[TopicPartition]int64{posts0: 6}); err != nil {
		t.Errorf("down: %v", err)
	}
	await(t, "4 messages again", func() bool { return s.total.Load() == 14 })
	var notOwned *NotOwnedError
	elsewhere := TopicPartition{"posts", 7}
	if err := g.SeekAndWait(ctx, map[TopicPartition]int64{posts0: 0, elsewhere: 0}); !errors.As(err, &notOwned) ||
		!slices.Equal(notOwned.Partitions, []TopicPartition{elsewhere}) {
		t.Errorf("a partition that it does not own: %v", err)
	}
	var outOfRange *OutOfRangeError
	if err := g.SeekAndWait(ctx, map[TopicPartition]int64{posts0: 11}); !errors.As(err, &outOfRange) ||
		outOfRange.Offset != 11 || outOfRange.End != 10 {
		t.Errorf("beyond the end: %v", err)
	}
	c.awaitCommitted("g", "posts", 0, 10)
	if !r.alive() {
		t.Fatal("the processor has stopped")
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	late, cancelLate := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancelLate()
	if err := g.SeekAndWait(late, map[TopicPartition]int64{posts0: 0}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while nothing runs: %v", err)
	}
}

// oneSetup is a sarama handler that looks around in Setup, and stops there.
type oneSetup struct{ setup func() }

var errKilled = errors.New("killed")

func (h oneSetup) Setup(sarama.ConsumerGroupSession) error   { h.setup(); return errKilled }
func (h oneSetup) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h oneSetup) ConsumeClaim(sarama.ConsumerGroupSession, sarama.ConsumerGroupClaim) error {
	return nil
}

// A process that dies after a seek was applied and before anything was processed leaves the seek behind it.
func TestSeekSurvivesAKill(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts")
	c.write("posts", 0, 10)
	var s seen
	edge := edges(textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) }))
	r := c.start(c.group("g", nil), "g", edge)
	c.awaitCommitted("g", "posts", 0, 10)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	dying := c.group("g", nil)
	dying.Seek(map[TopicPartition]int64{posts0: 3})
	member, err := dying.Builder()(c.brokers, "g", "g")
	if err != nil {
		t.Fatal(err)
	}
	inSetup := int64(-2)
	err = member.Consume(context.Background(), []string{"posts"},
		oneSetup{func() { inSetup = c.committed("g", "posts", 0) }})
	if !errors.Is(err, errKilled) || inSetup != 3 {
		t.Errorf("committed %d when goka's Setup ran (%v), want 3", inSetup, err)
	}
	if err := member.Close(); err != nil {
		t.Error(err)
	}
	c.start(c.group("g", nil), "g", edge)
	await(t, "7 messages again", func() bool { return s.total.Load() == 17 })
	if s.times("posts", 0, 3) != 2 || s.times("posts", 0, 2) != 1 {
		t.Error("the successor does not begin at 3")
	}
}

func TestAssignedGoesBackAndNeverAhead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, "posts")
	c.write("posts", 0, 10)
	c.write("posts", 1, 10)
	var s seen
	edge := edges(textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) }))
	var sessions, revoked atomic.Int32
	g := c.group("g", func(cfg *GroupConfig) {
		cfg.Assigned = func(_ context.Context, at map[TopicPartition]int64) (map[TopicPartition]int64, error) {
			session := sessions.Add(1)
			want := map[TopicPartition]int64{posts0: -1, {"posts", 1}: -1} // nothing is committed
			if session == 2 {
				want = map[TopicPartition]int64{posts0: 9, {"posts", 1}: 10} // the seek comes first
			}
			if !maps.Equal(at, want) {
				t.Errorf("session %d is assigned at %v, want %v", session, at, want)
			}
			if session == 1 {
				return map[TopicPartition]int64{posts0: 5}, nil
			}
			return map[TopicPartition]int64{posts0: 8, {"posts", 1}: 12}, nil
		}
		cfg.Revoked = func() { revoked.Add(1) }
	})
	r := c.start(g, "g", edge)
	await(t, "all", func() bool { return s.total.Load() == 20 })
	c.awaitCommitted("g", "posts", 0, 10)
	c.awaitCommitted("g", "posts", 1, 10)
	g.Seek(map[TopicPartition]int64{posts0: 9})
	await(t, "two again", func() bool { return s.times("posts", 0, 8) == 2 && s.times("posts", 0, 9) == 2 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if s.total.Load() != 22 || revoked.Load() != 2 {
		t.Errorf("%d messages, want 22; revoked %d times, want 2", s.total.Load(), revoked.Load())
	}
}

func TestHoldUntil(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "followers", "posts")
	c.write("followers", 0, 5)
	c.write("posts", 0, 5)
	g := c.group("g", func(cfg *GroupConfig) { cfg.HoldUntil = "followers" })
	var d deferrals
	var s seen
	c.start(g, "g", edges(
		textInput("followers", func(ctx goka.Context, _ any) {
			s.add(ctx)
			if ctx.Offset() == 2 {
				d.add(ctx)
			}
		}),
		textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) })))
	await(t, "followers delivered, posts held", func() bool {
		return s.times("followers", 0, 4) == 1 && g.Lag()[posts0].Held
	})
	if n := s.total.Load(); n != 5 {
		t.Errorf("%d messages, want the 5 followers", n)
	}
	d.finish(2)
	await(t, "posts delivered", func() bool { return s.times("posts", 0, 4) == 1 })
	for i, place := range s.inOrder() {
		if (i < 5) != strings.HasPrefix(place, "followers") {
			t.Fatalf("order %v", s.inOrder())
		}
	}
	if g.Lag()[posts0].Held {
		t.Error("still held")
	}
}

func TestWatermarkReleases(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts", "followers")
	var g *Group
	last := make(chan struct{})
	g = c.group("g", func(cfg *GroupConfig) {
		cfg.Watermarked = []string{"posts"}
		cfg.MaxInFlight = 4 // fewer than what waits for the watermark
		cfg.Assigned = func(context.Context, map[TopicPartition]int64) (map[TopicPartition]int64, error) { return nil, nil }
		cfg.Revoked = func() {
			select {
			case <-last: // the owner's last flush
				g.Release(g.Positions())
			default:
			}
		}
	})
	r := c.start(g, "g", edges(
		textInput("posts", func(goka.Context, any) {}), textInput("followers", func(goka.Context, any) {})))
	c.write("posts", 0, 10)
	await(t, "finished", func() bool { return g.Lag()[posts0].Finished == 10 })
	positions := g.Positions()
	if len(positions.Offsets) != 1 || positions.Offsets[posts0] != 10 || positions.Session != g.Session() {
		t.Errorf("positions %+v", positions)
	}
	c.write("followers", 0, 1) // not watermarked, so its commit tells that a commit has been
	c.awaitCommitted("g", "followers", 0, 1)
	if at := c.committed("g", "posts", 0); at != -1 {
		t.Errorf("committed %d before the watermark", at)
	}
	if l := g.Lag()[posts0]; l.Released != 0 || l.Behind != 10 || l.InFlight != 0 {
		t.Errorf("lag %+v", l)
	}
	old := positions
	g.Release(Positions{Session: positions.Session, Offsets: map[TopicPartition]int64{posts0: 6}})
	c.awaitCommitted("g", "posts", 0, 6)

	g.Seek(nil)
	await(t, "a new session", func() bool { return g.Session() > old.Session && g.Lag()[posts0].Finished == 10 })
	g.Release(old)
	if l := g.Lag()[posts0]; l.Released != 6 {
		t.Errorf("the watermark of an old session moved the new one: %+v", l)
	}
	close(last)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if at := c.committed("g", "posts", 0); at != 10 {
		t.Errorf("committed %d after a release in Revoked, want 10", at)
	}
}

// A follow-up runs when the table write of its message is acknowledged, in order, and its message is committed when
// it is acknowledged itself.
func TestFollowUps(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "follows", "g-table")
	c.write("follows", 0, 5)
	g := c.group("g", nil)
	acks := &heldAcks{topic: "g-table"}
	var mu sync.Mutex
	var order []int64
	done := map[int64]func(error){}
	ran := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(order)
	}
	p, err := goka.NewProcessor(c.brokers, goka.DefineGroup("g",
		textInput("follows", func(ctx goka.Context, _ any) {
			ctx.SetValue("row")
			offset := ctx.Offset()
			g.After("follows", 0, offset, func(d func(error)) {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, offset)
				done[offset] = d
			})
		}), goka.Persist(new(codec.String))),
		ProcessorOptions(ProcessorSettings{Config: testConfig, Group: g, Storage: storage.MemoryBuilder(),
			WrapProducer: acks.wrap, Logger: testLogger(t)})...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var result error
	var running sync.WaitGroup
	running.Go(func() { result = RunProcessor(ctx, p, nil) })
	await(t, "tables written", func() bool { return acks.count() == 5 })
	if n := ran(); n != 0 {
		t.Errorf("%d follow-ups before the acknowledgements of the table", n)
	}
	acks.release()
	await(t, "all follow-ups", func() bool { return ran() == 5 })
	mu.Lock()
	if !slices.Equal(order, []int64{0, 1, 2, 3, 4}) {
		t.Errorf("order %v", order)
	}
	for _, offset := range []int64{1, 2, 4} {
		done[offset](nil)
	}
	mu.Unlock()
	at := TopicPartition{"follows", 0}
	if l := g.Lag()[at]; l.Released != 0 || l.Finished != 5 {
		t.Errorf("lag %+v", l)
	}
	mu.Lock()
	done[0](nil)
	mu.Unlock()
	c.awaitCommitted("g", "follows", 0, 3)

	lost := errors.New("broker away")
	mu.Lock()
	done[3](lost)
	mu.Unlock()
	running.Wait()
	if !errors.Is(result, lost) {
		t.Errorf("Run returned %v", result)
	}
	if at := c.committed("g", "follows", 0); at != 3 {
		t.Errorf("committed %d, want 3", at)
	}
}

// A stop does not hang on follow-ups that nobody acknowledges, nor on those that were never started.
func TestStopWithOpenFollowUps(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "follows")
	c.write("follows", 0, 3)
	g := c.group("g", nil)
	var started atomic.Int32
	r := c.start(g, "g", edges(textInput("follows", func(ctx goka.Context, _ any) {
		g.After("follows", 0, ctx.Offset(), func(func(error)) { started.Add(1) })
	})))
	await(t, "started", func() bool { return started.Load() == 3 })
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if at := c.committed("g", "follows", 0); at != -1 {
		t.Errorf("committed %d", at)
	}
	g.After("follows", 0, 0, func(func(error)) { t.Error("a follow-up of an ended session ran") })
}

func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, "posts")
	c.write("posts", 0, 50)
	g := c.group("g", func(cfg *GroupConfig) { cfg.MaxInFlight = 10 })
	var d deferrals
	var total atomic.Int64
	c.start(g, "g", edges(textInput("posts", func(ctx goka.Context, _ any) {
		if ctx.Partition() == 0 {
			d.add(ctx)
		}
		total.Add(1)
	})))
	await(t, "paused at the bound", func() bool { l := g.Lag()[posts0]; return l.Paused && l.InFlight == 10 })
	await(t, "10 callbacks", func() bool { return total.Load() == 10 })
	if l := g.Lag()[posts0]; l.Behind != 50 || l.End != 50 || l.Released != 0 {
		t.Errorf("lag %+v", l)
	}
	c.write("posts", 1, 5) // the other partition goes on
	await(t, "the other partition", func() bool { return total.Load() == 15 })
	d.finish(9) // frees nothing: it is not the oldest
	if l := g.Lag()[posts0]; l.InFlight != 10 {
		t.Errorf("lag %+v", l)
	}
	await(t, "the rest", func() bool { d.finishAll(); return g.Lag()[posts0].Behind == 0 })
	c.awaitCommitted("g", "posts", 0, 50)
}

// A stop does not wait for a coordinator that holds a join back.
func TestStopWhileJoining(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts")
	joining, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() {
			once.Do(func() { close(joining) })
			<-answer
		})
		return nil, nil, false
	})
	r := c.start(c.group("g", nil), "g", edges(textInput("posts", func(goka.Context, any) {})))
	<-joining
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	close(answer)
}

func TestOnlyCanceled(t *testing.T) {
	t.Parallel()
	failed := errors.New("disk full")
	canceled := fmt.Errorf("redis: %w", context.Canceled)
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, true}, {canceled, true}, {failed, false}, {errors.Join(canceled, canceled), true},
		{errors.Join(canceled, failed), false}, {fmt.Errorf("%w and %w", failed, canceled), false},
	} {
		if got := onlyCanceled(c.err); got != c.want {
			t.Errorf("onlyCanceled(%v) = %v", c.err, got)
		}
	}
}
