package feeds

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
)

// gather sends what many goroutines ask of a Redis node at the same time in one pipeline. A request goes at once, and
// alone, as long as few are under way; others wait for the next pipeline, which takes all of them. So the more requests
// there are, the less each costs: most of it are system calls.
type gather struct {
	client redis.UniversalClient

	mu      sync.Mutex
	waiting []*call
	senders int
	closed  bool
	running sync.WaitGroup // senders
}

// call is the commands of one request. Their answers are read by who asked, after done.
type call struct {
	ctx      context.Context
	commands []redis.Cmder
	done     chan struct{}
}

const (
	// gatherSenders is how many pipelines may be under way: enough that a slow one does not hold all others up.
	gatherSenders = 4
	// gatherRequest is how many commands a request may have to be gathered, a page of a feed and some; others do not wait
	// for a flush. gatherCommands is how many a pipeline has at most.
	gatherRequest  = 128
	gatherCommands = 1024
)

var errConnClosed = errors.New("the connection to redis is closed")

// do runs the commands. When ctx ends before, it returns its error; commands that are under way then may still run, and
// those that wait do not.
func (g *gather) do(ctx context.Context, commands []redis.Cmder) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return errConnClosed
	}
	if g.senders < gatherSenders {
		g.senders++
		g.running.Add(1)
		g.mu.Unlock()
		defer g.running.Done()
		defer g.next()
		pipeline(ctx, g.client, commands)
		return nil
	}
	c := &call{ctx: ctx, commands: commands, done: make(chan struct{})}
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pipeline runs commands, each of which knows its own error then.
func pipeline(ctx context.Context, client redis.UniversalClient, commands []redis.Cmder) {
	pipe := client.Pipeline()
	_ = pipe.BatchProcess(ctx, commands...) // queueing has no errors
	_, _ = pipe.Exec(ctx)
}

// next lets what waits follow a pipeline that has ended.
func (g *gather) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := g.take()
	if len(calls) == 0 {
		g.senders--
		return
	}
	g.running.Go(func() {
		var commands []redis.Cmder
		for _, c := range calls {
			commands = append(commands, c.commands...)
		}
		pipeline(context.Background(), g.client, commands)
		for _, c := range calls {
			close(c.done)
		}
		g.next()
	})
}

// take is what the next pipeline sends. Requests whose caller has gone are dropped: behind a Redis that does not answer
// they would pile up, and be run before those of callers who still wait. The caller holds mu.
func (g *gather) take() []*call {
	var calls []*call
	n, commands := 0, 0
	for _, c := range g.waiting {
		if len(calls) > 0 && commands+len(c.commands) > gatherCommands {
			break
		}
		n++
		if c.ctx.Err() == nil {
			calls = append(calls, c)
			commands += len(c.commands)
		}
	}
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
	return calls
}

// close lets no request in any more, and waits for those that are.
func (g *gather) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.running.Wait()
}
