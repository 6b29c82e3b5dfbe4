package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/emitters"
	"freshet/internal/embedded"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
	"freshet/internal/pause"
	"freshet/processors/fanout"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

const (
	patience   = 30 * time.Second
	partitions = 2
	beat       = 50 * time.Millisecond
)

var names = freshet.Names{Prefix: "test."}

// cluster is a Kafka with posts in it.
type cluster struct {
	t       *testing.T
	brokers []string
	client  *kgo.Client
	adm     *kadm.Client
}

func start(t *testing.T) *cluster {
	t.Helper()
	broker, err := embedded.StartKafka("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	err = kafka.EnsureTopics(t.Context(), broker.Addrs(), names.TopicSpecs(partitions, freshet.WeekRetention),
		kafka.TopicPolicy{Replication: 1, MinInSync: 1})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &cluster{t, broker.Addrs(), client, kadm.NewClient(client)}
}

// machine is an operator's.
func (c *cluster) machine() *Replayer {
	c.t.Helper()
	r, err := Open(c.t.Context(), Config{
		Brokers: c.brokers, Names: names, Beat: beat, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(r.Close)
	return r
}

// post writes posts with these ids, of the author whose number is the id modulo 10.
func (c *cluster) post(ids ...freshet.PostID) {
	c.t.Helper()
	e, err := emitters.New(c.brokers, names, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, id := range ids {
		_, err := e.Post(c.t.Context(), freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
			ID: id, Author: freshet.Number(id % 10), Text: "a", Visibility: freshet.Public, CreatedAt: time.Now(),
		}})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func idsTo(n int) []freshet.PostID {
	ids := make([]freshet.PostID, n)
	for i := range ids {
		ids[i] = freshet.PostID(i + 1)
	}
	return ids
}

// group stands for fan-out: it processes whatever is in replays.
func (c *cluster) group() {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			ends, err := c.adm.ListEndOffsets(ctx, names.Topic(freshet.Replays))
			if err == nil {
				_ = c.adm.CommitAllOffsets(ctx, names.Group(freshet.FanoutGroup), ends.Offsets()) // again in a moment
			}
			_ = pause.For(ctx, 10*time.Millisecond)
		}
	})
	c.t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

// copies are the offsets in posts of what lies in replays, by partition, each with how often it is there.
func (c *cluster) copies(id string) map[int32]map[int64]int {
	c.t.Helper()
	topic := names.Topic(freshet.Replays)
	ends, err := c.adm.ListEndOffsets(c.t.Context(), topic)
	if err != nil {
		c.t.Fatal(err)
	}
	want := int64(0)
	ends.Each(func(o kadm.ListedOffset) { want += o.Offset })
	found := map[int32]map[int64]int{0: {}, 1: {}}
	if want == 0 {
		return found
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.ConsumeTopics(topic))
	if err != nil {
		c.t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for n := int64(0); n < want; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			offset, err := strconv.ParseInt(headers[fanout.HeaderOffset], 10, 64)
			if err != nil || id != "" && headers[fanout.HeaderReplay] != id {
				c.t.Errorf("a copy with headers %v: %v, want replay %s", headers, err, id)
			}
			if r.Partition != freshet.PartitionOf(string(r.Key), partitions) {
				c.t.Errorf("key %s lies in partition %d", r.Key, r.Partition)
			}
			found[r.Partition][offset]++
		})
	}
	return found
}

