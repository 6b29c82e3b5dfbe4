package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/app"
	"freshet/internal/config"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/load"
)

// connections is how many requests a benchmark has under way at most: enough to keep two cores busy. An open loop has
// more, so that it stays one.
const (
	connections     = 32
	openConnections = 256
)

// program is the whole program on the run's servers, with the network in place.
type program struct {
	b    *bench
	n    *network
	url  string
	conn *feeds.Redis
	stop func() error
}

// startProgram puts the network in place, with warm and empty feeds, and starts the roles: all, if none is named.
func (b *bench) startProgram(ctx context.Context, n *network, roles ...config.Role) (p *program, err error) {
	if !n.placed {
		if err := errors.Join(b.putTrees(ctx, n.authors), b.putRows(ctx, n)); err != nil {
			return nil, err
		}
		n.placed = true
	}
	c := b.config("data", roles...)
	p = &program{b: b, n: n}
	if p.conn, err = b.servers.feeds(ctx, c.Layout()); err != nil {
		return nil, err
	}
	b.Entries = 0 // the feeds are filled by posts
	if err := b.warm(ctx, p.conn, c.Layout(), n, 0); err != nil {
		return nil, errors.Join(err, p.conn.Close())
	}
	if err := p.launch(ctx, c); err != nil {
		return nil, errors.Join(err, p.conn.Close())
	}
	return p, nil
}

// config is that of a process with its own data.
func (b *bench) config(data string, roles ...config.Role) config.Config {
	c := config.Deployment()
	c.Kafka, c.Redis, c.Prefix = b.servers.kafka, b.servers.redis, b.servers.names.Prefix
	c.Partitions, c.Zones, c.Replication, c.MinInSync = b.Partitions, b.Zones, 1, 1
	c.Cassandra, c.Accept = b.Cassandra, b.Accept
	c.DataDir, c.CursorKey = filepath.Join(b.servers.dir, data), filepath.Join(b.servers.dir, "cursor.key")
	if len(roles) > 0 {
		c.Roles, c.Apart = roles, true
	}
	c.Listen, c.Admin = "127.0.0.1:0", "127.0.0.1:0"
	return c
}

// launch starts the process and waits until it is ready.
func (p *program) launch(ctx context.Context, c config.Config) error {
	b := p.b
	b.Progress("start", 0, 0)
	a, err := app.Open(c, b.Logger, nil)
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		defer cancel()
		return a.Run(running)
	})
	p.url = a.APIURL()
	p.stop = func() error {
		cancel()
		err := g.Wait()
		if p.conn != nil {
			err = errors.Join(err, p.conn.Close())
		}
		return err
	}
	for {
		select {
		case <-a.Ready():
			return nil
		case <-running.Done():
			cancel()
			return errors.Join(errors.New("the program ended before it was ready"), g.Wait())
		case <-time.After(time.Second):
			b.Progress("recover the tables", 0, 0)
		}
	}
}

// close stops the program, once.
func (p *program) close() error {
	if p.stop == nil {
		return nil
	}
	stop := p.stop
	p.stop = nil
	return stop()
}

// fill publishes the backlog and waits until fan-out and archive have it.
func (p *program) fill(ctx context.Context) error {
	pub, err := p.b.publisher()
	if err != nil {
		return err
	}
	_, err = p.b.publish(ctx, pub, p.n.authors, p.b.Posts, 0, "publish posts")
	err = errors.Join(err, pub.close())
	if err != nil {
		return err
	}
	lookup, err := kafka.NewLookup(p.b.servers.kafka)
	if err != nil {
		return err
	}
	defer lookup.Close()
	names := p.b.servers.names
	topic := names.Topic(freshet.Posts)
	ends, err := lookup.Ends(ctx, topic)
	if err != nil {
		return err
	}
	for {
		left := int64(0)
		for _, group := range []freshet.Group{freshet.FanoutGroup, freshet.ArchiveGroup} {
			committed, err := lookup.Committed(ctx, names.Group(group), topic)
			if err != nil {
				return err
			}
			for at, end := range ends {
				left += end - committed[at]
			}
		}
		p.b.Progress("bring them into feeds and store", 2*p.b.Posts-int(left), 2*p.b.Posts)
		if left <= 0 {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(50*time.Millisecond)); err != nil {
			return err
		}
	}
}

// client is the connections of a loop, each with random numbers of its own.
type client struct {
	conns []*load.Conn
	rngs  []*rand.Rand
}

func (p *program) client(workers int) (*client, error) {
	c := &client{}
	for i := range workers {
		conn, err := load.NewConn(p.url)
		if err != nil {
			return nil, err
		}
		c.conns = append(c.conns, conn)
		c.rngs = append(c.rngs, rand.New(rand.NewPCG(p.b.Seed, uint64(i))))
	}
	return c, nil
}

