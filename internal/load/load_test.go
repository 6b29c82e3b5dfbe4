package load_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freshet/internal/app"
	"freshet/internal/config"
	"freshet/internal/graph"
	"freshet/internal/load"
)

// A client of sarama's that is closed while it opens a connection leaves the connection's reader behind, about once in
// a hundred runs.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/IBM/sarama.(*Broker).responseReceiver"))
}

func start(t *testing.T) string {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.KafkaListen, cfg.RedisListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Partitions, cfg.Zones = 2, 4
	ctx, cancel := context.WithCancel(context.Background())
	a, err := app.Open(ctx, cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the process ended: %v", err)
		}
	})
	select {
	case <-a.Ready():
	case <-time.After(30 * time.Second):
		t.Fatalf("not ready: %v", a.Missing())
	}
	return a.APIURL()
}

// A load on a network of its own is accepted, and its posts come into feeds; the same accounts serve a second load as
// an imported graph, and what the API refuses is counted.
func TestLoad(t *testing.T) {
	api := start(t)
	c := load.Config{
		API: api, Network: load.Made(30, 4, 1), PostRate: 50, FollowRate: 20, ReadRate: 100, For: time.Second, Probe: 5,
		Workers: 8, Seed: 1,
	}
	r, err := load.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]load.Kind{"posts": r.Posts, "follows": r.Follows, "reads": r.Reads} {
		if kind.Sent == 0 || kind.Accepted != kind.Sent || kind.Errors != 0 || kind.Answers == nil {
			t.Errorf("%s: %+v", name, kind)
		}
	}
	if r.Posts.Sent != 50 || r.Follows.Sent != 20 || r.Reads.Sent != 100 {
		t.Errorf("sent %d posts, %d follows, %d reads; want 50, 20, 100", r.Posts.Sent, r.Follows.Sent, r.Reads.Sent)
	}
	if r.PostToFeed == nil || r.PostToFeed.Count != 10 || r.Unseen != 0 {
		t.Errorf("post to feed: %+v, %d unseen; want 10 seen", r.PostToFeed, r.Unseen)
	}

	g, _, err := graph.Read(strings.NewReader("load-1 load-0\nload-2 nobody\n"))
	if err != nil {
		t.Fatal(err)
	}
	c.Network, c.FollowRate, c.Probe = load.Imported(g), 0, 0
	if r, err = load.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if r.Posts.Errors == 0 || r.Posts.Accepted == 0 || !strings.Contains(r.Posts.First, "nobody") {
		t.Errorf("posts of an account that is not there: %+v", r.Posts)
	}
	if r.Follows.Sent != 0 || r.PostToFeed != nil {
		t.Errorf("what was not wanted: %+v, %+v", r.Follows, r.PostToFeed)
	}
}
