package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/load"
	"freshet/internal/posts"
	"freshet/internal/tables"
	"freshet/processors/fanout"
)

// member is the fan-out processor as the program runs it, alone.
type member struct {
	*fanout.Fanout
	conn      *feeds.Redis
	ready     time.Time // when its tables were recovered
	delivered atomic.Int64

	mu        sync.Mutex
	from      time.Time // what is in the log before does not count
	latencies *hdrhistogram.Histogram
	apart     freshet.Number          // the author whose posts are measured apart from the others', if aparts is not nil
	aparts    *hdrhistogram.Histogram // their latencies
	unheeded  map[freshet.Number]bool // the authors whose posts are not measured

	stop func() error
}

// nothingStored says that the post store has nothing: every body is written to Redis, as for posts that are new.
type nothingStored struct{}

func (nothingStored) Progress(context.Context) (map[int32]posts.Progress, error) {
	return map[int32]posts.Progress{}, nil
}

func (b *bench) startFanout(ctx context.Context, conn *feeds.Redis, layout feeds.Layout) (*member, error) {
	return b.startMember(ctx, conn, layout, "tables")
}

// startMember starts one of several members, each with a folder for its tables.
func (b *bench) startMember(ctx context.Context, conn *feeds.Redis, layout feeds.Layout, folder string) (
	*member, error,
) {
	kept, err := tables.Open(filepath.Join(b.servers.dir, folder))
	if err != nil {
		return nil, err
	}
	m := &member{conn: conn, latencies: load.NewHistogram()}
	health := &kafka.Health{}
	health.Starting("fanout")
	m.Fanout, err = fanout.New(fanout.Config{
		Brokers: b.servers.kafka, Names: b.servers.names, Conn: conn, Layout: layout, Store: nothingStored{},
		Settings: kafka.ProcessorSettings{Logger: b.Logger}, Tables: kept, Partitions: b.Partitions,
		Writer:    feeds.WriterConfig{LogLimit: b.LogLimit, MaxEntries: b.FlushEntries, MaxBytes: b.FlushBytes},
		Delivered: m.took, Health: health, Logger: b.Logger,
	})
	if err != nil {
		return nil, errors.Join(err, kept.Close())
	}
	running, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return m.Run(running) })
	m.stop = func() error {
		cancel()
		return errors.Join(g.Wait(), kept.Close())
	}
	for {
		if ready, _ := health.Ready(); ready {
			m.ready = time.Now()
			return m, nil
		}
		if err := sleepUntil(ctx, time.Now().Add(time.Millisecond)); err != nil {
			return nil, errors.Join(err, m.stop())
		}
	}
}

// took is fanout.Config's Delivered.
func (m *member) took(author freshet.Number, at time.Time, followers int) {
	m.delivered.Add(int64(followers))
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.from.IsZero() || !at.After(m.from) || m.unheeded[author]:
	case m.aparts != nil && m.apart == author:
		load.Record(m.aparts, time.Since(at))
	default:
		load.Record(m.latencies, time.Since(at))
	}
}

// measure begins new percentiles, of what is in the log from then on.
func (m *member) measure(from time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.from = from
	m.latencies, m.aparts = load.NewHistogram(), nil
}

// measureApart is measure, with one author's posts apart from the others'.
func (m *member) measureApart(from time.Time, author freshet.Number) {
	m.measure(from)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.apart, m.aparts = author, load.NewHistogram()
}

// await waits until so many deliveries are in Redis, in all.
func (b *bench) await(ctx context.Context, m *member, deliveries int64, stage string) error {
	for {
		done := m.delivered.Load()
		b.Progress(stage, int(done), int(deliveries))
		if done >= deliveries {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(time.Millisecond)); err != nil {
			return err
		}
	}
}