func bound(t *testing.T, s string) Bound {
	t.Helper()
	b, err := ParseBound(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func everything(t *testing.T) Spec {
	return Spec{From: bound(t, "1h"), To: At(time.Now().Add(time.Hour))}
}

func begin(t *testing.T, r *Replayer, spec Spec, o Options) State {
	t.Helper()
	s, err := r.Plan(t.Context(), "fanout", spec, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRange(t *testing.T) {
	c := start(t)
	c.group()
	c.post(idsTo(40)...)
	r := c.machine()
	author := freshet.Number(7)
	for _, tt := range []struct {
		name string
		spec Spec
		want int
	}{
		{"all", everything(t), 40},
		{"an author", Spec{From: bound(t, "1h"), To: At(time.Now()), Author: &author}, 4},
		{"posts", Spec{From: bound(t, "post:11"), To: bound(t, "post:15")}, 4},
		{"offsets", Spec{From: bound(t, "2"), To: bound(t, "5")}, 3 * partitions},
		{"offsets of a partition", Spec{From: bound(t, "2"), To: bound(t, "5"), Partitions: []int32{1}}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := c.total()
			s := begin(t, r, tt.spec, Options{})
			s, err := r.Run(t.Context(), s, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if s.Status != Done || s.Copied != int64(tt.want) || c.total()-before != tt.want {
				t.Errorf("%+v; want %d copied, got %d", s, tt.want, c.total()-before)
			}
		})
	}
	for _, tt := range []struct {
		name, from, to, says string
		kind                 error
	}{
		{"backwards", "1h", "2h", "which is after its end", ErrRange},
		{"empty", "5", "5", "the end is not in it", ErrRange},
		{"nothing there", "2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z", "no record of test.posts", ErrRange},
		{"past the end", "5", "5000", "has 0 to", ErrRange},
		{"backwards by posts", "post:9", "post:3", "post:9", ErrRange},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.Plan(t.Context(), "fanout", Spec{From: bound(t, tt.from), To: bound(t, tt.to)}, Options{})
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v that says %q", err, tt.kind, tt.says)
			}
		})
	}
	if _, err := r.Plan(t.Context(), "archive", everything(t), Options{}); err == nil ||
		!strings.Contains(err.Error(), "does not read test.replays") {
		t.Errorf("a group that reads no replays: %v", err)
	}
}

// total is how many records lie in replays.
func (c *cluster) total() int {
	n := 0
	for _, partition := range c.copies("") {
		for _, times := range partition {
			n += times
		}
	}
	return n
}

func TestTruncated(t *testing.T) {
	c := start(t)
	c.group()
	c.post(idsTo(40)...)
	var cut kadm.Offsets
	cut.AddOffset(names.Topic(freshet.Posts), 0, 3, -1)
	if _, err := c.adm.DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	r := c.machine()
	spec := everything(t)
	if _, err := r.Plan(t.Context(), "fanout", spec, Options{}); !errors.Is(err, ErrTruncated) ||
		!strings.Contains(err.Error(), "0 (3 records at most)") {
		t.Errorf("what is gone is not told: %v", err)
	}
	spec.Truncated = true
	s, err := r.Run(t.Context(), begin(t, r, spec, Options{}), Options{})
	if err != nil || s.Copied != 37 || s.Parts[0].Missing != 3 {
		t.Errorf("what is left: %+v, %v", s, err)
	}
}

func TestOneAtATime(t *testing.T) {
	c := start(t)
	c.post(idsTo(10)...)
	first, second := c.machine(), c.machine()
	// Both know that there is none, and only then write.
	for _, r := range []*Replayer{first, second} {
		if _, err := r.States(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a, err := first.Plan(t.Context(), "fanout", everything(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := second.Plan(t.Context(), "fanout", everything(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.states.put(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := second.states.put(t.Context(), b); !errors.Is(err, errConflict) {
		t.Errorf("two begin at the same time: %v", err)
	}
	var busy *BusyError
	if err := second.Start(t.Context(), b); !errors.As(err, &busy) || !strings.Contains(err.Error(), a.ID) {
		t.Errorf("the second is not refused, naming the first, %s: %v", a.ID, err)
	}
	// Compaction keeps the last record: it has to be one that counts.
	third := c.machine()
	if _, err := third.States(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := third.states.last[a.Group]
	if last.ID != a.ID || last.offset != third.states.next-1 {
		t.Errorf("what counts is replay %s at %d of %d, want %s at the end", last.ID, last.offset, third.states.next, a.ID)
	}
}

// A replay is paused from another machine, and goes on there.
func TestPauseAndResume(t *testing.T) {
	c := start(t)
	c.group()
	c.post(idsTo(60)...)
	first, second := c.machine(), c.machine()
	s := begin(t, first, everything(t), Options{Rate: 40})
	copying := make(chan struct{})
	var once sync.Once
	ended := make(chan error, 1)
	go func() {
		_, err := first.Run(context.Background(), s, Options{Progress: func(s State, _ Speed) {
			if s.Copied > 0 {
				once.Do(func() { close(copying) })
			}
		}})
		ended <- err
	}()
	select {
	case <-copying:
	case <-time.After(patience):
		t.Fatal("nothing is copied")
	}
	var busy *BusyError
	if _, err := second.Resume(t.Context(), "fanout", -1); !errors.As(err, &busy) {
		t.Errorf("taken from a process that copies: %v", err)
	}
	if _, err := second.Pause(t.Context(), "fanout"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrStopped) {
		t.Errorf("paused from elsewhere: %v", err)
	}
	paused, err := second.Resume(t.Context(), "fanout", 0)
	if err != nil {
		t.Fatal(err)
	}
	if done, total := paused.Progress(); done == 0 || done == total {
		t.Errorf("%d of %d were copied when it was paused", done, total)
	}
	end, err := second.Run(t.Context(), paused, Options{})
	if err != nil || end.Status != Done {
		t.Errorf("%+v, %v", end, err)
	}
	c.whole(s.ID, 60)
	if _, err := first.Resume(t.Context(), "fanout", -1); !errors.Is(err, ErrNone) {
		t.Errorf("resumed after its end: %v", err)
	}
}

// whole checks that every record was copied.
func (c *cluster) whole(id string, want int) {
	c.t.Helper()
	n := 0
	for _, offsets := range c.copies(id) {
		n += len(offsets)
		for offset := range int64(len(offsets)) {
			if offsets[offset] == 0 {
				c.t.Errorf("offset %d was not copied", offset)
			}
		}
	}
	if n != want {
		c.t.Errorf("%d records were copied, want %d", n, want)
	}
}

// A process that dies without a word leaves a replay that others can take over, and nobody can begin another one.
func TestResumeAfterACrash(t *testing.T) {
	c := start(t)
	c.group()
	c.post(idsTo(30)...)
	dead, alive := c.machine(), c.machine()
	s := begin(t, dead, everything(t), Options{})
	var busy *BusyError
	if err := alive.Start(t.Context(), s); !errors.As(err, &busy) {
		t.Errorf("another one has begun: %v", err)
	}
	began := time.Now()
	taken, err := alive.Resume(t.Context(), "fanout", -1)
	if err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited < beat {
		t.Errorf("it was taken over after %s", waited)
	}
	// The dead one wakes up: what it copies does no harm, and what it notes does not count.
	if _, err := dead.Run(t.Context(), s, Options{}); !errors.Is(err, ErrStopped) {
		t.Errorf("a replay that was taken over goes on: %v", err)
	}
	end, err := alive.Run(t.Context(), taken, Options{})
	if err != nil || end.Status != Done || end.Owner != alive.owner {
		t.Errorf("%+v, %v", end, err)
	}
	c.whole(s.ID, 30)
}

func TestCancel(t *testing.T) {
	c := start(t)
	c.post(idsTo(30)...)
	first, second := c.machine(), c.machine()
	s := begin(t, first, everything(t), Options{})
	if _, err := second.Cancel(t.Context(), "fanout"); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Pause(t.Context(), "fanout"); !errors.Is(err, ErrNone) {
		t.Errorf("paused after it was cancelled: %v", err)
	}
	if _, err := first.Run(t.Context(), s, Options{Ahead: 1}); !errors.Is(err, ErrStopped) {
		t.Errorf("cancelled: %v", err)
	}
	begin(t, second, everything(t), Options{})
}

// When its context ends a replay is paused, and can be resumed.
func TestInterrupted(t *testing.T) {
	c := start(t)
	c.post(idsTo(30)...) // and nobody processes replays, so it cannot end
	r := c.machine()
	ctx, cancel := context.WithCancel(t.Context())
	s := begin(t, r, everything(t), Options{})
	var once sync.Once
	s, err := r.Run(ctx, s, Options{Progress: func(_ State, speed Speed) {
		if speed.Behind == 30 {
			once.Do(cancel)
		}
	}})
	if !errors.Is(err, context.Canceled) || s.Status != Paused {
		t.Errorf("%+v, %v", s, err)
	}
	c.group()
	if s, err = r.Resume(t.Context(), "fanout", -1); err != nil {
		t.Fatal(err)
	}
	if s, err = r.Run(t.Context(), s, Options{}); err != nil || s.Status != Done {
		t.Errorf("%+v, %v", s, err)
	}
	c.whole(s.ID, 30)
}

// shelf is a post store with one author's posts, newest first.
type shelf map[freshet.Number][]freshet.Post

func (s shelf) ByAuthor(_ context.Context, author freshet.Number, before freshet.PostID, limit int) (
	[]freshet.Post, error) {
	var page []freshet.Post
	for _, post := range s[author] {
		if (before == 0 || post.ID < before) && len(page) < limit {
			page = append(page, post)
		}
	}
	return page, nil
}

func TestFromTheStore(t *testing.T) {
	c := start(t)
	c.group()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	store := shelf{}
	for i := range 1200 {
		at := noon.Add(-time.Duration(i) * time.Second)
		store[7] = append(store[7], freshet.Post{ID: freshet.FirstPostID(at), Author: 7, Text: fmt.Sprint(i),
			Visibility: freshet.Public, CreatedAt: at})
	}
	r := c.machine()
	author := freshet.Number(7)
	spec := Spec{
		From: At(noon.Add(-1000 * time.Second)), To: At(noon.Add(-100 * time.Second)), Author: &author, Store: true,
	}
	s, err := r.Run(t.Context(), begin(t, r, spec, Options{}), Options{Store: store})
	if err != nil || s.Copied != 900 || s.Status != Done {
		t.Fatalf("%+v, %v; want 900 posts", s, err)
	}
	spec.From = bound(t, "5")
	if err := spec.Validate(); err == nil {
		t.Error("offsets of the post store")
	}
}

func TestBounds(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]string{
		"2h": "2026-03-01T10:00:00Z", "PT2H": "2026-03-01T10:00:00Z", "2026-03-01T12:00:00+01:00": "2026-03-01T11:00:00Z",
		"post:17": "post:17", "17": "17",
	} {
		b, err := ParseBound(s, now)
		text, _ := b.MarshalText()
		var back Bound
		if err != nil || string(text) != want || back.UnmarshalText(text) != nil || back.String() != want {
			t.Errorf("%s: %s, %v", s, text, err)
		}
	}
	bad := []string{"", "post:", "post:x", "-5", "-2h", "yesterday", "2026-03-01T12:00:00", "12:00"}
	for _, s := range bad {
		if b, err := ParseBound(s, now); err == nil {
			t.Errorf("%q: %s", s, b)
		}
	}
}
