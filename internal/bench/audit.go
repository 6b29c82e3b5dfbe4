package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/audit"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
)

// audit puts accounts, posts, outboxes and feeds in place, as fan-out and the archive leave them, and audits all of it:
// feeds and outboxes, and then trees. Reading the same of Redis, and comparing nothing, is measured beside it.
func (b *bench) audit(ctx context.Context) (err error) {
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	layout := feeds.Layout{Zones: b.Zones, FeedLength: max(1, b.Entries)}
	conn, err := b.servers.feeds(ctx, layout)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a client of a run that is over
	store, where, closeStore, err := b.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	if err := b.putAudited(ctx, n, layout, conn, store); err != nil {
		return err
	}
	accounts, follows := n.count, n.edges()
	blocks := n.blocks()

	began := time.Now()
	sources, err := audit.Open(ctx, audit.Config{
		Brokers: b.servers.kafka, Names: b.servers.names, Sarama: kafka.Config, Conn: conn, Layout: layout, Store: store,
		Dir: filepath.Join(b.servers.dir, "audit"), Progress: b.Progress, Logger: b.Logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sources.Close()) }()
	opening := time.Since(began)
	b.result("opening", opening.Seconds(), "s", fmt.Sprintf("tables of %d accounts and %d follows, from their changelogs",
		accounts, follows))
	took, err := b.auditAll(ctx, sources, accounts, where)
	if err != nil {
		return err
	}
	trees, err := b.auditTrees(ctx, sources)
	if err != nil {
		return err
	}
	each := (opening + took + trees).Seconds() / float64(accounts)
	b.result("a million accounts like these", each*1e6/60, "minutes", "by this, trees and opening included")
	return b.readAudited(ctx, conn, blocks)
}

// auditAll audits feeds and outboxes. What differs would be the fault of the benchmark or of the audit.
func (b *bench) auditAll(ctx context.Context, s *audit.Sources, accounts int, where string) (time.Duration, error) {
	var summary audit.Summary
	memory := watchHeap()
	used, redis, began := cpu(), b.servers.redisCPU(ctx), time.Now()
	err := b.profile(func() (err error) {
		summary, err = audit.Run(ctx, s, audit.Options{})
		return err
	})
	took := time.Since(began)
	used, redis = cpu()-used, b.servers.redisCPU(ctx)-redis
	heap := memory()
	if err != nil {
		return took, err
	}
	if summary.Found() > 0 || summary.Checked != accounts || summary.Second > 0 {
		return took, fmt.Errorf("%w: %+v", errAudit, summary)
	}
	each := float64(accounts)
	b.result("feeds and outboxes", each/took.Seconds(), "accounts/s", fmt.Sprintf(
		"%.0f posts a feed, %d outboxes; %s", float64(summary.Entries)/each, summary.Outboxes, where))
	b.result("CPU of this process", used.Seconds()/each*1e6, "µs an account", "")
	b.result("CPU of Redis", redis.Seconds()/each*1e6, "µs an account", "")
	b.result("memory", float64(heap)/(1<<20), "MiB", "most of the heap while it ran, garbage included")
	return took, nil
}

var errAudit = errors.New("everything is as it has to be, and the audit sees it otherwise")

func (b *bench) auditTrees(ctx context.Context, s *audit.Sources) (time.Duration, error) {
	began := time.Now()
	summary, err := audit.Run(ctx, s, audit.Options{Accounts: []freshet.Number{0}, Trees: true})
	took := time.Since(began)
	if err == nil && summary.Found() > 0 {
		err = fmt.Errorf("%w: %+v", errAudit, summary)
	}
	b.result("trees", float64(summary.Follows)/took.Seconds(), "follows/s", fmt.Sprintf("%d trees", summary.Trees))
	return took, err
}

// watchHeap samples the heap until the function that it returns is called, which says what was the most.
func watchHeap() func() uint64 {
	stop, done := make(chan struct{}), make(chan struct{})
	var most uint64
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return most
	}
}

