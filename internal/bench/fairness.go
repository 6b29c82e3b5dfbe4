package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"freshet/internal/feeds"
)

// Authors with few followers must not wait for those with many. With a million followers a post is some two thousand
// messages and a million entries, and the partitions, the log and Redis are the same for all.
const (
	// fewFollowers is what an author of fairness has at most, manyFollowers what the one beside them has, if there are so
	// many accounts.
	fewFollowers  = 99
	manyFollowers = 1_000_000
	// manyEvery is how often that one posts.
	manyEvery = time.Second
)

// fairness measures small authors' posts alone, and then beside the posts of one that everybody follows. All posts are
// delivered; none is pulled.
func (b *bench) fairness(ctx context.Context) (err error) {
	b.Followers = min(b.Followers, fewFollowers)
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	many := author{number: n.number(1), followers: n.draw(b.random(), min(n.count-1, manyFollowers), n.number(1))}
	layout := feeds.Layout{Zones: b.Zones, FeedLength: feeds.DefaultFeedLength}
	conn, err := b.servers.feeds(ctx, layout)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a client of a run that is over
	small := n.without(many.number)
	if err := b.putTrees(ctx, append(small, many)); err != nil {
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
	m, err := b.startFanout(ctx, conn, layout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	return b.profile(func() error { return b.fairnessOn(ctx, m, p, small, many) })
}

func (b *bench) fairnessOn(ctx context.Context, m *member, p *publisher, small []author, many author) error {
	alone, _, err := b.beside(ctx, m, p, small, many, false)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("%s posts/s, %d followers each", short(b.Rate), b.Followers)
	b.percentiles("small posts alone, Kafka's time stamp to flushed", alone, note)
	beside, apart, err := b.beside(ctx, m, p, small, many, true)
	if err != nil {
		return err
	}
	large := fmt.Sprintf("a post to %s followers every %s", short(float64(len(many.followers))), manyEvery)
	b.percentiles("small posts beside a large author, Kafka's time stamp to flushed", beside, note+"; "+large)
	b.percentiles("pages of the large author, Kafka's time stamp to flushed", apart, large)
	b.result("small posts, p99 beside : p99 alone",
		float64(beside.ValueAtPercentile(99))/float64(alone.ValueAtPercentile(99)), "times", "")
	return nil
}

// beside publishes small authors' posts at the rate and, if it is to post, one of many now and then. It answers how
// long either's took.
func (b *bench) beside(
	ctx context.Context, m *member, p *publisher, small []author, many author, posts bool,
) (few, apart *hdrhistogram.Histogram, err error) {
	before, stage := m.delivered.Load(), "small posts alone"
	if posts {
		stage = "small posts beside a large author"
	}
	every := max(1, int(b.Rate*manyEvery.Seconds()))
	whose := func(i int) author {
		if posts && i%every == every/8 { // not the first one, which is not measured
			return many
		}
		return small[p.rng.IntN(len(small))]
	}
	m.measureApart(time.Now().Add(b.Warm), many.number)
	deliveries, err := b.publishOf(ctx, p, whose, int(b.Rate*b.For.Seconds()), b.Rate, stage)
	if err != nil {
		return nil, nil, err
	}
	if err := b.await(ctx, m, before+int64(deliveries), "deliver the rest"); err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latencies, m.aparts, nil
}
