package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/load"
)

const (
	// abuseLines is how many lines a batch of the abuser has at most, as many as are taken, and abuseBatches how many such
	// batches come at once: a million lines altogether. A small run has linesOfPost for each post of the backlog.
	abuseLines, abuseBatches, linesOfPost = 100_000, 10, 25
	// abuseConns is how many connections send slowly.
	abuseConns = 400
	// abuseBody is the longest body of a batch.
	abuseBody = 8 << 20
)

// abuse measures good callers, who post and read at a rate, alone and then beside one who sends what nobody should.
func (b *bench) abuse(ctx context.Context) error {
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	c := b.config("abused", config.API)
	if _, err := b.credentials(&c); err != nil {
		return err
	}
	var keys [2]string
	for i, name := range []string{"good", "abuser"} {
		if _, keys[i], err = auth.CreateKey(c.Auth.KeysFile, name, auth.Scopes, 0, time.Now()); err != nil {
			return fmt.Errorf("make a service key: %w", err)
		}
	}
	return b.withNetwork(ctx, n, func(p *program) error {
		if err := errors.Join(p.fill(ctx), p.close()); err != nil {
			return err
		}
		abused := &program{b: b, n: n}
		if err := abused.launch(ctx, c); err != nil {
			return err
		}
		return errors.Join(b.abused(ctx, abused, keys[0], keys[1]), abused.close())
	})
}

func (b *bench) abused(ctx context.Context, p *program, good, bad string) error {
	reads, err := p.client(openConnections)
	if err != nil {
		return err
	}
	defer reads.close()
	writes, err := p.client(openConnections)
	if err != nil {
		return err
	}
	defer writes.close()
	for i := range openConnections {
		reads.conns[i].Bearer, writes.conns[i].Bearer = good, good
	}
	a := &abuser{p: p, key: bad, address: strings.TrimPrefix(p.url, "http://")}
	g := &goodCallers{b: b, p: p, reads: reads, writes: writes, texts: encoded(passages())}
	if _, err := g.measure(ctx, "warm up", nil); err != nil {
		return err
	}
	b.report.Results = nil
	alone, err := g.measure(ctx, "alone", nil)
	if err != nil {
		return err
	}
	return b.profile(func() error {
		for _, kind := range []struct {
			name string
			send func(ctx context.Context) error
		}{
			{"slow senders", a.slow}, {"deep and oversized bodies", a.oversized}, {"batches cut in the middle", a.cut},
			{"a million lines at once, again and again", a.batches},
		} {
			a.sent.Store(0)
			beside, err := g.measure(ctx, "beside "+kind.name, kind.send)
			if err != nil {
				return err
			}
			for i, what := range []string{"posts", "reads"} {
				b.result(what+" beside "+kind.name+", p99 : alone", beside[i]/alone[i], "times",
					fmt.Sprintf("the abuser's requests: %d", a.sent.Load()))
			}
		}
		_, err := g.measure(ctx, "alone again", nil)
		return err
	})
}

// goodCallers post and read, each at its rate.
type goodCallers struct {
	b             *bench
	p             *program
	reads, writes *client
	texts         []string
}