// readAudited reads every block and outbox once, as the audit has to.
func (b *bench) readAudited(ctx context.Context, conn *feeds.Redis, blocks []uint64) error {
	const workers = 6
	began := time.Now()
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(blocks) {
					return nil
				}
				b.Progress("read blocks and outboxes", i, len(blocks))
				ops := []feeds.Op{&feeds.ReadBlock{Block: blocks[i], Slot: feeds.AllSlots}}
				for slot := range uint64(freshet.SlotsPerBlock) {
					ops = append(ops, &feeds.ReadOutbox{Author: freshet.Number(blocks[i]*freshet.SlotsPerBlock + slot)})
				}
				if err := conn.Do(ctx, ops...); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read blocks and outboxes: %w", err)
	}
	b.result("baseline, the same of Redis read and not compared", float64(len(blocks)*freshet.SlotsPerBlock)/
		time.Since(began).Seconds(), "accounts/s", fmt.Sprintf("%d at once", workers))
	return nil
}

// audited is the posts of a network: each author has as many, and the authors take turns.
type audited struct {
	authors []author
	each    int // posts of an author
	first   time.Time
}

// id is that of an author's post.
func (a audited) id(author, post int) freshet.PostID {
	return freshet.FirstPostID(a.first.Add(time.Duration(post*len(a.authors)+author) * time.Millisecond))
}

// putAudited writes what an audit looks at.
func (b *bench) putAudited(
	ctx context.Context, n *network, layout feeds.Layout, conn *feeds.Redis, store posts.Store,
) error {
	a := audited{authors: n.authors, each: max(1, b.Posts/len(n.authors))}
	a.first = time.Now().Add(-time.Hour - time.Duration(a.each*len(n.authors))*time.Millisecond)
	if _, err := openZones(ctx, conn, layout); err != nil {
		return err
	}
	for _, put := range []func() error{
		func() error { return b.putRegistrations(ctx, n) },
		func() error { return b.putTrees(ctx, n.authors) },
		func() error { return b.putRows(ctx, n) },
		func() error { return b.storePosts(ctx, a, store) },
		func() error { return b.loadOutboxes(ctx, n, layout, conn, store) },
		func() error { return b.putFeeds(ctx, n, a, conn) },
		func() error { return b.awaitCoordinator(ctx) },
	} {
		if err := put(); err != nil {
			return err
		}
	}
	return nil
}

// awaitCoordinator waits until Kafka can tell where fan-out stands: before a cluster's first group it has no topic for
// that.
func (b *bench) awaitCoordinator(ctx context.Context) error {
	lookup, err := kafka.NewLookup(b.servers.kafka)
	if err != nil {
		return err
	}
	defer lookup.Close()
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, err := lookup.Committed(ctx, b.servers.names.Group(freshet.FanoutGroup), b.servers.names.Topic(freshet.Posts))
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if err := sleepUntil(ctx, time.Now().Add(100*time.Millisecond)); err != nil {
			return err
		}
	}
}

// putRegistrations writes a record for each account. Nobody reads what is in it.
func (b *bench) putRegistrations(ctx context.Context, n *network) error {
	p := &produce{b: b, topic: b.servers.names.Topic(freshet.Registrations)}
	for place := range n.count {
		b.servers.kgo.Produce(ctx, &kgo.Record{Topic: p.topic, Partition: int32(place) % n.partitions},
			func(_ *kgo.Record, err error) {
				if err != nil {
					p.failed.CompareAndSwap(nil, &err)
				}
			})
	}
	return p.close(ctx)
}

