package cassandrastore

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet"
)

// sliceOf is the partition of table posts that an id lies in; schema.cql says why.
func sliceOf(id freshet.PostID) int64 {
	ms := id.Time().Sub(freshet.Epoch).Milliseconds()
	return ms/sliceMillis*slicesAtOnce + ms%slicesAtOnce
}

const (
	sliceMillis  = 10_000
	slicesAtOnce = 64
)

// authorBucket is the part of an author's posts that an id lies in: 30 days of ids, so that it is known from the id
// alone. Shorter ones would spread a page of most authors over many partitions, longer ones would let those of the
// busiest grow too large.
func authorBucket(id freshet.PostID) int64 {
	return int64(id.Time().Sub(freshet.Epoch) / (30 * 24 * time.Hour))
}

// followerBucket is the part of a follower list that a follower lies in.
func followerBucket(follower freshet.Number) int64 { return int64(follower >> followerBucketBits) }

// followerBucketBits: 2^20 followers with neighbouring numbers. An account's number begins with its partition of
// registrations, so there are as many buckets as partitions for each million accounts in one of them, and an account
// with a few followers has them in a few buckets.
const followerBucketBits = 20

const (
	// firstStride and lastStride are how many buckets are read at once: few at first, since one often fills a page, and
	// twice as many each time, for lists that are thin over many buckets.
	firstStride, lastStride = 1, 32
	// bucketsAtOnce bounds one look at the buckets that there are.
	bucketsAtOnce = 256
)

// list reads up to limit entries of a list from its buckets, in their order. next lists up to bucketsAtOnce buckets
// that come after the one it is given, or the first ones for nil; read reads up to a number of entries of one.
func list[E any](
	ctx context.Context, limit int,
	next func(ctx context.Context, after *int64) ([]int64, error),
	read func(ctx context.Context, bucket int64, limit int) ([]E, error),
) ([]E, error) {
	var page []E
	var after *int64
	stride := firstStride
	for {
		buckets, err := next(ctx, after)
		if err != nil || len(buckets) == 0 {
			return page, err
		}
		after = &buckets[len(buckets)-1]
		for left := buckets; len(left) > 0; {
			now := left[:min(stride, len(left))]
			left, stride = left[len(now):], min(2*stride, lastStride)
			parts := make([][]E, len(now))
			g, ctx := errgroup.WithContext(ctx)
			for i, bucket := range now {
				g.Go(func() (err error) {
					parts[i], err = read(ctx, bucket, limit-len(page))
					return err
				})
			}
			if err := g.Wait(); err != nil {
				return nil, err
			}
			for _, part := range parts {
				page = append(page, part[:min(len(part), limit-len(page))]...)
			}
			if len(page) == limit {
				return page, nil
			}
		}
		if len(buckets) < bucketsAtOnce {
			return page, nil
		}
	}
}

// known remembers which buckets were noted lately, so that a note is written once and not with every post. To forget
// one costs a write. What it knows stays true because notes are never deleted.
type known struct {
	mu         sync.Mutex
	young, old map[partition]struct{}
}

// knownAtMost bounds each of the two halves: some tens of megabytes.
const knownAtMost = 1 << 18

func newKnown() *known { return &known{young: map[partition]struct{}{}, old: map[partition]struct{}{}} }

// has keeps what is asked for among the young.
func (k *known) has(p partition) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.young[p]; ok {
		return true
	}
	_, ok := k.old[p]
	if ok {
		k.put(p)
	}
	return ok
}

func (k *known) add(all map[partition]struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range all {
		k.put(p)
	}
}

func (k *known) put(p partition) {
	if len(k.young) >= knownAtMost {
		k.young, k.old = map[partition]struct{}{}, k.young
	}
	k.young[p] = struct{}{}
}
