package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/feeds"
)

// scaleMembers are the numbers of members that scale goes over.
var scaleMembers = []int{1, 2, 4}

// scale measures what a delivery costs as members of the group become more. They run in this process, but share nothing
// in it: tables, consumers, producers, writers and connections to Redis are each member's own.
func (b *bench) scale(ctx context.Context) error {
	var first float64
	for _, count := range scaleMembers {
		if count > int(b.Partitions) {
			continue // somebody would have nothing to do
		}
		cost, note, err := b.scaled(ctx, count)
		if err != nil {
			return fmt.Errorf("%d members: %w", count, err)
		}
		if first == 0 {
			first = cost
		}
		b.result(fmt.Sprintf("members: %d", count), cost, "CPU-seconds a million deliveries",
			fmt.Sprintf("%.2f of one member's; %s", cost/first, note))
	}
	return nil
}

// scaled has that many members deliver the backlog, from when all have their partitions.
func (b *bench) scaled(ctx context.Context, count int) (cost float64, note string, err error) {
	inner := &bench{Config: b.Config}
	if inner.servers, err = openServers(ctx, b.Config); err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, inner.servers.close()) }()
	n, err := inner.makeNetwork()
	if err != nil {
		return 0, "", err
	}
	layout := feeds.Layout{Zones: b.Zones, FeedLength: feeds.DefaultFeedLength}
	conn, err := inner.servers.feeds(ctx, layout)
	if err != nil {
		return 0, "", err
	}
	err = errors.Join(inner.putTrees(ctx, n.authors), inner.warm(ctx, conn, layout, n, b.LogLimit))
	if err := errors.Join(err, conn.Close()); err != nil {
		return 0, "", err
	}
	members := make([]*member, count)
	defer func() {
		for _, m := range members {
			if m != nil {
				err = errors.Join(err, m.stop(), m.conn.Close())
			}
		}
	}()
	var g errgroup.Group
	for i := range members {
		g.Go(func() error {
			conn, err := inner.servers.feeds(ctx, layout)
			if err != nil {
				return err
			}
			m, err := inner.startMember(ctx, conn, layout, fmt.Sprintf("tables-%d", i))
			if err != nil {
				return errors.Join(err, conn.Close())
			}
			members[i] = m
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, "", err
	}
	if err := b.awaitShares(ctx, members); err != nil {
		return 0, "", err
	}
	err = inner.profile(func() error { // of several, the last stays
		cost, note, err = inner.deliverBacklog(ctx, n, members)
		return err
	})
	return cost, note, err
}

// awaitShares waits until every partition is somebody's, and everybody has some.
func (b *bench) awaitShares(ctx context.Context, members []*member) error {
	for {
		owned, idle := 0, 0
		for _, m := range members {
			partitions := map[int32]bool{}
			for tp := range m.Group().Positions().Offsets {
				partitions[tp.Partition] = true
			}
			owned += len(partitions)
			if len(partitions) == 0 {
				idle++
			}
		}
		if owned == int(b.Partitions) && idle == 0 {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
			return err
		}
	}
}

// deliverBacklog publishes posts and waits until all are delivered.
func (b *bench) deliverBacklog(
	ctx context.Context, n *network, members []*member,
) (cost float64, note string, err error) {
	p, err := b.publisher()
	if err != nil {
		return 0, "", err
	}
	defer p.close() //nolint:errcheck // of a run that is over
	used, redis, start := cpu(), b.servers.redisCPU(ctx), time.Now()
	deliveries, err := b.publish(ctx, p, n.authors, b.Posts, 0, "publish")
	if err != nil {
		return 0, "", err
	}
	for {
		done := int64(0)
		for _, m := range members {
			done += m.delivered.Load()
		}
		if done >= int64(deliveries) {
			break
		}
		if err := sleepUntil(ctx, time.Now().Add(time.Millisecond)); err != nil {
			return 0, "", err
		}
	}
	used, redis = cpu()-used, b.servers.redisCPU(ctx)-redis
	millions := float64(deliveries) / 1e6
	return (used + redis).Seconds() / millions, fmt.Sprintf("%s deliveries/s; CPU-seconds: process %.2f, Redis %.2f",
		short(float64(deliveries)/time.Since(start).Seconds()), used.Seconds(), redis.Seconds()), nil
}
