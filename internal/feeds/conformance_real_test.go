//go:build real

package feeds_test

import (
	"testing"
	"time"

	"freshet/internal/feeds"
	"freshet/internal/feeds/feedstest"
	"freshet/internal/servers"
)

// A cluster of six nodes, with zones on all three masters, gives the answers that the model gives.
func TestRedisClusterConformsToTheModel(t *testing.T) {
	server, err := servers.Redis(t.Context(), servers.Options{RedisNodes: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	layout := feeds.Layout{Zones: 8, FeedLength: 4}
	conn, err := feeds.Connect(t.Context(), layout, server.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	feedstest.Compare(t, 8, 6000, layout, conn, feedstest.NewModel(layout, time.Now), nil)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
