package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/load"
)

// batchSize is how many posts a batch of the benchmark has.
const batchSize = 500

func (b *bench) accept(ctx context.Context) error {
	return b.withProgram(ctx, func(p *program) error {
		c, err := p.client(openConnections)
		if err != nil {
			return err
		}
		defer c.close()
		texts := passages()
		b.Progress("post", 0, 0)
		load.Closed(ctx, connections, b.Warm, p.sendPost(c, texts))
		var o load.Outcome
		if err := b.profile(func() error {
			o = load.Closed(ctx, 2*connections, b.For, p.sendPost(c, texts))
			return nil
		}); err != nil {
			return err
		}
		note := fmt.Sprintf("%d connections; fan-out and archive run beside it", 2*connections)
		if err := b.outcome("posts accepted singly over HTTP, as many as possible", o, 1, "posts/s", note); err != nil {
			return err
		}
		o = load.Open(ctx, openConnections, b.Rate, b.For, p.sendPost(c, texts))
		if err := b.outcome("posts accepted at a rate", o, 1, "posts/s", short(b.Rate)+"/s wanted"); err != nil {
			return err
		}
		if err := b.acceptBatches(ctx, p, c, texts); err != nil {
			return err
		}
		return b.acceptBaseline(ctx, p, texts)
	})
}

func (b *bench) acceptBatches(ctx context.Context, p *program, c *client, texts []string) error {
	send := func(ctx context.Context, worker int) error {
		var body bytes.Buffer
		for range batchSize {
			body.Write(p.postBody(c.rngs[worker], texts))
			body.WriteByte('\n')
		}
		conn := c.conns[worker]
		status, answer, err := conn.Do(ctx, http.MethodPost, "/v1/posts/batch", "application/x-ndjson", body.Bytes())
		if err != nil {
			return err
		}
		return wanted(status, http.StatusMultiStatus, answer)
	}
	if err := send(ctx, 0); err != nil {
		b.Logger.Warn("the API takes no batches of posts; they are left out", "error", err)
		return nil
	}
	o := load.Closed(ctx, 8, b.For, send)
	note := fmt.Sprintf("8 connections, %d a batch", batchSize)
	return b.outcome("posts accepted in batches", o, batchSize, "posts/s", note)
}

// acceptBaseline is a server that writes the author's followers' feeds before it answers, with pipelined ZADDs, and
// keeps the post in Redis alone.
func (b *bench) acceptBaseline(ctx context.Context, p *program, texts []string) error {
	if err := errors.Join(p.close(), b.servers.flush(ctx)); err != nil {
		return err
	}
	authors := map[string]author{}
	for _, a := range p.n.authors {
		authors[string(p.n.id(p.n.place(a.number)))] = a
	}
	keys := p.n.keys()
	var post atomic.Uint64
	post.Store(1 << 60)
	handler := func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Author, Text string }
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		id := post.Add(1 << 12)
		pipe := b.servers.client.Pipeline()
		pipe.Set(r.Context(), fmt.Sprint("body:", id), request.Text, time.Hour)
		for _, follower := range authors[request.Author].followers {
			zadd(r.Context(), pipe, keys[p.n.place(follower)], id)
		}
		if _, err := pipe.Exec(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(request) // the client has gone
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the baseline: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(handler), ReadHeaderTimeout: time.Minute}
	var g errgroup.Group
	g.Go(func() error { return server.Serve(listener) })
	defer func() {
		_ = server.Close() // its requests are answered
		_ = g.Wait()       // http.ErrServerClosed
	}()
	b.Progress("fan-out within the request", 0, 0)
	naive := &program{b: b, n: p.n, url: "http://" + listener.Addr().String()}
	c, err := naive.client(2 * connections)
	if err != nil {
		return err
	}
	defer c.close()
	o := load.Closed(ctx, 2*connections, b.BaselineFor, naive.sendPost(c, texts))
	return b.outcome("baseline, fan-out within the request", o, 1, "posts/s",
		fmt.Sprintf("%d followers each, pipelined ZADD, nothing durable", b.Followers))
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
