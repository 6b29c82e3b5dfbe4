// Package apptest runs the program in a test's own process.
package apptest

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"freshet/internal/app"
	"freshet/internal/config"
)

// patience is how long a process may take until it is ready.
const patience = 30 * time.Second

// Start starts a process as cfg says, on ports that are free, and returns when it is ready. It ends with the test.
func Start(t testing.TB, cfg config.Config) *app.App {
	t.Helper()
	cfg.Listen, cfg.Admin, cfg.KafkaListen, cfg.RedisListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.Background())
	a, err := app.Open(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
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
	case <-time.After(patience):
		t.Fatalf("not ready after %s: %v", patience, a.Missing())
	}
	return a
}
