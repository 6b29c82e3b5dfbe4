package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/load"
)

const (
	// mostReaders is how many accounts read. Each reads once before anything is measured: a first read loads the reader's
	// outbox from the post store.
	mostReaders = 20_000
	// coldFollows is how many accounts the reader of a cold feed follows, as far as there are as many authors.
	coldFollows = 500
)

// readFeed reads the first page of somebody's feed, and counts the posts on it.
func (p *program) readFeed(c *client, posts *atomic.Int64) func(context.Context, int) error {
	return func(ctx context.Context, worker int) error {
		id := p.reader(c.rngs[worker].IntN(p.readers()))
		status, answer, err := c.conns[worker].Do(ctx, http.MethodGet, "/v1/accounts/"+string(id)+"/feed", "", nil)
		if err != nil {
			return err
		}
		posts.Add(int64(strings.Count(string(answer), `"author"`)))
		return wanted(status, http.StatusOK, answer)
	}
}

// readers is how many accounts read; they are spread over all.
func (p *program) readers() int { return min(p.n.count, mostReaders) }

func (p *program) reader(i int) freshet.AccountID { return p.n.id(i * (p.n.count / p.readers())) }

// firstReads reads every reader's feed once.
func (p *program) firstReads(ctx context.Context, c *client) error {
	var next atomic.Int64
	o := load.Closed(ctx, connections, time.Hour, func(ctx context.Context, worker int) error {
		i := int(next.Add(1)) - 1
		if i >= p.readers() {
			return load.ErrEnough
		}
		if i%1000 == 0 {
			p.b.Progress("read every feed once", i, p.readers())
		}
		status, answer, err := c.conns[worker].Do(ctx, http.MethodGet, "/v1/accounts/"+string(p.reader(i))+"/feed", "", nil)
		if err == nil {
			err = wanted(status, http.StatusOK, answer)
		}
		return err
	})
	return o.First
}

// followMany lets one account follow enough authors for its cold feed to be one that is hard to build, and returns its
// place.
func (n *network) followMany() int {
	place := n.count / 2
	reader := n.number(place)
	for i := range n.authors[:min(coldFollows, len(n.authors))] {
		a := &n.authors[i]
		if a.number != reader && !slices.Contains(a.followers, reader) {
			a.followers = append(a.followers, reader)
		}
	}
	return place
}

func (b *bench) read(ctx context.Context) error {
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	cold := n.followMany()
	return b.withNetwork(ctx, n, func(p *program) error {
		if err := p.fill(ctx); err != nil {
			return err
		}
		if err := b.readWarm(ctx, p); err != nil {
			return err
		}
		if err := b.readCold(ctx, p, cold); err != nil {
			return err
		}
		return b.readBaseline(ctx, p)
	})
}

func (b *bench) readWarm(ctx context.Context, p *program) error {
	c, err := p.client(openConnections)
	if err != nil {
		return err
	}
	defer c.close()
	var posts atomic.Int64
	b.Progress("read feeds", 0, 0)
	if err := p.firstReads(ctx, c); err != nil {
		return err
	}
	warm := load.Closed(ctx, connections, b.Warm, p.readFeed(c, &posts))
	note := fmt.Sprintf("%d connections, %d readers, %.1f posts a page", connections, p.readers(),
		float64(posts.Load())/float64(max(1, warm.Sent)))
	if err := b.profile(func() error {
		return b.closed(ctx, "feed reads over HTTP, as many as possible", connections, 1, "reads/s", note,
			p.readFeed(c, &posts))
	}); err != nil {
		return err
	}
	o := load.Open(ctx, openConnections, b.ReadRate, b.For, p.readFeed(c, &posts))
	return b.outcome("feed reads over HTTP at a rate", o, 1, "reads/s", fmt.Sprintf("%s/s wanted", short(b.ReadRate)))
}

// readCold reads a feed that has to be built, of the account at a place.
func (b *bench) readCold(ctx context.Context, p *program, place int) error {
	const reads = 100
	follows := 0
	for _, a := range p.n.authors {
		if slices.Contains(a.followers, p.n.number(place)) {
			follows++
		}
	}
	c, err := p.client(1)
	if err != nil {
		return err
	}
	defer c.close()
	times := load.NewHistogram()
	number, path := p.n.number(place), "/v1/accounts/"+string(p.n.id(place))+"/feed"
	first := time.Duration(0)
	for i := range reads {
		b.Progress("read a cold feed", i, reads)
		if err := p.cool(ctx, number); err != nil {
			return err
		}
		start := time.Now()
		status, answer, err := c.conns[0].Do(ctx, http.MethodGet, path, "", nil)
		if err == nil {
			err = wanted(status, http.StatusOK, answer)
		}
		if err != nil {
			return err
		}
		if i == 0 {
			first = time.Since(start)
			continue
		}
		load.Record(times, time.Since(start))
	}
	name := fmt.Sprintf("a cold feed with %d followed accounts", follows)
	b.percentiles(name, times, "")
	b.result(name+", the first time", float64(first.Microseconds())/1000, "ms", "outboxes are loaded from the post store")
	return nil
}

// cool makes a feed cold, as compaction does for accounts that have not read for long.
func (p *program) cool(ctx context.Context, account freshet.Number) error {
	for {
		read := &feeds.ReadBlock{Block: account.Block(), Slot: int(account.Slot())}
		if err := p.conn.Do(ctx, read); err != nil {
			return err
		}
		swap := &feeds.SwapFeed{
			Block: account.Block(), Slot: account.Slot(), Token: read.State.Token, Generation: read.Generation,
			Next: fmt.Sprintf("bench%016x", rand.Uint64()),
		}
		if err := p.conn.Do(ctx, swap); err != nil {
			return err
		}
		if swap.OK {
			return nil
		}
	}
}

// readBaseline reads the usual feeds: a sorted set of ids each, and the bodies.
func (b *bench) readBaseline(ctx context.Context, p *program) error {
	const accounts, ids = 10_000, 100
	if err := errors.Join(p.close(), b.servers.flush(ctx)); err != nil {
		return err
	}
	n := p.n
	keys := n.keys()[:min(accounts, n.count)]
	texts := passages()
	pipe := b.servers.client.Pipeline()
	for i := range ids {
		pipe.Set(ctx, fmt.Sprint("body:", uint64(1)<<60+uint64(i)<<12), texts[i%len(texts)], time.Hour)
	}
	for i, key := range keys {
		b.Progress("write the usual feeds", i, len(keys))
		for j := range ids {
			zadd(ctx, pipe, key, uint64(1)<<60+uint64(j)<<12)
		}
		if i%50 == 0 || i == len(keys)-1 {
			if _, err := pipe.Exec(ctx); err != nil {
				return fmt.Errorf("write the usual feeds: %w", err)
			}
		}
	}
	rngs := make([]*rand.Rand, connections)
	for i := range rngs {
		rngs[i] = rand.New(rand.NewPCG(b.Seed, uint64(i)))
	}
	o := load.Closed(ctx, connections, b.BaselineFor, func(ctx context.Context, worker int) error {
		newest, err := b.servers.client.ZRevRange(ctx, keys[rngs[worker].IntN(len(keys))], 0, 19).Result()
		if err != nil {
			return err
		}
		bodies := make([]string, len(newest))
		for i, id := range newest {
			bodies[i] = "body:" + id
		}
		return b.servers.client.MGet(ctx, bodies...).Err()
	})
	return b.outcome("baseline, ZREVRANGE and MGET, without HTTP", o, 1, "reads/s",
		fmt.Sprintf("20 posts of %d, %d connections", ids, connections))
}