// profile writes a CPU profile of what f does, if one is wanted.
func (b *bench) profile(f func() error) (err error) {
	if b.Profile == "" {
		return f()
	}
	file, err := os.Create(b.Profile)
	if err != nil {
		return fmt.Errorf("--profile: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("--profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return f()
}

// cpu is what this process has used.
func cpu() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (b *bench) fanout(ctx context.Context) error {
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	layout := feeds.Layout{Zones: b.Zones, FeedLength: feeds.DefaultFeedLength}
	conn, err := b.servers.feeds(ctx, layout)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a client of a run that is over
	idle := author{number: n.number(1), followers: n.authors[0].followers[:min(100, len(n.authors[0].followers))]}
	everyone := author{number: n.number(0), followers: n.draw(b.random(), min(n.count-1, 1_000_000), n.number(0))}
	n.authors = slices.DeleteFunc(n.authors, func(a author) bool {
		return a.number == idle.number || a.number == everyone.number
	})
	if err := b.putTrees(ctx, append([]author{everyone, idle}, n.authors...)); err != nil {
		return err
	}
	if err := b.warm(ctx, conn, layout, n, b.LogLimit); err != nil {
		return err
	}
	p, err := b.publisher()
	if err != nil {
		return err
	}
	defer p.close() //nolint:errcheck // of a run that is over
	return errors.Join(b.fanoutOn(ctx, n, conn, layout, p, idle, everyone), b.baseline(ctx, n))
}

// drained is what it took to bring a backlog into feeds.
type drained struct {
	deliveries               int
	took                     time.Duration // from when the trees were recovered
	recovery, process, redis time.Duration // CPU: of the recovery, and after it of this process and of Redis
}

// drain publishes the backlog and then starts fan-out. The caller stops it.
func (b *bench) drain(
	ctx context.Context, n *network, conn *feeds.Redis, layout feeds.Layout, p *publisher,
) (m *member, d drained, err error) {
	if d.deliveries, err = b.publish(ctx, p, n.authors, b.Posts, 0, "publish a backlog"); err != nil {
		return nil, d, err
	}
	b.Progress("recover the trees", 0, 0)
	err = b.profile(func() error {
		before := cpu()
		if m, err = b.startFanout(ctx, conn, layout); err != nil {
			return err
		}
		recovered, redis := cpu(), b.servers.redisCPU(ctx)
		if err := b.await(ctx, m, int64(d.deliveries), "drain the backlog"); err != nil {
			return errors.Join(err, m.stop())
		}
		d.took, d.recovery = time.Since(m.ready), recovered-before
		d.process, d.redis = cpu()-recovered, b.servers.redisCPU(ctx)-redis
		return nil
	})
	return m, d, err
}

func (b *bench) fanoutOn(
	ctx context.Context, n *network, conn *feeds.Redis, layout feeds.Layout, p *publisher, idle, everyone author,
) (err error) {
	m, d, err := b.drain(ctx, n, conn, layout, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	b.result("drain", float64(d.deliveries)/d.took.Seconds(), "deliveries/s",
		fmt.Sprintf("%s deliveries of %d posts in %.2f s", short(float64(d.deliveries)), b.Posts, d.took.Seconds()))
	b.result("drain, CPU of this process", float64(d.deliveries)/d.process.Seconds(), "deliveries/CPU-second",
		fmt.Sprintf("recovery of the trees %.1f CPU-seconds", d.recovery.Seconds()))
	b.result("drain, CPU of Redis", 100*d.redis.Seconds()/d.took.Seconds(), "% of a core", "")
	if err := b.sustained(ctx, m, n, p); err != nil {
		return err
	}
	return b.quiet(ctx, m, p, idle, everyone)
}

// sustained publishes at the rate, whatever becomes of it.
func (b *bench) sustained(ctx context.Context, m *member, n *network, p *publisher) error {
	before := m.delivered.Load()
	m.measure(time.Now().Add(b.Warm))
	count := int(b.Rate * b.For.Seconds())
	used, redis, start := cpu(), b.servers.redisCPU(ctx), time.Now()
	deliveries, err := b.publish(ctx, p, n.authors, count, b.Rate, "publish at the rate")
	if err != nil {
		return err
	}
	behind := before + int64(deliveries) - m.delivered.Load()
	took := time.Since(start)
	if err := b.await(ctx, m, before+int64(deliveries), "deliver the rest"); err != nil {
		return err
	}
	note := fmt.Sprintf("%s posts/s for %s: %s deliveries/s", short(b.Rate), b.For,
		short(float64(deliveries)/took.Seconds()))
	m.mu.Lock()
	h := m.latencies
	m.mu.Unlock()
	b.percentiles("sustained, Kafka's time stamp to flushed", h, note)
	b.result("sustained, behind at the end", float64(behind)/float64(deliveries)*took.Seconds()*1000, "ms",
		"what was not delivered, as time at the rate")
	b.result("sustained, CPU of this process", 100*(cpu()-used).Seconds()/time.Since(start).Seconds(), "% of a core",
		"publishing included")
	b.result("sustained, CPU of Redis", 100*(b.servers.redisCPU(ctx)-redis).Seconds()/time.Since(start).Seconds(),
		"% of a core", "")
	return nil
}

// quiet measures single posts while nothing else goes on.
func (b *bench) quiet(ctx context.Context, m *member, p *publisher, idle, everyone author) error {
	m.measure(time.Now())
	expected := m.delivered.Load()
	const all = 5
	for i := range b.Singles {
		b.Progress("single posts", i, b.Singles)
		if _, err := b.publish(ctx, p, []author{idle}, 1, 0, "single posts"); err != nil {
			return err
		}
		expected += int64(len(idle.followers))
		if err := b.await(ctx, m, expected, "single posts"); err != nil {
			return err
		}
		if err := sleepUntil(ctx, time.Now().Add(time.Duration(10+p.rng.IntN(20))*time.Millisecond)); err != nil {
			return err
		}
	}
	m.mu.Lock()
	h := m.latencies
	m.mu.Unlock()
	b.percentiles(fmt.Sprintf("idle, a post to %d followers", len(idle.followers)), h, "")
	times := load.NewHistogram()
	for range all {
		start := time.Now()
		if _, err := b.publish(ctx, p, []author{everyone}, 1, 0, "one post to everybody"); err != nil {
			return err
		}
		expected += int64(len(everyone.followers))
		if err := b.await(ctx, m, expected, "one post to everybody"); err != nil {
			return err
		}
		load.Record(times, time.Since(start))
	}
	name := fmt.Sprintf("a post to %s followers, published to all flushed", short(float64(len(everyone.followers))))
	b.result(name+", median", float64(times.ValueAtPercentile(50))/1000, "ms", fmt.Sprintf("of %d", all))
	b.result(name+", max", float64(times.Max())/1000, "ms", "")
	return nil
}
