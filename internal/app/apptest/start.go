// Package apptest runs the program in a test's own process.
package apptest

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"freshet/internal/app"
	"freshet/internal/config"
	"freshet/internal/embedded"
)

// patience is how long a process may take until it is ready.
const patience = 30 * time.Second

// Start starts a process as cfg says, on ports that are free, and returns when it is ready. It ends with the test.
func Start(t testing.TB, cfg config.Config) *app.App {
	t.Helper()
	a, _ := Run(t, cfg)
	return a
}

// Run is Start of a process that can be ended before the test: stop returns when it has ended.
func Run(t testing.TB, cfg config.Config) (a *app.App, stop func()) {
	t.Helper()
	cfg.Listen, cfg.Admin, cfg.KafkaListen, cfg.RedisListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	a, err := app.Open(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the process of %v ended: %v", cfg.Roles, err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-a.Ready():
	case <-time.After(patience):
		t.Fatalf("the process of %v is not ready after %s: %v", cfg.Roles, patience, a.Missing())
	}
	return a, stop
}

// Servers starts a Kafka and a Redis that end with the test, both in memory, and returns what the processes of a
// deployment on them have in common. Each still needs its roles and a directory for its data; dir has what they share.
func Servers(t testing.TB, dir string) config.Config {
	t.Helper()
	kafka, err := embedded.StartKafka("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	redis, err := embedded.StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	cfg := config.Deployment()
	cfg.Apart, cfg.Kafka, cfg.Redis = true, kafka.Addrs(), []string{redis.Addr()}
	cfg.Partitions, cfg.Replication, cfg.MinInSync, cfg.Zones = 4, 1, 1, 8
	cfg.CursorKey = filepath.Join(dir, "cursor.key")
	return cfg
}