// storePosts puts all posts into the post store, in the order in which they were written.
func (b *bench) storePosts(ctx context.Context, a audited, store posts.Store) error {
	const together = 1000
	texts := passages()
	total := a.each * len(a.authors)
	events := make([]posts.Event, 0, together)
	for i := range total {
		number := a.authors[i%len(a.authors)].number
		id := a.id(i%len(a.authors), i/len(a.authors))
		events = append(events, posts.Event{Offset: int64(i), PostEvent: freshet.PostEvent{
			Kind: freshet.PostCreated, Post: freshet.Post{
				ID: id, Author: number, Text: texts[i%len(texts)], Visibility: freshet.Public, CreatedAt: id.Time(),
			},
		}})
		if len(events) < together && i < total-1 {
			continue
		}
		b.Progress("store posts", i, total)
		if err := store.Apply(ctx, events); err != nil {
			return fmt.Errorf("store posts: %w", err)
		}
		events = events[:0]
	}
	return nil
}

// loadOutboxes has the outboxes of all accounts loaded from the post store, as the first read of each does.
func (b *bench) loadOutboxes(
	ctx context.Context, n *network, layout feeds.Layout, conn *feeds.Redis, store posts.Store,
) error {
	const together = 64
	numbers := make([]freshet.Number, n.count)
	for place := range numbers {
		numbers[place] = n.number(place)
	}
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for some := range slices.Chunk(numbers, together) {
		g.Go(func() error {
			_, err := layout.ReadOutboxes(ctx, conn, store, some)
			b.Progress("load outboxes", int(done.Add(together)), len(numbers))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("load outboxes: %w", err)
	}
	return nil
}

// putFeeds writes the feeds of all accounts, full if there are as many posts, and what is newer into the logs of their
// blocks.
func (b *bench) putFeeds(ctx context.Context, n *network, a audited, conn *feeds.Redis) error {
	follows := make([][]int32, n.count) // places among the authors, ascending
	for i, author := range n.authors {
		for _, follower := range author.followers {
			place := n.place(follower)
			follows[place] = append(follows[place], int32(i))
		}
	}
	zones := make([]feeds.ReadZone, b.Zones)
	ops := make([]feeds.Op, b.Zones)
	for zone := range zones {
		zones[zone].Zone = feeds.Zone(zone)
		ops[zone] = &zones[zone]
	}
	if err := conn.Do(ctx, ops...); err != nil {
		return fmt.Errorf("read the zones: %w", err)
	}
	blocks := n.blocks()
	header := feeds.Header{Read: feeds.DayOf(time.Now()), RowVersion: rowVersion}
	for i, block := range blocks {
		b.Progress("write feeds", i, len(blocks))
		put := &feeds.Compact{Block: block, Token: zones[0].State.Token, Next: fmt.Sprintf("bench%d", block),
			Feeds: map[byte][]byte{}}
		log := &feeds.AppendLog{Block: block}
		for slot := range byte(freshet.SlotsPerBlock) {
			place := n.place(freshet.Number(block*freshet.SlotsPerBlock + uint64(slot)))
			if place >= n.count {
				continue
			}
			ids := b.feedOf(a, follows[place])
			logged := ids[:max(0, len(ids)-b.Entries)]
			for _, id := range slices.Backward(logged) {
				log.Entries = feeds.AppendEntry(log.Entries, slot, id)
			}
			put.Feeds[slot] = feeds.Feed{Header: header, IDs: ids[len(logged):]}.Encode()
		}
		ops := []feeds.Op{put}
		if len(log.Entries) > 0 {
			ops = append(ops, log)
		}
		if err := conn.Do(ctx, ops...); err != nil {
			return fmt.Errorf("write feeds: %w", err)
		}
	}
	return nil
}

// feedOf is the newest posts of authors, an eighth more than a feed holds.
func (b *bench) feedOf(a audited, authors []int32) []freshet.PostID {
	length := b.Entries + b.Entries/8
	ids := make([]freshet.PostID, 0, length)
	for post := a.each - 1; post >= 0; post-- {
		for _, author := range slices.Backward(authors) {
			if len(ids) == length {
				return ids
			}
			ids = append(ids, a.id(int(author), post))
		}
	}
	return ids
}
