package emitters_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/kafka/kafkatest"
	"freshet/processors/processortest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

const partitions = 4

var at = time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)

func open(t *testing.T, c *processortest.Cluster) *emitters.Emitters {
	t.Helper()
	e, err := emitters.New(c.Brokers, c.Names, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// TestRecords writes a record of every kind: it lies where its position says, in the partition of its key, and says
// what it should.
func TestRecords(t *testing.T) {
	c := processortest.Start(t, partitions)
	e := open(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	zero, ada := freshet.Number(0), freshet.Account{ID: "ada", Number: 7, Name: "Ada", Closed: true}
	millis := at.UnixMilli()
	for name, tt := range map[string]struct {
		topic freshet.Topic
		key   string
		write func() (emitters.Position, error)
		want  proto.Message
	}{
		"registration": {
			freshet.Registrations, "ada",
			func() (emitters.Position, error) { return e.Register(ctx, "ada", at, &zero) },
			&events.Registration{At: millis, Replaces: proto.Uint64(0)},
		},
		"profile": {
			freshet.Profiles, "ada",
			func() (emitters.Position, error) { return e.Profile(ctx, ada, at) },
			&events.Profile{Number: 7, Name: "Ada", Closed: true, At: millis},
		},
		"follow": {
			freshet.Follows, "7",
			func() (emitters.Position, error) {
				return e.Relate(ctx, 7, events.FollowEvent_FOLLOW, at, 9)
			},
			&events.FollowEvent{Kind: events.FollowEvent_FOLLOW, Target: 9, At: millis},
		},
		"post": {
			freshet.Posts, "7",
			func() (emitters.Position, error) {
				post := freshet.Post{ID: 5, Author: 7, DeletedAt: at}
				return e.Post(ctx, freshet.PostEvent{Kind: freshet.PostDeleted, Post: post})
			},
			&events.PostEvent{Kind: events.PostEvent_DELETED, Id: 5, Author: 7, At: millis},
		},
		"node start": {
			freshet.NodeStarts, "api-1",
			func() (emitters.Position, error) { return e.NodeStart(ctx, "api-1", at) },
			&events.NodeStart{Host: "api-1", At: millis},
		},
	} {
		t.Run(name, func(t *testing.T) {
			position, err := tt.write()
			if err != nil {
				t.Fatal(err)
			}
			record := c.Read(c.Names.Topic(tt.topic), 1)[0]
			want := emitters.Position{Topic: tt.topic, Partition: record.Partition, Offset: record.Offset, Key: tt.key}
			if position != want {
				t.Errorf("position %s, want %s", position, want)
			}
			if got := freshet.PartitionOf(tt.key, partitions); tt.topic != freshet.NodeStarts && record.Partition != got {
				t.Errorf("partition %d, want %d", record.Partition, got)
			}
			got := tt.want.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(record.Value, got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestAsync keeps more writes in flight than there are places, and gets every outcome.
func TestAsync(t *testing.T) {
	c := processortest.Start(t, partitions)
	e := open(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	const writes = 3000
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = make(map[emitters.Position]bool)
	)
	for i := range writes {
		wg.Add(1)
		targets := []freshet.Number{1, 2, freshet.Number(i)}
		err := e.RelateAsync(ctx, 7, events.FollowEvent_FOLLOW, at, targets, func(p emitters.Position, err error) {
			defer wg.Done()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[p] = true
		})
		if err != nil {
			t.Fatal(err)
		}
		clear(targets) // the write has read them
	}
	wg.Wait()
	if len(seen) != writes {
		t.Errorf("%d positions, want %d", len(seen), writes)
	}
	for i, r := range c.Read(c.Names.Topic(freshet.Follows), writes) {
		var m events.FollowEvent
		if err := proto.Unmarshal(r.Value, &m); err != nil {
			t.Fatal(err)
		}
		if len(m.GetTargets()) != 3 || m.GetTargets()[2] != uint64(i) {
			t.Fatalf("record %d: targets %v", i, m.GetTargets())
		}
	}
}

// TestUnavailable: a write that Kafka does not acknowledge ends when its context does, and says that it may be
// repeated; a record that Kafka never takes does not say so.
func TestUnavailable(t *testing.T) {
	c := processortest.Start(t, partitions)
	e := open(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	_, err := e.Profile(ctx, freshet.Account{ID: "ada", Name: strings.Repeat("a", 2<<20)}, at)
	if err == nil || errors.Is(err, emitters.ErrUnavailable) {
		t.Errorf("a record that is too large: got %v, want an error that no repetition helps", err)
	}

	release := make(chan struct{})
	c.HoldProduce(release)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := e.Register(short, "ada", at, nil); !errors.Is(err, emitters.ErrUnavailable) ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want ErrUnavailable and the context's error", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("giving up took %s", took)
	}
	close(release)
	if r := c.Read(c.Names.Topic(freshet.Registrations), 1)[0]; string(r.Key) != "ada" {
		t.Errorf("got the record of %s", r.Key)
	}
}

func TestPosition(t *testing.T) {
	p := emitters.Position{Topic: freshet.Follows, Partition: 3, Offset: 1 << 40, Key: "7"}
	if got, err := emitters.ParsePosition(p.String()); err != nil || got != p {
		t.Errorf("%s comes back as %+v, %v", p, got, err)
	}
	for _, s := range []string{
		"", "follows", "follows:3:5", "follows:3:5:", "follows:3:5:7:9", "nodes:0:5:7", "follows:-1:5:7", "follows:3:-5:7",
		"follows:3:5e3:7", "follows:2147483648:5:7", "follows:3:9223372036854775808:7", "Follows:3:5:7", " follows:3:5:7",
	} {
		if got, err := emitters.ParsePosition(s); !errors.Is(err, emitters.ErrPosition) {
			t.Errorf("%q: got %+v, %v, want ErrPosition", s, got, err)
		}
	}
}
