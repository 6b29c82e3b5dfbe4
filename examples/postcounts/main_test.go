package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"freshet/internal/app"
	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/kafka/kafkatest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// counting runs the example until the returned function is called, and gives out what it writes.
func counting(t *testing.T, a *app.App) (lines <-chan string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, a.Kafka(), write)
		_ = write.Close()
	}()
	out := make(chan string, 100)
	go func() {
		defer close(out)
		for scanner := bufio.NewScanner(read); scanner.Scan(); {
			out <- scanner.Text()
		}
	}()
	return out, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for range out {
		}
	}
}

func TestCounts(t *testing.T) {
	cfg := config.Default()
	cfg.Partitions, cfg.Zones, cfg.DataDir = 2, 4, t.TempDir()
	a := apptest.Start(t, cfg)
	do := func(method, path, body string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, a.APIURL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode >= 300 {
			t.Fatal(method, path, answer.Status, err)
		}
	}
	await := func(lines <-chan string, want string) {
		t.Helper()
		select {
		case line := <-lines:
			if _, count, _ := strings.Cut(line, " "); count != want {
				t.Fatalf("got %q, want a count of %s", line, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no count of %s", want)
		}
	}
	do(http.MethodPut, "/v1/accounts/ada", "{}")
	lines, stop := counting(t, a)
	for i := range 3 {
		do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"hello"}`)
		await(lines, fmt.Sprint(i+1))
	}
	stop()
	do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"while nobody counts"}`)
	lines, stop = counting(t, a)
	defer stop()
	await(lines, "4")
}
