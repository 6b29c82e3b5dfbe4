package rebuild_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"freshet"
	"freshet/client"
	"freshet/internal/app/apptest"
	"freshet/internal/audit"
	"freshet/internal/config"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
	"freshet/internal/posts/pebblestore"
	"freshet/internal/rebuild"
	"freshet/processors/following"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for something that takes a moment.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not yet: %s", what)
		}
		<-tick.C
	}
}

// TestRebuild: trees that somebody has told wrong things come to agree with the rows, a post store is filled from the
// log, and feeds are made cold, each twice, in a program that runs.
func TestRebuild(t *testing.T) {
	cfg := config.Default()
	cfg.Partitions, cfg.Zones, cfg.PageSize, cfg.DataDir = 2, 4, 2, t.TempDir()
	a := apptest.Start(t, cfg)
	ctx := t.Context()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	api, err := client.New(client.Config{URL: a.APIURL(), HTTP: &http.Client{Transport: transport}})
	must(t, err)
	conn, err := feeds.Connect(ctx, cfg.Layout(), a.Redis())
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	for _, id := range []freshet.AccountID{"ann", "f0", "f1", "f2", "f3", "stranger"} {
		_, err := api.PutAccount(ctx, id, nil)
		must(t, err)
	}
	for _, id := range []freshet.AccountID{"f0", "f1", "f2", "f3"} {
		must(t, api.Follow(ctx, id, "ann"))
	}
	post, err := api.Publish(ctx, client.NewPost{Author: "ann", Text: "a post"})
	must(t, err)

	sources, err := audit.Open(ctx, audit.Config{
		Brokers: a.Kafka(), Names: cfg.Names(), Sarama: kafka.Config, Conn: conn, Layout: cfg.Layout(), Dir: t.TempDir(),
	})
	must(t, err)
	defer func() { must(t, sources.Close()) }()
	differ := func() (all []audit.TreeDifference) {
		must(t, sources.CompareTrees(ctx, func(some []audit.TreeDifference) error {
			all = append(all, some...)
			return nil
		}))
		return all
	}
	number := func(id freshet.AccountID) freshet.Number {
		account, _, err := sources.Account(id)
		must(t, err)
		return account.Number
	}

	t.Run("graph", func(t *testing.T) {
		if found := differ(); len(found) > 0 {
			t.Errorf("nothing is wrong, and %v differ", found)
		}
		// What a tree is told with a version that no event has yet, it keeps: its report is older than nothing.
		e, err := kafka.NewEmitter(a.Kafka(), "test", kafka.Config, cfg.Names().Topic(freshet.Followers),
			kafka.Codec[events.FollowerState, *events.FollowerState]{})
		must(t, err)
		for id, follows := range map[freshet.AccountID]bool{"stranger": true, "f2": false} {
			must(t, e.EmitSync(number("ann").Key(), &events.FollowerState{
				Follower: uint64(number(id)), Follows: follows, Version: following.VersionOf(1 << 30),
			}))
		}
		must(t, e.Finish())
		want := []audit.TreeDifference{
			{Author: number("ann"), Follower: number("f2")},
			{Author: number("ann"), Follower: number("stranger"), Holds: true},
		}
		await(t, "the trees are wrong", func() bool { return len(differ()) == 2 })
		if found := differ(); !slices.Contains(found, want[0]) || !slices.Contains(found, want[1]) {
			t.Errorf("%v differ, want %v", found, want)
		}
		graph := rebuild.Graph{
			Brokers: a.Kafka(), Names: cfg.Names(), Sarama: kafka.Config, Sources: sources, Progress: none,
		}
		s, err := graph.Run(ctx, nil)
		if err != nil || s.Rows != 4 || s.Wrong != 1 || s.Left != 0 {
			t.Errorf("%+v, %v; want four rows, one wrong follower, and nothing left", s, err)
		}
		if s, err = graph.Run(ctx, []freshet.Number{number("f0")}); err != nil || s != (rebuild.GraphSummary{Rows: 1}) {
			t.Errorf("again: %+v, %v", s, err)
		}
		if found := differ(); len(found) > 0 {
			t.Errorf("afterwards %v differ", found)
		}
	})

	t.Run("store", func(t *testing.T) {
		store, err := pebblestore.Open(t.TempDir(), pebblestore.Options{})
		must(t, err)
		defer func() { must(t, store.Close()) }()
		for range 2 {
			s, err := rebuild.Store{
				Brokers: a.Kafka(), Names: cfg.Names(), Sarama: kafka.Config, Store: store, Progress: none,
			}.Run(ctx)
			if err != nil || s != (rebuild.StoreSummary{Events: 1}) {
				t.Errorf("%+v, %v; want one event", s, err)
			}
			stored, err := store.ByAuthor(ctx, number("ann"), 0, 10)
			if err != nil || len(stored) != 1 || stored[0].ID != post.ID || stored[0].Text != "a post" {
				t.Errorf("the store has %+v (%v)", stored, err)
			}
		}
	})

	t.Run("feeds", func(t *testing.T) {
		read := func() {
			for _, id := range []freshet.AccountID{"f0", "f1"} {
				n := 0
				for p, err := range api.Feed(context.Background(), id) {
					must(t, err)
					if p.ID == post.ID {
						n++
					}
				}
				if n != 1 {
					t.Errorf("the feed of %s has the post %d times", id, n)
				}
			}
		}
		read()
		f := rebuild.Feeds{Conn: conn, Layout: cfg.Layout(), Rate: 1000, Progress: none}
		size, err := audit.Size(ctx, audit.Config{Brokers: a.Kafka(), Names: cfg.Names(), Sarama: kafka.Config})
		must(t, err)
		for _, want := range []int{2, 0} {
			if s, err := f.All(ctx, size); err != nil || s.Cold != want || s.Lost > 0 {
				t.Errorf("%+v, %v; want %d feeds made cold", s, err, want)
			}
		}
		read()
		numbers, err := audit.Numbers(ctx, audit.Config{
			Brokers: a.Kafka(), Names: cfg.Names(), Sarama: kafka.Config, Dir: t.TempDir(),
		}, []freshet.AccountID{"f0"})
		must(t, err)
		if s, err := f.Some(ctx, numbers); err != nil || s.Cold != 1 || s.Blocks != 1 {
			t.Errorf("%+v, %v; want one feed made cold", s, err)
		}
		read()
	})
}

func none(string, int, int) {}
