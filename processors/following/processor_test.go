package following_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/tables"
	"freshet/processors/following"
	"freshet/processors/processortest"
	"freshet/views"
)

// TestProcessor follows one relation round: the event, the row, the statement, the report, the row again; with records
// in between that cannot be processed, and a row that cannot be read.
func TestProcessor(t *testing.T) {
	const partitions = 4
	c := processortest.Start(t, partitions)
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	write, err := emitters.New(c.Brokers, c.Names, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := write.Close(); err != nil {
			t.Error(err)
		}
	})

	const ada, bob, cyd, broken = freshet.Number(1), freshet.Number(2), freshet.Number(3), freshet.Number(4)
	put := func(topic string, key string, m proto.Message) {
		t.Helper()
		value, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		c.Put(&kgo.Record{Topic: topic, Partition: freshet.PartitionOf(key, partitions), Key: []byte(key), Value: value})
	}
	table := c.Names.Table(freshet.FollowingGroup)
	put(table, broken.Key(), &events.FollowingRow{Accounts: []uint64{1, 2}, Versions: []int64{1}})

	c.Processor(freshet.FollowingGroup, following.New)
	view, err := views.NewFollowing(c.Brokers, c.Names, c.ViewSettings("following"))
	if err != nil {
		t.Fatal(err)
	}
	c.Run("following", view.Run)
	c.Await("following recovered", view.Ready())
	if row, err := view.Row(ada); row != nil || err != nil {
		t.Fatalf("before any event: got %+v, %v", row, err)
	}

	at := time.Now()
	if _, err := write.Relate(ctx, broken, events.FollowEvent_FOLLOW, at, ada); err != nil { // the row cannot be read
		t.Fatal(err)
	}
	put(c.Names.Topic(freshet.Follows), ada.Key(), &events.FollowEvent{Kind: 99, Target: 2})
	put(c.Names.Topic(freshet.Follows), ada.Key(), &events.FollowEvent{Kind: events.FollowEvent_FOLLOW, Target: 1 << 63})
	put(c.Names.Topic(freshet.Applied), "ada", &events.AppliedReport{Followee: uint64(bob)})
	position, err := write.Relate(ctx, ada, events.FollowEvent_FOLLOW, at, cyd, bob)
	if err != nil {
		t.Fatal(err)
	}
	if err := view.AwaitApplied(ctx, ada, position.Offset); err != nil {
		t.Fatal(err)
	}
	row, err := view.Row(ada)
	if err != nil {
		t.Fatal(err)
	}
	if !row.Follows(bob) || !row.Follows(cyd) || row.Count() != 2 || row.Next != position.Offset+1 {
		t.Fatalf("after the follow: %+v", row)
	}

	stated := make(map[string]*events.FollowerState)
	for _, r := range c.Read(c.Names.Topic(freshet.Followers), 2) {
		var m events.FollowerState
		if err := proto.Unmarshal(r.Value, &m); err != nil {
			t.Fatal(err)
		}
		if want := freshet.PartitionOf(string(r.Key), partitions); r.Partition != want {
			t.Errorf("the statement for %s is in partition %d, want %d", r.Key, r.Partition, want)
		}
		stated[string(r.Key)] = &m
	}
	want := &events.FollowerState{Follower: uint64(ada), Follows: true, Version: following.VersionOf(position.Offset)}
	for _, followee := range []freshet.Number{bob, cyd} {
		if !proto.Equal(stated[followee.Key()], want) {
			t.Errorf("stated for %d: %v, want %v", followee, stated[followee.Key()], want)
		}
	}

	put(c.Names.Topic(freshet.Applied), ada.Key(),
		&events.AppliedReport{Followee: uint64(bob), Held: true, Version: following.VersionOf(position.Offset)})
	// A report has no offset in the row that could be waited for.
	awaitRow(ctx, t, view, ada, func(row *freshet.Following) bool {
		r, _ := row.Relation(bob)
		return r.Applied && r.AppliedAt == row.Version
	})

	if _, err := view.Row(broken); err == nil {
		t.Error("a row that cannot be read: want an error, got none")
	}
	letters := c.Read(c.Names.Topic(freshet.DeadLetters), 4)
	from := make(map[string]int)
	for _, letter := range letters {
		for _, h := range letter.Headers {
			if h.Key == kafka.HeaderTopic {
				from[string(h.Value)]++
			}
		}
	}
	if follows, applied := from[c.Names.Topic(freshet.Follows)], from[c.Names.Topic(freshet.Applied)]; follows != 3 ||
		applied != 1 {
		t.Errorf("dead letters: %v, want 3 of follows and 1 of applied", from)
	}
}