func (c *client) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
}

var errStatus = errors.New("an answer that was not hoped for")

func wanted(status, want int, answer []byte) error {
	if status == want {
		return nil
	}
	return fmt.Errorf("%w: %d %s", errStatus, status, answer[:min(len(answer), 200)])
}

// sendPost lets a random author post; texts are JSON.
func (p *program) sendPost(c *client, texts []string) func(context.Context, int) error {
	return func(ctx context.Context, worker int) error {
		body := p.postBody(c.rngs[worker], texts)
		status, answer, err := c.conns[worker].Do(ctx, http.MethodPost, "/v1/posts", "application/json", body)
		if err != nil {
			return err
		}
		return wanted(status, http.StatusCreated, answer)
	}
}

// postBody is the body of a post. It is put together from texts that are JSON already: the load shares the machine.
func (p *program) postBody(rng *rand.Rand, texts []string) []byte {
	return p.appendPost(nil, rng, texts)
}

func (p *program) appendPost(b []byte, rng *rand.Rand, texts []string) []byte {
	a := p.n.authors[rng.IntN(len(p.n.authors))]
	b = append(b, `{"author":"bench-`...)
	b = strconv.AppendInt(b, int64(p.n.place(a.number)), 10)
	b = append(b, `","text":`...)
	b = append(b, texts[rng.IntN(len(texts))]...)
	return append(b, '}')
}

// encoded is texts as JSON.
func encoded(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		b, err := json.Marshal(text)
		if err != nil {
			panic(err) // strings are always encoded
		}
		all[i] = string(b)
	}
	return all
}

// outcome reports what became of requests: how many a second, how long they took, and what failed.
func (b *bench) outcome(name string, o load.Outcome, factor float64, unit, note string) error {
	if done := o.Sent - o.Failed; done > 0 {
		b.result(name, factor*float64(done)/o.Took.Seconds(), unit, note)
		b.percentiles(name, o.Answers, note)
	}
	if o.Failed > 0 {
		b.result(name+", failed", float64(o.Failed), "requests", fmt.Sprintf("of %d; first: %v", o.Sent, o.First))
	}
	if o.Sent == o.Failed {
		return fmt.Errorf("%s: all %d requests failed: %w", name, o.Sent, o.First)
	}
	return nil
}

// withProgram runs f on the program.
func (b *bench) withProgram(ctx context.Context, f func(p *program) error) error {
	n, err := b.makeNetwork()
	if err != nil {
		return err
	}
	return b.withNetwork(ctx, n, f)
}

// withNetwork is withProgram on a network that is there, with some of the roles: all, if none is named.
func (b *bench) withNetwork(
	ctx context.Context, n *network, f func(p *program) error, roles ...config.Role,
) error {
	p, err := b.startProgram(ctx, n, roles...)
	if err != nil {
		return err
	}
	return errors.Join(f(p), p.close())
}

// closed does something as often as possible, and reports it with the CPU time that it takes, the load's own included.
func (b *bench) closed(
	ctx context.Context, name string, workers, factor int, unit, note string, do func(context.Context, int) error,
) error {
	before := cpu()
	o := load.Closed(ctx, workers, b.For, do)
	if done := o.Sent - o.Failed; done > 0 {
		took := (cpu() - before) / time.Duration(done*factor)
		note = fmt.Sprintf("%s; %.1f µs of CPU each, load included, servers not", note, float64(took.Nanoseconds())/1000)
	}
	return b.outcome(name, o, float64(factor), unit, note)
}

func (b *bench) mixed(ctx context.Context) error {
	return b.withProgram(ctx, func(p *program) error {
		if err := p.fill(ctx); err != nil {
			return err
		}
		readers, err := p.client(openConnections)
		if err != nil {
			return err
		}
		defer readers.close()
		writers, err := p.client(openConnections)
		if err != nil {
			return err
		}
		defer writers.close()
		b.Progress("post and read", 0, 0)
		var posts atomic.Int64
		load.Open(ctx, openConnections, b.ReadRate, b.Warm, p.readFeed(readers, &posts))
		var reads, writes load.Outcome
		var g errgroup.Group
		g.Go(func() error {
			reads = load.Open(ctx, openConnections, b.ReadRate, b.For, p.readFeed(readers, &posts))
			return nil
		})
		texts := encoded(passages())
		err = b.profile(func() error {
			writes = load.Open(ctx, openConnections, b.Rate, b.For, p.sendPost(writers, texts))
			return g.Wait()
		})
		note := fmt.Sprintf("%s posts/s with %d followers each wanted", short(b.Rate), b.Followers)
		return errors.Join(err, b.outcome("feed reads beside posts", reads, 1, "reads/s", note),
			b.outcome("posts beside feed reads", writes, 1, "posts/s", note))
	})
}
