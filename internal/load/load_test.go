package load_test

import (
	"strings"
	"testing"
	"time"

	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/graph"
	"freshet/internal/kafka/kafkatest"
	"freshet/internal/load"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

func start(t *testing.T) string {
	t.Helper()
	cfg := config.Default()
	cfg.Partitions, cfg.Zones = 2, 4
	return apptest.Start(t, cfg).APIURL()
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
