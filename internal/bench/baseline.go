package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"freshet/internal/feeds"
)

// usual is a usual way to write feeds: a key for each account.
type usual struct {
	name, note string
	workers    int // connections, each with one pipeline under way: as many as help
	pipeline   int // commands in a pipeline, at least; 0: none
	add        func(ctx context.Context, to redis.Cmdable, key string, post uint64)
}

func zadd(ctx context.Context, to redis.Cmdable, key string, post uint64) {
	to.ZAdd(ctx, key, redis.Z{Score: float64(post >> 12), Member: strconv.FormatUint(post, 10)})
}

func lpush(ctx context.Context, to redis.Cmdable, key string, post uint64) {
	to.LPush(ctx, key, strconv.FormatUint(post, 10))
	to.LTrim(ctx, key, 0, feeds.DefaultFeedLength-1)
}

var usuals = []usual{
	{name: "ZADD", note: "a round trip for each follower, 16 connections", workers: 16, add: zadd},
	{name: "pipelined ZADD", note: "4 connections, pipelines of 2,000", workers: 4, pipeline: 2000, add: zadd},
	{name: "pipelined LPUSH+LTRIM", note: "4 connections, pipelines of 2,000", workers: 4, pipeline: 2000, add: lpush},
}

// baseline writes posts of the same authors to the same followers in the usual ways. The keys begin empty, which is
// quicker for sorted sets than the full feeds that freshet was measured with.
func (b *bench) baseline(ctx context.Context, n *network) error {
	keys := n.keys()
	for i, way := range usuals {
		b.Progress("measure the usual ways", i, len(usuals))
		if err := b.servers.flush(ctx); err != nil {
			return err
		}
		rate, err := b.usually(ctx, n, keys, way)
		if err != nil {
			return err
		}
		b.result("baseline, "+way.name, rate, "deliveries/s", way.note)
		for _, r := range b.report.Results {
			if r.Name == "drain" {
				b.result("drain : "+way.name, r.Value/rate, "times", "")
			}
		}
	}
	b.Progress("measure the usual ways", len(usuals), len(usuals))
	return nil
}

// keys are made before: the baseline is to be as quick as it can be.
func (n *network) keys() []string {
	keys := make([]string, n.count)
	for place := range keys {
		keys[place] = "feed:" + strconv.Itoa(place)
	}
	return keys
}

func (b *bench) usually(ctx context.Context, n *network, keys []string, way usual) (float64, error) {
	var written, post atomic.Int64
	post.Store(int64(1) << 60)
	start := time.Now()
	end := start.Add(b.BaselineFor)
	var g errgroup.Group
	for worker := range way.workers {
		g.Go(func() error {
			rng := rand.New(rand.NewPCG(b.Seed, uint64(worker)))
			for time.Now().Before(end) && ctx.Err() == nil {
				count := 0
				pipe := b.servers.client.Pipeline()
				for count == 0 || count < way.pipeline {
					a, id := n.authors[rng.IntN(len(n.authors))], uint64(post.Add(1<<12))
					for _, follower := range a.followers {
						if key := keys[n.place(follower)]; way.pipeline > 0 {
							way.add(ctx, pipe, key, id)
						} else {
							way.add(ctx, b.servers.client, key, id)
							if !time.Now().Before(end) {
								return nil
							}
							written.Add(1)
						}
					}
					count += len(a.followers)
				}
				if way.pipeline == 0 {
					continue
				}
				if _, err := pipe.Exec(ctx); err != nil {
					return err
				}
				written.Add(int64(count))
			}
			return nil
		})
	}
	err := g.Wait()
	return float64(written.Load()) / time.Since(start).Seconds(), errors.Join(err, ctx.Err())
}