// measure lets the good callers work while somebody else does something, if anything, again and again. It answers the
// 99th percentiles of posts and of reads, in microseconds.
func (g *goodCallers) measure(
	ctx context.Context, how string, beside func(context.Context) error,
) (p99 [2]float64, err error) {
	b := g.b
	b.Progress(how, 0, 0)
	disturbing, cancel := context.WithCancel(ctx)
	defer cancel()
	var all errgroup.Group
	if beside != nil {
		all.Go(func() error {
			for disturbing.Err() == nil {
				if err := beside(disturbing); err != nil && disturbing.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	g.work(ctx, b.Warm)
	posts, reads := g.work(ctx, b.For)
	cancel()
	err = errors.Join(all.Wait(), b.outcome("posts "+how, posts, 1, "posts/s", short(b.Rate)+"/s wanted"),
		b.outcome("reads "+how, reads, 1, "reads/s", short(b.ReadRate)+"/s wanted"))
	return [2]float64{float64(posts.Answers.ValueAtPercentile(99)), float64(reads.Answers.ValueAtPercentile(99))}, err
}

func (g *goodCallers) work(ctx context.Context, d time.Duration) (posts, reads load.Outcome) {
	b := g.b
	var seen atomic.Int64
	var working sync.WaitGroup
	working.Go(func() { posts = load.Open(ctx, openConnections, b.Rate, d, g.p.sendPost(g.writes, g.texts)) })
	working.Go(func() { reads = load.Open(ctx, openConnections, b.ReadRate, d, g.p.readFeed(g.reads, &seen)) })
	working.Wait()
	return posts, reads
}

// abuser sends what nobody should, until its context ends.
type abuser struct {
	p            *program
	key, address string
	sent         atomic.Int64
}

// inParallel does something so many times at once.
func inParallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

// batches are a million lines, all of which are right.
func (a *abuser) batches(ctx context.Context) error {
	line := fmt.Sprintf(`{"author":"%s","text":"x"}`+"\n", a.p.n.id(0))
	body := bytes.Repeat([]byte(line), min(abuseLines, linesOfPost*a.p.b.Posts))
	// Not the load's connections: an answer may take seconds, and theirs do not end with ctx.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return inParallel(ctx, abuseBatches, func(ctx context.Context, _ int) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.p.url+"/v1/posts/batch", bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+a.key)
		request.Header.Set("Content-Type", "application/x-ndjson")
		answer, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("send a batch: %w", err)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		err = errors.Join(err, answer.Body.Close())
		if err == nil && answer.StatusCode != http.StatusServiceUnavailable {
			err = wanted(answer.StatusCode, http.StatusMultiStatus, nil)
		}
		a.sent.Add(1)
		return err
	})
}

// cut sends half of a batch that is as long as may be, and is gone.
func (a *abuser) cut(ctx context.Context) error {
	half := a.head("/v1/posts/batch", "application/x-ndjson", abuseBody) +
		strings.Repeat(`{"author":"x","text":"x"}`+"\n", abuseBody/2/26)
	return inParallel(ctx, abuseBatches, func(ctx context.Context, _ int) error { return a.send(ctx, half, false) })
}

// oversized sends bodies that are nested as deep as they are long, and bodies that are far too long.
func (a *abuser) oversized(ctx context.Context) error {
	const long = 64 << 10
	texts := []string{
		a.head("/v1/posts", "application/json", long) + strings.Repeat("[", long),
		a.head("/v1/posts", "application/json", long) + strings.Repeat(`{"a":`, long/5+1)[:long],
		a.head("/v1/posts", "application/json", 1<<30) + strings.Repeat("x", long),
		a.head("/v1/posts/batch", "application/x-ndjson", 31_000_000) + strings.Repeat("{}\n", 100_000),
	}
	return inParallel(ctx, 32, func(ctx context.Context, i int) error { return a.send(ctx, texts[i%len(texts)], true) })
}

// slow sends a body a byte at a time.
func (a *abuser) slow(ctx context.Context) error {
	head := a.head("/v1/posts", "application/json", 60_000) + `{"author":`
	return inParallel(ctx, abuseConns, func(ctx context.Context, _ int) error {
		conn, err := a.dial(ctx)
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // it is left
		a.sent.Add(1)
		if _, err = io.WriteString(conn, head); err != nil {
			return nil // it was cut
		}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if _, err := conn.Write([]byte(" ")); err != nil {
					return nil // it was cut
				}
			}
		}
	})
}

func (a *abuser) head(path, media string, length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\n"+
		"Content-Length: %d\r\n\r\n", path, a.key, media, length)
}

// send sends a text, and waits for some of an answer if there is to be one.
func (a *abuser) send(ctx context.Context, text string, answered bool) error {
	conn, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it is left
	a.sent.Add(1)
	if _, err := io.WriteString(conn, text); err == nil && answered {
		_, _ = conn.Read(make([]byte, 1)) // or it is cut
	}
	return nil
}

// dial connects; the connection ends with ctx.
func (a *abuser) dial(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", a.address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", a.address, err)
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, nil
}
