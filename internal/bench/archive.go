package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/emitters"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/posts/cassandrastore"
	"freshet/internal/posts/pebblestore"
	"freshet/processors/archive"
)

// archivePace is the rate at which the posts of the archive's backlog were minted: their ids decide how many of them
// share a partition.
const archivePace = 20_000

// countingStore is a store that counts what it has stored.
type countingStore struct {
	posts.Store
	stored atomic.Int64
	first  atomic.Int64 // when the first were handed to it, in nanoseconds since 1970
}

func (s *countingStore) Apply(ctx context.Context, events []posts.Event) error {
	s.first.CompareAndSwap(0, time.Now().UnixNano())
	err := s.Store.Apply(ctx, events)
	if err == nil {
		s.stored.Add(int64(len(events)))
	}
	return err
}

// archive drains a backlog of posts into the post store, as the group does, and then stores as many posts one by one.
func (b *bench) archive(ctx context.Context) error {
	store, where, closeStore, err := b.openStore(ctx)
	if err != nil {
		return err
	}
	if err = b.postBacklog(ctx); err == nil {
		if err = b.drainBacklog(ctx, store, where); err == nil {
			err = b.storeSingly(ctx, store, where)
		}
	}
	return errors.Join(err, closeStore())
}

// openStore opens the store of a program with these servers.
func (b *bench) openStore(ctx context.Context) (store posts.Store, where string, closeStore func() error, err error) {
	if len(b.Cassandra) == 0 {
		store, err = pebblestore.Open(b.servers.dir+"/posts", pebblestore.Options{Log: b.Logger})
		if err != nil {
			return nil, "", nil, err
		}
		return store, "the embedded store", store.Close, nil
	}
	o := b.cassandra()
	store, err = cassandrastore.Open(ctx, o)
	if err != nil {
		return nil, "", nil, err
	}
	return store, fmt.Sprintf("Cassandra, %d nodes named, one replica", len(b.Cassandra)), store.Close, nil
}

// cassandra is the keyspace of this run, which is dropped at its end.
func (b *bench) cassandra() cassandrastore.Options {
	return cassandrastore.Options{
		Addrs: b.Cassandra, Keyspace: strings.TrimSuffix(b.servers.names.Prefix, "."), Replication: 1, Log: b.Logger,
	}
}

// postBacklog writes posts of many authors to the log.
func (b *bench) postBacklog(ctx context.Context) error {
	p, err := b.publisher()
	if err != nil {
		return err
	}
	defer p.close() //nolint:errcheck // every write was acknowledged
	rng := rand.New(rand.NewPCG(b.Seed, 2))
	from := time.Now().Add(-time.Duration(b.Posts) * time.Second / archivePace)
	var failed atomic.Int64
	for i := range b.Posts {
		at := from.Add(time.Duration(i) * time.Second / archivePace)
		id := freshet.PostID(at.Sub(freshet.Epoch).Milliseconds()<<22 | int64(i)&(1<<12-1))
		event := freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
			ID: id, Author: freshet.Number(rng.IntN(b.Authors)), Text: p.text(), Visibility: freshet.Public, CreatedAt: at,
		}}
		if err := p.emitters.PostAsync(ctx, event, func(_ emitters.Position, err error) {
			if err != nil {
				failed.Add(1)
			}
		}); err != nil {
			return err
		}
		if i%1000 == 0 {
			b.Progress("post", i, b.Posts)
		}
	}
	if err := p.close(); err != nil {
		return err
	}
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("post: %w: %d of %d writes", errNotWritten, n, b.Posts)
	}
	return nil
}

var errNotWritten = errors.New("kafka did not take all posts")

func (b *bench) drainBacklog(ctx context.Context, store posts.Store, where string) error {
	counting := &countingStore{Store: store}
	health := &kafka.Health{}
	member, err := archive.New(archive.Config{
		Brokers: b.servers.kafka, Names: b.servers.names, Store: counting, Health: health, Logger: b.Logger,
		Settings: kafka.ProcessorSettings{Logger: b.Logger},
	})
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	used := cpu()
	g.Go(func() error { return member.Run(running) })
	err = b.profile(func() error {
		for int(counting.stored.Load()) < b.Posts {
			b.Progress("archive", int(counting.stored.Load()), b.Posts)
			if err := sleepUntil(ctx, time.Now().Add(5*time.Millisecond)); err != nil {
				return err
			}
		}
		return nil
	})
	took := time.Since(time.Unix(0, counting.first.Load()))
	used = cpu() - used
	cancel()
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	b.result("archive", float64(b.Posts)/took.Seconds(), "posts/s",
		fmt.Sprintf("%s, a backlog of %d posts by %d authors, both tables", where, b.Posts, b.Authors))
	b.result("CPU of this process", used.Seconds()/float64(b.Posts)*1e6, "µs a post", "reading the log included")
	return nil
}

// singlyAtOnce is how many posts are stored at once in the usual way.
const singlyAtOnce = 64

// storeSingly stores posts one by one.
func (b *bench) storeSingly(ctx context.Context, store posts.Store, where string) error {
	texts := passages()
	var next atomic.Int64
	end := time.Now().Add(b.BaselineFor)
	begun := time.Now()
	g, inner := errgroup.WithContext(ctx)
	for range singlyAtOnce {
		g.Go(func() error {
			for time.Now().Before(end) {
				i := next.Add(1)
				at := begun.Add(time.Duration(i) * time.Second / archivePace)
				event := posts.Event{Offset: i, PostEvent: freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
					ID: freshet.PostID(at.Sub(freshet.Epoch).Milliseconds()<<22 | i&(1<<12-1)), CreatedAt: at,
					Author: freshet.Number(i % int64(b.Authors)), Text: texts[i%int64(len(texts))], Visibility: freshet.Public,
				}}}
				if err := store.Apply(inner, []posts.Event{event}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("store posts one by one: %w", err)
	}
	b.result("the usual way: post by post", float64(next.Load())/time.Since(begun).Seconds(), "posts/s",
		fmt.Sprintf("%s, %d at once", where, singlyAtOnce))
	return nil
}