// TestReportsAreWrittenOnce: reports that lie ready together change the row once.
func TestReportsAreWrittenOnce(t *testing.T) {
	const many = 500
	const ada, bob = freshet.Number(1), freshet.Number(2)
	c := processortest.Start(t, 1)
	follows, applied := c.Names.Topic(freshet.Follows), c.Names.Topic(freshet.Applied)
	c.Gathered = following.Gathered(c.Names)
	for topic := range c.Gathered {
		c.Gathered[topic] = time.Hour // until a record with headers, which goes alone
	}
	record := func(topic string, key freshet.Number, m proto.Message, headers ...kgo.RecordHeader) *kgo.Record {
		value, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return &kgo.Record{Topic: topic, Key: []byte(key.Key()), Value: value, Headers: headers}
	}
	end := kgo.RecordHeader{Key: "end"}
	var acts, reports []*kgo.Record
	for i := range uint64(many) {
		acts = append(acts, record(follows, ada, &events.FollowEvent{Kind: events.FollowEvent_FOLLOW, Target: 10 + i}))
		reports = append(reports, record(applied, ada, &events.AppliedReport{
			Followee: 10 + i, Held: true, Version: following.VersionOf(int64(i)),
		}))
	}
	// One event in the middle cannot be processed: the others are, and their offsets are still theirs.
	acts[7] = record(follows, ada, &events.FollowEvent{Kind: 99, Target: 17})
	acts = append(acts, record(follows, bob, &events.FollowEvent{Kind: events.FollowEvent_MUTE, Target: 3}, end))
	reports = append(reports, record(applied, bob, &events.AppliedReport{Followee: 3}, end))

	c.Processor(freshet.FollowingGroup, following.New)
	view, err := views.NewFollowing(c.Brokers, c.Names, c.ViewSettings("following"))
	if err != nil {
		t.Fatal(err)
	}
	c.Run("following", view.Run)
	c.Await("following recovered", view.Ready())
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	c.Put(acts...)
	if err := view.AwaitApplied(ctx, bob, many); err != nil {
		t.Fatal(err)
	}
	before, err := view.Row(ada)
	if err != nil {
		t.Fatal(err)
	}
	c.Put(reports...)
	awaitRow(ctx, t, view, ada, func(row *freshet.Following) bool {
		for i, r := range row.Relations {
			if r.Account == 17 || !r.Follows || r.Version != before.Relations[i].Version || !r.Applied {
				return false
			}
		}
		return row.Count() == many-1
	})
	row, err := view.Row(ada)
	if err != nil {
		t.Fatal(err)
	}
	if row.Version != before.Version+1 {
		t.Errorf("the reports moved the row's version from %d to %d", before.Version, row.Version)
	}
	c.Read(c.Names.Topic(freshet.DeadLetters), 1)
	c.Read(c.Names.Topic(freshet.Followers), many-1)
}

// TestTooLargeRow: a row that Kafka would refuse must not end the processor again and again.
func TestTooLargeRow(t *testing.T) {
	const partitions = 1
	c := processortest.Start(t, partitions)
	row := &freshet.Following{Version: 1, Next: 1}
	for i := range following.MaxRow - 1 {
		row.Muted = append(row.Muted, freshet.Number(i+10))
	}
	data, err := following.Table{}.Encode(row)
	if err != nil {
		t.Fatal(err)
	}
	c.Put(&kgo.Record{Topic: c.Names.Table(freshet.FollowingGroup), Key: []byte("1"), Value: data},
		&kgo.Record{Topic: c.Names.Topic(freshet.Follows), Key: []byte("9")}) // offset 0: nothing
	write, err := emitters.New(c.Brokers, c.Names, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := write.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	if _, err := write.Relate(ctx, 1, events.FollowEvent_FOLLOW, time.Now(), 2, 3); err != nil {
		t.Fatal(err)
	}
	last, err := write.Relate(ctx, 1, events.FollowEvent_FOLLOW, time.Now(), 2)
	if err != nil {
		t.Fatal(err)
	}
	c.Processor(freshet.FollowingGroup, following.New)
	view, err := views.NewFollowing(c.Brokers, c.Names, c.ViewSettings("following"))
	if err != nil {
		t.Fatal(err)
	}
	c.Run("following", view.Run)
	c.Await("following recovered", view.Ready())
	if err := view.AwaitApplied(ctx, 1, last.Offset); err != nil {
		t.Fatal(err)
	}
	got, err := view.Row(1)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Follows(2) || got.Follows(3) {
		t.Errorf("follows 2: %v, 3: %v; want the smaller event alone", got.Follows(2), got.Follows(3))
	}
}

func awaitRow(
	ctx context.Context, t *testing.T, view *views.Following, n freshet.Number, shown func(*freshet.Following) bool,
) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		row, err := view.Row(n)
		if err != nil {
			t.Fatal(err)
		}
		if shown(row) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the row of %d is still %+v", n, row)
		}
	}
}

// What a tree has forgotten it is told again, without an event and without a report.
func TestRowsAreSwept(t *testing.T) {
	c := processortest.Start(t, 2)
	turns, err := kafka.NewEmitter(c.Brokers, "turns", c.Config, c.Names.Loop(freshet.FollowingGroup), following.LoopCodec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := turns.Finish(); err != nil {
			t.Error(err)
		}
	})
	c.Sweeper = func(table tables.Holder) *kafka.Sweeper {
		return &kafka.Sweeper{
			Every: 20 * time.Millisecond, Slices: 2, Keys: table.Keys, Logger: c.Logger(),
			Send: func(key string) (*goka.Promise, error) { return turns.Emit(key, following.Turn()) },
		}
	}
	write, err := emitters.New(c.Brokers, c.Names, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := write.Close(); err != nil {
			t.Error(err)
		}
	})
	c.Processor(freshet.FollowingGroup, following.New)
	if _, err := write.Relate(t.Context(), 1, events.FollowEvent_FOLLOW, time.Now(), 2); err != nil {
		t.Fatal(err)
	}
	var first []byte
	for i, r := range c.Read(c.Names.Topic(freshet.Followers), 3) {
		if first == nil {
			first = r.Value
		}
		if string(r.Key) != "2" || !bytes.Equal(r.Value, first) {
			t.Errorf("statement %d is %x for %s, want %x for 2", i, r.Value, r.Key, first)
		}
	}
}
