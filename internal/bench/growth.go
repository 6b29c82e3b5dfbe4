package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"freshet/internal/feeds"
)

// growth drains backlogs of networks that differ in one thing from each other, and looks at what a delivery costs: CPU
// of this process and of Redis, which other work on the machine hardly changes. Kafka's is not counted.
//
// The series are around one network, that of the flags: each takes one setting from a hundredth or so of what it is
// there to ten times or a hundred times that. A backlog has as many deliveries as that of the flags, as far as
// maxGrowthPosts allows, but in the series of backlogs.
func (b *bench) growth(ctx context.Context) error {
	for _, s := range b.series() {
		var values []float64
		for _, value := range s.values {
			c := b.Config
			s.set(&c, value)
			if c.Followers >= c.Accounts { // of a small network, for trying it out
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			d, err := drainOf(ctx, c, nil)
			if err != nil {
				return fmt.Errorf("%s %d: %w", s.name, value, err)
			}
			each := float64(d.deliveries) / (d.process + d.redis).Seconds()
			b.result(fmt.Sprintf("%s %s", s.name, short(float64(value))), each, "deliveries/CPU-second",
				fmt.Sprintf("%d posts to %d of %d accounts: %s deliveries/s; CPU-seconds: process %.2f, Redis %.2f",
					c.Posts, c.Followers, c.Accounts, short(float64(d.deliveries)/d.took.Seconds()), d.process.Seconds(),
					d.redis.Seconds()))
			values = append(values, each)
		}
		if len(values) > 0 {
			b.result(s.name+", lowest : highest", slices.Min(values)/slices.Max(values), "times", s.verdict(values))
		}
	}
	return nil
}

// series is networks that differ in one setting.
type series struct {
	name   string
	values []int
	set    func(c *Config, value int)
}

// verdict says whether a delivery gets dearer, from one end of a series to the other, by more than twice.
func (s series) verdict(values []float64) string {
	first, last := values[0], values[len(values)-1]
	lowest, highest := slices.Min(values), slices.Max(values)
	switch {
	case lowest >= highest/2:
		return fmt.Sprintf("does not fall by half; the last is %.2f of the first", last/first)
	case last >= first/2:
		return fmt.Sprintf("does not fall by half as it grows; the last is %.2f of the first", last/first)
	}
	return fmt.Sprintf("falls by more than half: the last is %.2f of the first", last/first)
}

// What a point of growth has at most: posts of the backlog, and follows in the trees, so that all of it takes minutes.
const (
	maxGrowthPosts   = 300_000
	maxGrowthFollows = 2_000_000
)

func (b *bench) series() []series {
	deliveries := b.Posts * b.Followers
	return []series{
		{"accounts", []int{b.Accounts / 3, b.Accounts, 10 * b.Accounts / 3}, func(c *Config, value int) {
			c.Accounts = value
		}},
		{"followers", []int{b.Followers / 100, b.Followers / 10, b.Followers, 10 * b.Followers, 100 * b.Followers},
			func(c *Config, value int) {
				c.Followers = max(1, value)
				c.Posts = min(max(1, deliveries/c.Followers), maxGrowthPosts)
			}},
		{"partitions", []int{1, int(b.Partitions), 8 * int(b.Partitions)}, func(c *Config, value int) {
			c.Partitions = int32(value)
		}},
		{"posts waiting", []int{b.Posts / 10, b.Posts, 4 * b.Posts}, func(c *Config, value int) {
			c.Posts = max(1, value)
		}},
	}
}

// drainOf drains the backlog of a network that is made for it. before, unless nil, is called when the feeds are warm.
func drainOf(
	ctx context.Context, c Config, before func(inner *bench, conn *feeds.Redis, n *network) error,
) (d drained, err error) {
	c.Authors = min(max(c.Authors, 1), max(5, maxGrowthFollows/c.Followers), c.Accounts)
	inner := &bench{Config: c}
	if inner.servers, err = openServers(ctx, c); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, inner.servers.close()) }()
	n, err := inner.makeNetwork()
	if err != nil {
		return d, err
	}
	layout := feeds.Layout{Zones: c.Zones, FeedLength: feeds.DefaultFeedLength}
	conn, err := inner.servers.feeds(ctx, layout)
	if err != nil {
		return d, err
	}
	defer conn.Close() //nolint:errcheck // a client of a run that is over
	if err := errors.Join(inner.putTrees(ctx, n.authors), inner.warm(ctx, conn, layout, n, c.LogLimit)); err != nil {
		return d, err
	}
	if before != nil {
		if err := before(inner, conn, n); err != nil {
			return d, err
		}
	}
	p, err := inner.publisher()
	if err != nil {
		return d, err
	}
	defer p.close() //nolint:errcheck // of a run that is over
	m, d, err := inner.drain(ctx, n, conn, layout, p)
	if err != nil {
		return d, err
	}
	return d, m.stop()
}
