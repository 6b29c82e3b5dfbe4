package app_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/app"
	"freshet/internal/config"
	"freshet/internal/embedded"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// patience is how long a test waits for what should happen soon.
const patience = 30 * time.Second

// settings are those of a process that runs one role on a Kafka of its own.
func settings(t *testing.T, address string) config.Config {
	t.Helper()
	c := config.Deployment()
	c.Roles, c.Kafka = []config.Role{config.Directory}, []string{address}
	c.Partitions, c.Replication, c.MinInSync, c.DataDir = 2, 1, 1, t.TempDir()
	c.Listen, c.Admin = "127.0.0.1:0", "127.0.0.1:0"
	return c
}

// run opens and runs a process; what Run returns comes from the channel.
func run(t *testing.T, c config.Config) (*app.App, <-chan error) {
	t.Helper()
	a, err := app.Open(c, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		done <- a.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return a, done
}

func outcome(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("the process does not end")
		return nil
	}
}

// readiness is what the operators' listener says.
func readiness(t *testing.T, a *app.App) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.AdminURL()+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// freeAddress is one on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func TestKafkaThatComesLater(t *testing.T) {
	address := freeAddress(t)
	c := settings(t, address)
	c.Wait = time.Hour
	var broker *embedded.Kafka
	t.Cleanup(func() { // after the process
		if broker != nil {
			broker.Close()
		}
	})
	a, _ := run(t, c)
	await(t, "readiness tells that Kafka is away", func() bool {
		status, text := readiness(t, a)
		if status != http.StatusServiceUnavailable {
			t.Fatalf("ready without Kafka: %s", text)
		}
		return strings.Contains(text, "kafka is failed") && strings.Contains(text, address)
	})
	var err error
	if broker, err = embedded.StartKafka("", address); err != nil {
		t.Fatal(err)
	}
	await(t, "the process is ready", func() bool {
		status, _ := readiness(t, a)
		return status == http.StatusOK
	})
}

func TestWaitIsOver(t *testing.T) {
	c := settings(t, freeAddress(t))
	c.Wait = 0
	begun := time.Now()
	_, done := run(t, c)
	err := outcome(t, done)
	if !errors.Is(err, app.ErrUnreachable) || !strings.Contains(err.Error(), c.Kafka[0]) {
		t.Errorf("got %v, want ErrUnreachable and the address", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s to try once", took)
	}
}

// What trying again does not mend ends the process whatever --wait says.
func TestRefused(t *testing.T) {
	broker, err := embedded.StartKafka("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := settings(t, broker.Addrs()[0])
	c.Wait = time.Hour
	if err := kafka.EnsureTopics(t.Context(), c.Kafka, c.TopicSpecs(), c.TopicPolicy()); err != nil {
		t.Fatal(err)
	}
	t.Run("topics of another shape", func(t *testing.T) {
		c := c
		c.Partitions, c.DataDir = 4, t.TempDir()
		_, done := run(t, c)
		err := outcome(t, done)
		var topics *kafka.TopicsError
		if !errors.As(err, &topics) || !strings.Contains(err.Error(), "want 4, found 2") {
			t.Errorf("got %v, want the topics that differ", err)
		}
	})
	t.Run("another cluster", func(t *testing.T) {
		c := c
		c.DataDir = t.TempDir()
		if err := os.WriteFile(filepath.Join(c.DataDir, "kafka.cluster"), []byte("another\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, done := run(t, c)
		if err := outcome(t, done); err == nil || !strings.Contains(err.Error(), "made with cluster another") {
			t.Errorf("got %v, want a refusal that names both clusters", err)
		}
	})
}

// Processes of the API sign cursors with the key that they share.
func TestCursorKeyIsShared(t *testing.T) {
	broker, err := embedded.StartKafka("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close) // after the processes
	file := filepath.Join(t.TempDir(), "key")
	var first []byte
	for range 2 {
		c := settings(t, broker.Addrs()[0])
		c.CursorKey = file
		_, _ = run(t, c)
		key, err := os.ReadFile(file)
		if err != nil || len(key) != 32 || first != nil && !bytes.Equal(key, first) {
			t.Errorf("got %x, then %x, %v", first, key, err)
		}
		first = key
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := settings(t, broker.Addrs()[0])
	c.CursorKey = file
	if _, err := app.Open(c, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("a short key: %v", err)
	}
}
