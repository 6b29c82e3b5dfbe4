package kafka

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"freshet"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The tests of this file show what goka does on its own, and that it does not happen here.

// A message that is still at work must not be committed because later ones are done.
func TestMarksOutOfOrder(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, ours bool) (*cluster, *deferrals) {
		c := newCluster(t, 2, "posts")
		c.write("posts", 0, 4)
		c.write("posts", 1, 1)
		var group *Group
		if ours {
			group = c.group("g", nil)
		}
		var d deferrals
		c.start(group, "g", edges(textInput("posts", func(ctx goka.Context, _ any) {
			if ctx.Partition() == 0 {
				d.add(ctx)
			}
		})))
		t.Cleanup(d.finishAll)
		await(t, "all delivered", func() bool { return d.count() == 4 })
		for _, offset := range []int64{3, 1, 2} {
			d.finish(offset)
		}
		// A message that is marked after them and committed shows that their commit has been, too.
		c.write("posts", 1, 1)
		c.awaitCommitted("g", "posts", 1, 2)
		return c, &d
	}
	t.Run("goka loses the message that is at work", func(t *testing.T) {
		t.Parallel()
		c, _ := run(t, false)
		c.awaitCommitted("g", "posts", 0, 4)
	})
	t.Run("ours waits for it", func(t *testing.T) {
		t.Parallel()
		c, d := run(t, true)
		if at := c.committed("g", "posts", 0); at != -1 {
			t.Fatalf("committed %d while message 0 is at work", at)
		}
		d.finish(0)
		c.awaitCommitted("g", "posts", 0, 4)
	})
}

// A callback that fails because the processor is shutting down must not be committed.
func TestFailureAtShutdown(t *testing.T) {
	t.Parallel()
	lost := errors.New("redis: connection closed")
	run := func(t *testing.T, ours bool, callback func(began chan struct{}) goka.Edge) int64 {
		c := newCluster(t, 1, "posts", testNames.Topic(freshet.DeadLetters))
		c.put(&kgo.Record{Topic: "posts", Value: encoded("x")})
		began := make(chan struct{})
		var group *Group
		if ours {
			group = c.group("g", nil)
		}
		r := c.start(group, "g", edges(callback(began), DeadLetters(testNames)))
		<-began
		if err := r.stop(); !errors.Is(err, lost) {
			t.Errorf("Run returned %v, want %v", err, lost)
		}
		return c.committed("g", "posts", 0)
	}
	t.Run("goka commits it", func(t *testing.T) {
		t.Parallel()
		at := run(t, false, func(began chan struct{}) goka.Edge {
			return textInput("posts", func(ctx goka.Context, _ any) {
				close(began)
				<-ctx.Context().Done()
				ctx.Fail(lost)
			})
		})
		if at != 1 {
			t.Errorf("committed %d: goka has changed, and Handle need not work around it", at)
		}
	})
	for name, fail := range map[string]func(goka.Context) error{
		"an error of a callback is not": func(goka.Context) error { return lost },
		"nor is its Fail":               func(ctx goka.Context) error { ctx.Fail(lost); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := run(t, true, func(began chan struct{}) goka.Edge {
				return Input("posts", testNames, "g", func(ctx goka.Context, _ *word) error {
					close(began)
					<-ctx.Context().Done()
					return fail(ctx)
				})
			})
			if at != -1 {
				t.Errorf("committed %d, want nothing", at)
			}
		})
	}
}

// A deferred commit that is never called blocks a shutdown for a minute; so it has to be called, as Handle does for
// every error, and a shutdown then ends at once.
func TestDeferredCommitThatIsNotCalled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts")
	c.write("posts", 0, 1)
	var d deferrals
	r := c.start(c.group("g", nil), "g", edges(textInput("posts", func(ctx goka.Context, _ any) { d.add(ctx) })))
	await(t, "delivered", func() bool { return d.count() == 1 })
	r.cancel()
	select {
	case <-r.done:
		t.Fatal("the processor has stopped while a deferred commit was open")
	case <-time.After(1500 * time.Millisecond):
	}
	d.finishAll()
	began := time.Now()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("the stop took %s", took)
	}
	// It was finished after the session had been told to end, and is committed all the same.
	c.awaitCommitted("g", "posts", 0, 1)
}

// gaps notes when sarama's Consume is left and entered again.
type gaps struct {
	sarama.ConsumerGroup
	mu     sync.Mutex
	left   time.Time
	length chan time.Duration
}

func (g *gaps) Consume(ctx context.Context, topics []string, h sarama.ConsumerGroupHandler) error {
	g.mu.Lock()
	if !g.left.IsZero() {
		select {
		case g.length <- time.Since(g.left):
		default:
		}
	}
	g.mu.Unlock()
	err := g.ConsumerGroup.Consume(ctx, topics, h)
	g.mu.Lock()
	g.left = time.Now()
	g.mu.Unlock()
	return err
}

// goka sleeps for 5 s after each rebalance; ours stays in the group.
func TestRebalanceGap(t *testing.T) {
	t.Parallel()
	t.Run("goka sleeps", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, 2, "posts")
		g := &gaps{length: make(chan time.Duration, 1)}
		var s seen
		c.write("posts", 0, 1)
		edge := edges(textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) }))
		c.start(nil, "g", edge, goka.WithConsumerGroupBuilder(
			func(brokers []string, group, clientID string) (sarama.ConsumerGroup, error) {
				inner, err := sarama.NewConsumerGroup(brokers, group, testConfig(clientID))
				g.ConsumerGroup = inner
				return g, err
			}))
		await(t, "processing", func() bool { return s.total.Load() == 1 })
		c.start(c.group("g", nil), "g", edge) // the rebalance
		if gap := <-g.length; gap < 4*time.Second {
			t.Errorf("gap of %s: goka has changed, and need not be kept in Consume", gap)
		}
	})
	t.Run("ours does not", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, 2, "posts")
		var s seen
		edge := edges(textInput("posts", func(ctx goka.Context, _ any) { s.add(ctx) }))
		first, second := c.group("g", nil), c.group("g", nil)
		c.start(first, "g", edge)
		await(t, "the first has everything", func() bool { return len(first.Assignment()["posts"]) == 2 })
		began := time.Now()
		other := c.start(second, "g", edge)
		await(t, "both have a partition", func() bool {
			return len(first.Assignment()["posts"]) == 1 && len(second.Assignment()["posts"]) == 1
		})
		joined := time.Since(began)
		c.write("posts", 0, 1)
		c.write("posts", 1, 1)
		await(t, "both consume", func() bool { return s.total.Load() == 2 })
		began = time.Now()
		if err := other.stop(); err != nil {
			t.Error(err)
		}
		await(t, "the first has everything again", func() bool { return len(first.Assignment()["posts"]) == 2 })
		t.Logf("joined after %s, took over after %s", joined, time.Since(began))
		if joined > 3*time.Second || time.Since(began) > 3*time.Second {
			t.Errorf("joined after %s, took over after %s: want well below goka's 5s", joined, time.Since(began))
		}
	})
}
