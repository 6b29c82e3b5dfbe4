package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/config"
	"freshet/internal/load"
)

const (
	// acceptConnections wait for Kafka most of the time, so they are more than those that read.
	acceptConnections = 128
	// batchSize is how many posts a batch of the benchmark has.
	batchSize        = 500
	batchConnections = 4
)

// accept measures posting twice: with fan-out and the archive in the process that takes the posts, and after that
// without, where the backlog waits in Kafka. A profile is of the second.
func (b *bench) accept(ctx context.Context) error {
	texts := encoded(passages())
	how := ""
	if b.Accept == config.AcceptStore {
		how = ", saved first"
	}
	profile := b.Profile
	b.Profile = ""
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	err = b.withNetwork(ctx, n, func(p *program) error {
		if err := b.acceptPosts(ctx, p, texts, "all roles"+how); err != nil {
			return err
		}
		return b.acceptBaseline(ctx, p, texts)
	})
	err = errors.Join(err, b.servers.flush(ctx))
	if err != nil {
		return err
	}
	b.Profile = profile
	return b.withNetwork(ctx, n, func(p *program) error {
		return b.acceptPosts(ctx, p, texts, "the API alone"+how)
	}, config.API)
}

func (b *bench) acceptPosts(ctx context.Context, p *program, texts []string, what string) error {
	c, err := p.client(openConnections)
	if err != nil {
		return err
	}
	defer c.close()
	b.Progress("post", 0, 0)
	load.Closed(ctx, connections, b.Warm, p.sendPost(c, texts))
	o := load.Open(ctx, openConnections, b.Rate, b.For, p.sendPost(c, texts))
	if err := b.outcome("posts accepted at a rate, "+what, o, 1, "posts/s", short(b.Rate)+"/s wanted"); err != nil {
		return err
	}
	note := fmt.Sprintf("%d connections", acceptConnections)
	if err := b.profile(func() error {
		return b.closed(ctx, "posts accepted singly over HTTP, as many as possible, "+what, acceptConnections, 1, "posts/s",
			note, p.sendPost(c, texts))
	}); err != nil {
		return err
	}
	return b.acceptBatches(ctx, p, c, texts, what)
}

func (b *bench) acceptBatches(ctx context.Context, p *program, c *client, texts []string, what string) error {
	var bodies [batchConnections][]byte
	send := func(ctx context.Context, worker int) error {
		body := bodies[worker][:0]
		for range batchSize {
			body = append(p.appendPost(body, c.rngs[worker], texts), '\n')
		}
		bodies[worker] = body
		conn := c.conns[worker]
		status, answer, err := conn.Do(ctx, http.MethodPost, "/v1/posts/batch", "application/x-ndjson", body)
		if err != nil {
			return err
		}
		if n := bytes.Count(answer, []byte(`{"status":201,`)); n != batchSize {
			return fmt.Errorf("%w: %d of %d posts were accepted: %d %s", errStatus, n, batchSize, status,
				answer[:min(len(answer), 200)])
		}
		return nil
	}
	note := fmt.Sprintf("%d connections, %d a batch", batchConnections, batchSize)
	return b.closed(ctx, "posts accepted in batches, "+what, batchConnections, batchSize, "posts/s", note, send)
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
