package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/replay"
)

// replay drains a backlog, replays it as fast as it goes, and then at the rate of live posts while there are such. Half
// of the authors wrote what is replayed, the other half write what is new, so that the latencies of the new posts are
// told from the others'.
func (b *bench) replay(ctx context.Context) (err error) {
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	if len(n.authors) < 2 {
		return errors.New("--authors: want at least 2, some for what is replayed and some for what is new")
	}
	layout := feeds.Layout{Zones: b.Zones, FeedLength: feeds.DefaultFeedLength}
	conn, err := b.servers.feeds(ctx, layout)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a client of a run that is over
	if err := errors.Join(b.putTrees(ctx, n.authors), b.warm(ctx, conn, layout, n, b.LogLimit)); err != nil {
		return err
	}
	p, err := b.publisher()
	if err != nil {
		return err
	}
	defer p.close() //nolint:errcheck // of a run that is over
	old, live := *n, n.authors[len(n.authors)/2:]
	old.authors = n.authors[:len(n.authors)/2]
	from := time.Now()
	m, d, err := b.drain(ctx, &old, conn, layout, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	m.mu.Lock()
	m.unheeded = map[freshet.Number]bool{}
	for _, a := range old.authors {
		m.unheeded[a.number] = true
	}
	m.mu.Unlock()
	rate := float64(d.deliveries) / d.took.Seconds()
	b.result("drain", rate, "deliveries/s",
		fmt.Sprintf("%s deliveries of %d posts in %.2f s", short(float64(d.deliveries)), b.Posts, d.took.Seconds()))
	spec := replay.Spec{From: replay.At(from), To: replay.At(time.Now())}
	again, err := b.replayAll(ctx, m, d, spec)
	if err != nil {
		return err
	}
	b.result("replay, unbounded", again, "deliveries/s",
		fmt.Sprintf("%.0f%% of the drain, copying included", 100*again/rate))
	return b.replayBeside(ctx, m, p, live, spec)
}

func (b *bench) replayer(ctx context.Context, spec replay.Spec, rate float64) (
	r *replay.Replayer, s replay.State, err error,
) {
	r, err = replay.Open(ctx, replay.Config{Brokers: b.servers.kafka, Names: b.servers.names, Logger: b.Logger})
	if err != nil {
		return nil, s, err
	}
	if s, err = r.Plan(ctx, b.servers.names.Group(freshet.FanoutGroup), spec, replay.Options{Rate: rate}); err == nil {
		err = r.Start(ctx, s)
	}
	if err != nil {
		r.Close()
		return nil, s, err
	}
	return r, s, nil
}

// replayAll is deliveries a second of an unbounded replay, from its beginning until the last is in Redis.
func (b *bench) replayAll(ctx context.Context, m *member, d drained, spec replay.Spec) (float64, error) {
	r, s, err := b.replayer(ctx, spec, 0)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	before, start := m.delivered.Load(), time.Now()
	var g errgroup.Group
	g.Go(func() error {
		_, err := r.Run(ctx, s, replay.Options{})
		return err
	})
	err = b.await(ctx, m, before+int64(d.deliveries), "replay")
	took := time.Since(start)
	if err := errors.Join(err, g.Wait()); err != nil {
		return 0, err
	}
	return float64(d.deliveries) / took.Seconds(), nil
}

// replayBeside measures live posts alone, and then while a replay goes on at the same rate as they.
func (b *bench) replayBeside(
	ctx context.Context, m *member, p *publisher, live []author, spec replay.Spec,
) error {
	alone, err := b.livePosts(ctx, m, p, live, "live posts alone")
	if err != nil {
		return err
	}
	r, s, err := b.replayer(ctx, spec, b.Rate)
	if err != nil {
		return err
	}
	defer r.Close()
	replaying, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error {
		var err error
		if s, err = r.Run(replaying, s, replay.Options{}); errors.Is(err, context.Canceled) && ctx.Err() == nil {
			return nil // it was long enough
		}
		return err
	})
	beside, err := b.livePosts(ctx, m, p, live, "live posts beside a replay")
	stop()
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	p99 := func(h *hdrhistogram.Histogram) float64 { return float64(h.ValueAtPercentile(99)) }
	b.result("live posts beside a replay, p99 of that alone", p99(beside)/p99(alone), "times",
		fmt.Sprintf("replayed at %s posts/s, %d in all", short(b.Rate), s.Copied))
	return nil
}

// livePosts publishes at the rate for the time of the settings, and tells the latencies.
func (b *bench) livePosts(
	ctx context.Context, m *member, p *publisher, live []author, what string,
) (*hdrhistogram.Histogram, error) {
	m.measure(time.Now().Add(b.Warm))
	count := int(b.Rate * b.For.Seconds())
	if _, err := b.publish(ctx, p, live, count, b.Rate, what); err != nil {
		return nil, err
	}
	for { // the last ones may still be on their way
		m.mu.Lock()
		h := hdrhistogram.Import(m.latencies.Export())
		m.mu.Unlock()
		if want := int64(float64(count) * max(0, (b.For-b.Warm).Seconds()/b.For.Seconds()) * 0.99); h.TotalCount() >= want {
			b.percentiles(what, h, fmt.Sprintf("%s posts/s for %s", short(b.Rate), b.For))
			return h, nil
		}
		if err := sleepUntil(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
			return nil, err
		}
	}
}
