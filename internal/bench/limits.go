package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"freshet/internal/feeds"
	"freshet/internal/load"
)

// The bounds that limits goes over: bytes of a block's log from which on it is compacted, and entries that may wait for
// a flush. The program's own are among them.
var (
	logLimits    = []int{16 << 10, 32 << 10, feeds.DefaultLogLimit, 128 << 10}
	flushEntries = []int{64 << 10, 512 << 10, feeds.DefaultMaxEntries, 4 * feeds.DefaultMaxEntries}
)

// limits measures what the bounds of the writer are chosen by. A longer log is compacted less often, which spares
// deliveries; but readers fetch it, and it takes memory. A larger flush has more entries for each block, so an entry
// costs less; but a post waits for the flush that it is in, and for the one before.
func (b *bench) limits(ctx context.Context) error {
	for _, limit := range logLimits {
		c := b.Config
		c.LogLimit = limit
		name := fmt.Sprintf("logs of %d KiB", limit>>10)
		if err := b.limited(ctx, c, name, true); err != nil {
			return err
		}
	}
	for _, entries := range flushEntries {
		c := b.Config
		c.FlushEntries, c.FlushBytes = entries, 64*entries
		if err := b.limited(ctx, c, fmt.Sprintf("flushes of %d Ki entries", entries>>10), false); err != nil {
			return err
		}
	}
	return nil
}

// limited drains the backlog under one set of bounds, and reads feeds before that.
func (b *bench) limited(ctx context.Context, c Config, name string, reads bool) error {
	d, err := drainOf(ctx, c, func(inner *bench, conn *feeds.Redis, n *network) error {
		if !reads {
			return nil
		}
		if used, err := inner.used(ctx); err == nil { // the embedded Redis does not know
			b.result(name+", memory", float64(used)/float64(max(1, c.Accounts*c.Entries)), "bytes an entry",
				"all of Redis, with logs of any length up to the limit")
		}
		return b.readBlocks(ctx, inner, conn, n, name)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.result(name+", drain", float64(d.deliveries)/(d.process+d.redis).Seconds(), "deliveries/CPU-second",
		fmt.Sprintf("%s deliveries/s; CPU-seconds: process %.2f, Redis %.2f",
			short(float64(d.deliveries)/d.took.Seconds()), d.process.Seconds(), d.redis.Seconds()))
	return nil
}

// readBlocks reads feeds as the API begins to: the account's feed and its block's log, put together.
func (b *bench) readBlocks(ctx context.Context, inner *bench, conn *feeds.Redis, n *network, name string) error {
	const workers = 8
	rngs := make([]*rand.Rand, workers)
	for i := range rngs {
		rngs[i] = rand.New(rand.NewPCG(b.Seed, uint64(i)))
	}
	b.Progress("read feeds and logs", 0, 0)
	before, redis := cpu(), inner.servers.redisCPU(ctx)
	o := load.Closed(ctx, workers, b.BaselineFor, func(ctx context.Context, worker int) error {
		account := n.number(rngs[worker].IntN(n.count))
		read := &feeds.ReadBlock{Block: account.Block(), Slot: int(account.Slot())}
		if err := conn.Do(ctx, read); err != nil {
			return err
		}
		feed, logged, err := read.Feed(account.Slot())
		if err != nil {
			return err
		}
		feeds.Newest(slices.Concat(feed.IDs, logged), feeds.DefaultFeedLength)
		return nil
	})
	used := cpu() - before + inner.servers.redisCPU(ctx) - redis
	b.result(name+", CPU of a read", float64(used.Microseconds())/float64(max(1, o.Sent-o.Failed)), "µs",
		"process and Redis; feed and log alone, without posts and without HTTP")
	return errors.Join(b.outcome(name+", feed and log read", o, 1, "reads/s", fmt.Sprintf("%d at a time", workers)),
		ctx.Err())
}
