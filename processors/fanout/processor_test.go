package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/embedded"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/tables"
	"freshet/processors/fanout"
	"freshet/processors/processortest"
	"freshet/views"
)

const partitions = 4

// store is a post store that has nothing.
type store struct{}

func (store) Progress(context.Context) (map[int32]posts.Progress, error) { return nil, nil }

type fixture struct {
	*testing.T
	*processortest.Cluster
	conn    *feeds.Redis
	empty   func() // empties Redis
	layout  feeds.Layout
	tables  *tables.Tables
	write   *emitters.Emitters
	health  *kafka.Health
	tree    fanout.Tree
	slack   time.Duration // freshet.PullSlack if 0
	sweep   time.Duration
	stopped func()
}

// newFixture has the test run beside others.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	f := &fixture{
		T: t, Cluster: processortest.Start(t, partitions), layout: feeds.Layout{Zones: 4, FeedLength: 100},
		health: &kafka.Health{}, tree: fanout.Tree{PageSize: 2}, sweep: time.Hour,
	}
	server, err := embedded.StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	f.empty = func() {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if f.conn, err = feeds.Connect(t.Context(), f.layout, []string{server.Addr()}); err != nil {
		t.Fatal(err)
	}
	if f.tables, err = tables.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if f.write, err = emitters.New(f.Brokers, f.Names, f.Config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(f.write.Close(), f.conn.Close(), f.tables.Close()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// start runs a member whose pages hold two followers, so that a few followers are a deep tree.
func (f *fixture) start() {
	f.Helper()
	member, err := fanout.New(fanout.Config{
		Brokers: f.Brokers, Names: f.Names, Conn: f.conn, Layout: f.layout, Store: store{},
		Tree: f.tree, PullSlack: f.slack, Logger: f.Logger(), Health: f.health,
		Settings: kafka.ProcessorSettings{
			Config: f.Config, Logger: f.Logger(),
		},
		Tables: f.tables, Partitions: partitions,
		Sweeper: kafka.Sweeper{Every: f.sweep, Slices: 2},
		Writer:  feeds.WriterConfig{NoteEvery: 20 * time.Millisecond},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.stopped = f.Cluster.Run("fanout", member.Run)
	f.Until("fanout runs", func() bool { ready, _ := f.health.Ready(); return ready })
}

// follow states that these accounts follow the author, or no longer do.
func (f *fixture) follow(author freshet.Number, follows bool, version int64, followers ...freshet.Number) {
	f.Helper()
	var records []*kgo.Record
	for _, follower := range followers {
		value, err := proto.Marshal(&events.FollowerState{Follower: uint64(follower), Follows: follows, Version: version})
		if err != nil {
			f.Fatal(err)
		}
		records = append(records, f.record(freshet.Followers, author, value))
	}
	f.Put(records...)
}

func (f *fixture) record(topic freshet.Topic, author freshet.Number, value []byte) *kgo.Record {
	return &kgo.Record{
		Topic: f.Names.Topic(topic), Partition: freshet.PartitionOf(author.Key(), partitions),
		Key: []byte(author.Key()), Value: value,
	}
}

// reports reads the reports written so far, at least count of them: the last for each follower.
func (f *fixture) reports(count int) map[freshet.Number]*events.AppliedReport {
	f.Helper()
	last := map[freshet.Number]*events.AppliedReport{}
	for _, r := range f.Read(f.Names.Topic(freshet.Applied), count) {
		follower, err := freshet.ParseNumber(string(r.Key))
		if err != nil {
			f.Fatal(err)
		}
		var report events.AppliedReport
		if err := proto.Unmarshal(r.Value, &report); err != nil {
			f.Fatal(err)
		}
		last[follower] = &report
	}
	return last
}

func (f *fixture) post(author freshet.Number, id freshet.PostID) emitters.Position {
	f.Helper()
	position, err := f.write.Post(f.Context(), freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
		ID: id, Author: author, Text: "text", Visibility: freshet.Public, CreatedAt: id.Time(),
	}})
	if err != nil {
		f.Fatal(err)
	}
	return position
}

// committed waits until the group has done with a post at the root, and has committed it.
func (f *fixture) committed(last emitters.Position) {
	f.Helper()
	lookup, err := kafka.NewLookup(f.Brokers)
	if err != nil {
		f.Fatal(err)
	}
	defer lookup.Close()
	topic := f.Names.Topic(freshet.Posts)
	f.Until("the post is committed", func() bool {
		committed, err := lookup.Committed(f.Context(), f.Names.Group(freshet.FanoutGroup), topic)
		return err == nil && committed[kafka.TopicPartition{Topic: topic, Partition: last.Partition}] == last.Offset+1
	})
}

// logged is how often each post is in the log for an account.
func (f *fixture) logged(account freshet.Number) map[freshet.PostID]int {
	f.Helper()
	read := &feeds.ReadBlock{Block: account.Block(), Slot: feeds.AllSlots}
	if err := f.conn.Do(f.Context(), read); err != nil {
		f.Fatal(err)
	}
	// The account is cold; decoding wants a feed.
	read.Feeds[account.Slot()] = feeds.Feed{}.Encode()
	_, ids, err := read.Feed(account.Slot())
	if err != nil {
		f.Fatal(err)
	}
	count := map[freshet.PostID]int{}
	for _, id := range ids {
		count[id]++
	}
	return count
}

func numbers(from, to freshet.Number) []freshet.Number {
	var list []freshet.Number
	for n := from; n < to; n++ {
		list = append(list, n)
	}
	return list
}

func TestFanoutDeliversDownTheTree(t *testing.T) {
	f := newFixture(t)
	f.start()
	const author = freshet.Number(7)
	f.follow(author, true, 1, numbers(100, 130)...)
	for follower, report := range f.reports(30) {
		if report.GetFollowee() != uint64(author) || !report.GetHeld() || report.GetVersion() != 1 {
			t.Errorf("%d: reported %v", follower, report)
		}
	}
	f.follow(author, false, 2, 104, 105)
	reports := f.reports(32)
	if reports[104].GetHeld() || reports[105].GetHeld() || reports[104].GetVersion() != 2 {
		t.Errorf("reported %v, %v after the unfollow", reports[104], reports[105])
	}

	f.post(author, 9001)
	f.Until("28 followers have the post", func() bool {
		have := 0
		for _, follower := range numbers(100, 130) {
			have += f.logged(follower)[9001]
		}
		return have == 28
	})
	if len(f.logged(104)) != 0 {
		t.Error("a former follower has the post")
	}
	body, outbox := &feeds.ReadBody{Post: 9001}, &feeds.ReadOutbox{Author: author}
	if err := f.conn.Do(t.Context(), body, outbox); err != nil {
		t.Fatal(err)
	}
	var b events.Body
	if err := proto.Unmarshal(body.Body, &b); err != nil || b.GetText() != "text" || len(outbox.Value) == 0 {
		t.Errorf("body %v, %v; outbox %x", &b, err, outbox.Value)
	}
	f.Until("the root's count is stated", func() bool {
		var stats events.Stats
		for _, r := range f.Read(f.Names.Topic(freshet.Stats), 1) {
			if err := proto.Unmarshal(r.Value, &stats); err != nil {
				t.Fatal(err)
			}
		}
		return stats.GetFollowers() == 28 && stats.GetPosts() == 1
	})
}

func TestFanoutGoesBackWhenRedisIsEmptied(t *testing.T) {
	f := newFixture(t)
	f.start()
	const author = freshet.Number(7)
	f.follow(author, true, 1, numbers(100, 110)...)
	f.reports(10)
	f.committed(f.post(author, 9001))
	f.empty()
	f.Until("the post is there again, because no post store has it", func() bool {
		for _, follower := range numbers(100, 110) {
			if f.logged(follower)[9001] == 0 {
				return false
			}
		}
		return true
	})
	f.Until("the zones are well", func() bool {
		for zone := range feeds.Zone(4) {
			read := &feeds.ReadZone{Zone: zone}
			if err := f.conn.Do(t.Context(), read); err != nil || !read.State.Well() {
				return false
			}
		}
		return true
	})
}

// The sweep states every author's counts, and every subtotal, again and again.
func TestFanoutIsSwept(t *testing.T) {
	f := newFixture(t)
	f.sweep = 20 * time.Millisecond
	f.start()
	const author = freshet.Number(7)
	f.follow(author, true, 1, numbers(100, 120)...)
	f.reports(20)
	for _, r := range f.Read(f.Names.Topic(freshet.Stats), 4) { // one or two would be all without it
		if string(r.Key) != author.Key() {
			t.Errorf("stats of %s", r.Key)
		}
	}
}

func TestFanoutTakesReplays(t *testing.T) {
	f := newFixture(t)
	f.start()
	const author = freshet.Number(7)
	f.follow(author, true, 1, 100)
	f.reports(1)
	at := f.post(author, 9001)
	f.Until("the post is delivered", func() bool { return f.logged(100)[9001] == 1 })
	original := f.Read(f.Names.Topic(freshet.Posts), 1)[0]
	copied := f.record(freshet.Replays, author, original.Value)
	copied.Headers = []kgo.RecordHeader{{
		Key: fanout.HeaderOffset, Value: strconv.AppendInt(nil, at.Offset, 10),
	}}
	nameless := f.record(freshet.Replays, author, original.Value)
	f.Put(nameless, copied)
	f.Until("the post is delivered again", func() bool { return f.logged(100)[9001] == 2 })
	letters := f.Read(f.Names.Topic(freshet.DeadLetters), 1)
	if !slices.Equal(letters[0].Value, original.Value) {
		t.Error("a copy that does not say where it comes from is no dead letter")
	}
}

func TestFanoutGoesOnAfterARestart(t *testing.T) {
	f := newFixture(t)
	f.start()
	const author = freshet.Number(7)
	f.follow(author, true, 1, numbers(100, 120)...)
	f.reports(20)
	f.stopped()
	f.post(author, 9001)
	f.health = &kafka.Health{}
	f.start()
	f.Until("the followers have the post", func() bool {
		for _, follower := range numbers(100, 120) {
			if f.logged(follower)[9001] == 0 {
				return false
			}
		}
		return true
	})
}

func TestFanoutGoesOnAfterPoison(t *testing.T) {
	f := newFixture(t)
	f.start()
	const author = freshet.Number(7)
	f.follow(author, true, 1, 100)
	f.reports(1)
	wrongKey := f.record(freshet.Posts, author, []byte{8, 1, 16, 5, 24, 6}) // a post of account 6
	f.Put(f.record(freshet.Followers, author, []byte{0xff}), wrongKey, f.record(freshet.Posts, author, nil))
	f.post(author, 9001)
	f.Until("the post behind is delivered", func() bool { return f.logged(100)[9001] == 1 })
	var found []string
	for _, letter := range f.Read(f.Names.Topic(freshet.DeadLetters), 3) {
		found = append(found, fmt.Sprintf("%x", letter.Value))
	}
	slices.Sort(found)
	if want := []string{"", "080110051806", "ff"}; !slices.Equal(found, want) {
		t.Errorf("dead letters %v, want %v", found, want)
	}
}

// TestStatsOfAReplacedOwner: what a process had to say of an author gets into the log when another process has taken
// the partition over and said more. Who reads the counts passes over it.
func TestStatsOfAReplacedOwner(t *testing.T) {
	f := newFixture(t)
	const author = freshet.Number(7)
	stated := func(posts uint64) (found *kgo.Record) {
		f.Until(fmt.Sprintf("%d posts are stated", posts), func() bool {
			for _, r := range f.Read(f.Names.Topic(freshet.Stats), 1) {
				var stats events.Stats
				if err := proto.Unmarshal(r.Value, &stats); err != nil {
					t.Fatal(err)
				}
				if stats.GetPosts() == posts {
					found = r
				}
			}
			return found != nil
		})
		return found
	}
	f.start()
	f.post(author, 9001)
	late := stated(1)
	f.stopped()
	f.health = &kafka.Health{}
	f.start()
	f.post(author, 9002)
	stated(2)
	f.Put(&kgo.Record{
		Topic: late.Topic, Partition: late.Partition, Key: late.Key, Value: late.Value, Headers: late.Headers,
	})

	held := f.tables.View("api")
	settings := f.ViewSettings("stats")
	settings.Storage, settings.Update = held.Builder, held.Update
	stats, err := views.NewStats(f.Brokers, f.Names, settings)
	if err != nil {
		t.Fatal(err)
	}
	f.Cluster.Run("view of stats", stats.Run)
	f.Await("the view has read them", stats.Ready())
	if counts, err := stats.Counts(author); err != nil || counts.Posts != 2 {
		t.Errorf("counts %+v (%v), want 2 posts", counts, err)
	}
}
