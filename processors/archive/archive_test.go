package archive_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
	"freshet/internal/posts"
	"freshet/internal/posts/pebblestore"
	"freshet/processors/archive"
	"freshet/processors/processortest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// faulty is a store that refuses records while it is told to.
type faulty struct {
	posts.Store
	refuses atomic.Bool
	refused atomic.Int64
}

var errFull = errors.New("the disk is full")

func (f *faulty) Apply(ctx context.Context, e []posts.Event) error {
	if f.refuses.Load() {
		f.refused.Add(1)
		return errFull
	}
	return f.Store.Apply(ctx, e)
}

type fixture struct {
	*testing.T
	*processortest.Cluster
	store  *faulty
	health *kafka.Health
	write  *emitters.Emitters
	lookup *kafka.Lookup
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, Cluster: processortest.Start(t, 2), health: &kafka.Health{}}
	store, err := pebblestore.Open(t.TempDir(), pebblestore.Options{Log: f.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	f.store = &faulty{Store: store}
	if f.write, err = emitters.New(f.Brokers, f.Names, f.Config); err != nil {
		t.Fatal(err)
	}
	if f.lookup, err = kafka.NewLookup(f.Brokers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.lookup.Close()
		if err := errors.Join(f.write.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) start() (member *archive.Archive, stop func()) {
	f.Helper()
	member, err := archive.New(archive.Config{
		Brokers: f.Brokers, Names: f.Names, Store: f.store, Logger: f.Logger(), Health: f.health,
		Settings: kafka.ProcessorSettings{Config: f.Config, Logger: f.Logger()},
	})
	if err != nil {
		f.Fatal(err)
	}
	stop = f.Cluster.Run("archive", member.Run)
	f.Until("the archive runs", func() bool { ready, _ := f.health.Ready(); return ready })
	return member, stop
}

func (f *fixture) emit(kind freshet.PostEventKind, author freshet.Number, id freshet.PostID) emitters.Position {
	f.Helper()
	at := id.Time()
	post := freshet.Post{ID: id, Author: author, Text: "text of " + id.String(), Visibility: freshet.Public, CreatedAt: at}
	if kind == freshet.PostDeleted {
		post = freshet.Post{ID: id, Author: author, DeletedAt: at}
	}
	position, err := f.write.Post(f.Context(), freshet.PostEvent{Kind: kind, Post: post})
	if err != nil {
		f.Fatal(err)
	}
	return position
}

func (f *fixture) ids(author freshet.Number) []freshet.PostID {
	f.Helper()
	list, err := f.store.ByAuthor(f.Context(), author, 0, 100)
	if err != nil {
		f.Fatal(err)
	}
	ids := make([]freshet.PostID, len(list))
	for i, p := range list {
		ids[i] = p.ID
	}
	return ids
}

func (f *fixture) committed(at emitters.Position) int64 {
	f.Helper()
	topic := f.Names.Topic(at.Topic)
	committed, err := f.lookup.Committed(f.Context(), f.Names.Group(freshet.ArchiveGroup), topic)
	if err != nil {
		f.Fatal(err)
	}
	return committed[kafka.TopicPartition{Topic: topic, Partition: at.Partition}]
}

func TestArchiveStoresPostsAndFollowers(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.emit(freshet.PostCreated, 7, 1001)
	f.emit(freshet.PostCreated, 7, 1002)
	last := f.emit(freshet.PostDeleted, 7, 1001)
	f.Until("post 1002 is all there is", func() bool { return slices.Equal(f.ids(7), []freshet.PostID{1002}) })

	value, err := proto.Marshal(&events.FollowerState{Follower: 9, Follows: true, Version: 5})
	if err != nil {
		t.Fatal(err)
	}
	author := freshet.Number(7)
	f.Put(&kgo.Record{
		Topic: f.Names.Topic(freshet.Followers), Partition: freshet.PartitionOf(author.Key(), 2),
		Key: []byte(author.Key()), Value: value,
	})
	f.Until("9 is listed as a follower", func() bool {
		followers, err := f.store.Followers(t.Context(), 7, 0, 10)
		return err == nil && slices.Equal(followers, []freshet.Number{9})
	})

	// The offset is committed only after the store says how far it is, and an idle partition counts as now.
	before := time.Now()
	f.Until("the offset is committed", func() bool { return f.committed(last) == last.Offset+1 })
	f.Until("the store is up to date", func() bool {
		progress, err := f.store.Progress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if at := progress[last.Partition]; at.Offset <= last.Offset || !at.Through.After(before) {
			return false
		}
		return progress[1-last.Partition].Through.After(before)
	})
}

func TestArchiveWaitsForTheStore(t *testing.T) {
	f := newFixture(t)
	f.store.refuses.Store(true)
	member, stop := f.start()
	at := f.emit(freshet.PostCreated, 7, 1001)
	f.Until("the archive says why", func() bool { return errors.Is(member.Err(), errFull) })
	if got := f.committed(at); got > at.Offset {
		t.Fatalf("offset %d is committed, and the post at %d is not stored", got, at.Offset)
	}
	if got := f.ids(7); len(got) != 0 {
		t.Fatalf("stored %v", got)
	}

	// A process that ends does not wait for the store; the next one begins where nothing was committed.
	began := time.Now()
	stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopping took %s", took)
	}
	f.store.refuses.Store(false)
	f.start()
	f.Until("the post is stored", func() bool { return slices.Equal(f.ids(7), []freshet.PostID{1001}) })
}

func TestArchiveGoesOnAfterPoison(t *testing.T) {
	f := newFixture(t)
	f.start()
	author := freshet.Number(7)
	partition := freshet.PartitionOf(author.Key(), 2)
	f.Put(
		&kgo.Record{Topic: f.Names.Topic(freshet.Posts), Partition: partition, Key: []byte("8"), Value: []byte("\xff\xff")},
		&kgo.Record{Topic: f.Names.Topic(freshet.Followers), Partition: partition, Key: []byte("no number"), Value: []byte{}},
	)
	f.emit(freshet.PostCreated, 7, 1001)
	f.Until("the post behind is stored", func() bool { return slices.Equal(f.ids(7), []freshet.PostID{1001}) })
	for _, letter := range f.Read(f.Names.Topic(freshet.DeadLetters), 2) {
		switch string(letter.Key) {
		case "8":
			if string(letter.Value) != "\xff\xff" {
				t.Errorf("the dead letter is %q", letter.Value)
			}
		case "no number":
		default:
			t.Errorf("a dead letter under the key %q", letter.Key)
		}
	}
}
