package feeds

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// gather sends what many goroutines ask of a Redis node at the same time in one pipeline. A request that comes alone
// goes at once; while the pipelines that may be under way are, others wait for the next, which takes all of them. So the
// more requests there are, the less each costs: most of it are system calls.
type gather struct {
	client redis.UniversalClient

	mu      sync.Mutex
	waiting []*call
	senders int
	running sync.WaitGroup
}

// call is the commands of one request. Their answers are read by who asked, after done.
type call struct {
	commands []redis.Cmder
	done     chan struct{}
}

const (
	// gatherSenders is how many pipelines may be under way: one is written while the answers of another are read.
	gatherSenders = 2
	// gatherCommands is what a request may have to be sent with others, and about how much a pipeline has: others do not
	// wait for a flush.
	gatherCommands = 512
)

// do runs the commands. When ctx ends before, it returns its error, and the commands may still run.
func (g *gather) do(ctx context.Context, commands []redis.Cmder) error {
	c := &call{commands: commands, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	if g.senders < gatherSenders {
		g.senders++
		g.running.Go(g.send)
	}
	g.mu.Unlock()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send sends pipelines until nothing waits.
func (g *gather) send() {
	for {
		calls := g.take()
		if len(calls) == 0 {
			return
		}
		pipe := g.client.Pipeline()
		for _, c := range calls {
			for _, command := range c.commands {
				_ = pipe.Process(context.Background(), command) // queueing has no errors
			}
		}
		_, _ = pipe.Exec(context.Background()) // each command knows its own error
		for _, c := range calls {
			close(c.done)
		}
	}
}

// take is what the next pipeline sends; nothing, and one sender less, if nothing waits.
func (g *gather) take() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, commands := 0, 0
	for n < len(g.waiting) && (n == 0 || commands+len(g.waiting[n].commands) <= gatherCommands) {
		commands += len(g.waiting[n].commands)
		n++
	}
	if n == 0 {
		g.senders--
		return nil
	}
	calls := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
	return calls
}

// wait waits for the pipelines under way; no request may come any more.
func (g *gather) wait() { g.running.Wait() }
