package feeds_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"freshet/internal/feeds"
	"freshet/internal/feeds/feedstest"
)

var conformanceLayout = feeds.Layout{Zones: 3, FeedLength: 4}

func TestMiniredisConformsToTheModel(t *testing.T) {
	for seed := range uint64(3) {
		mini := miniredis.RunT(t)
		answerConfig(t, mini)
		now := time.Unix(0, 0)
		model := feedstest.NewModel(conformanceLayout, func() time.Time { return now })
		conn, err := feeds.Connect(t.Context(), conformanceLayout, []string{mini.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		feedstest.Compare(t, seed, 3000, conformanceLayout, conn, model, func(d time.Duration) {
			mini.FastForward(d)
			now = now.Add(d)
		})
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// answerConfig adds the one command that feeds asks for and miniredis lacks.
func answerConfig(t *testing.T, mini *miniredis.Miniredis) {
	t.Helper()
	err := mini.Server().Register("CONFIG", func(c *server.Peer, _ string, _ []string) {
		c.WriteMapLen(1)
		c.WriteBulk("maxmemory-policy")
		c.WriteBulk("noeviction")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A real redis-server: the one that REDIS_SERVER names, else the one in the PATH. Where CI runs there must be one.
func TestRedisConformsToTheModel(t *testing.T) {
	socket := realRedis(t)
	if socket == "" {
		return
	}
	conn, err := feeds.Connect(t.Context(), conformanceLayout, []string{socket})
	if err != nil {
		t.Fatal(err)
	}
	model := feedstest.NewModel(conformanceLayout, time.Now)
	feedstest.Compare(t, 8, 6000, conformanceLayout, conn, model, nil)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// realRedis starts a server for the test and answers its socket; empty where there is none to start.
func realRedis(t testing.TB) string {
	t.Helper()
	program := os.Getenv("REDIS_SERVER")
	if program == "" {
		found, err := exec.LookPath("redis-server")
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("no redis-server: %v; install it, or name it in REDIS_SERVER", err)
			}
			t.Logf("no redis-server here (%v): the model is held to miniredis alone", err)
			return ""
		}
		program = found
	}
	dir, err := os.MkdirTemp("", "redis") //nolint:usetesting // t.TempDir can be too long for the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := server.Start(); err != nil {
		cancel()
		t.Fatalf("start %s: %v", program, err)
	}
	t.Cleanup(func() {
		cancel()
		_ = server.Wait() // killed: always an error
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := feeds.Connect(t.Context(), conformanceLayout, []string{socket})
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", program, err)
		}
	}
}
