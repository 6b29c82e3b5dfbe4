//go:build real

package servers

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// started starts a server, closes it at the end, and shows how long it took.
func started(t *testing.T, start func(context.Context, Options) (*Server, error), o Options) *Server {
	t.Helper()
	begin := time.Now()
	s, err := start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %s", time.Since(begin).Round(10*time.Millisecond))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask sends a line to Redis and returns the answer.
func ask(t *testing.T, s *Server, line string) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(line + "\r\nQUIT\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1000)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(string(b[:n]), "+OK\r\n", "")), " ")
}

func TestRedis(t *testing.T) {
	s := started(t, Redis, Options{})
	ask(t, s, "SET a 1")
	if got := ask(t, s, "GET a"); got != "$1 1" {
		t.Errorf("got %q", got)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", s.Addrs()[0]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the kill: %v", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s, "GET a"); got != "$-1" {
		t.Errorf("after the kill: got %q, want nothing", got)
	}
}

func TestRedisSettings(t *testing.T) {
	s := started(t, Redis, Options{Settings: map[string]string{"appendonly": "yes", "appendfsync": "always"}})
	ask(t, s, "SET a 1")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s, "GET a"); got != "$1 1" {
		t.Errorf("got %q", got)
	}
	_, err := Redis(t.Context(), Options{Dir: t.TempDir(), Settings: map[string]string{"no-such-setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("a setting that Redis does not know: got %v, want its log", err)
	}
}

func produce(t *testing.T, s *Server, value string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Addrs()...), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func consume(t *testing.T, s *Server, count int) string {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Addrs()...), kgo.ConsumeTopics("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	for len(got) < count {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("got %v, then %v", got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return strings.Join(got, " ")
}

func createTopic(t *testing.T, s *Server) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Addrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 1, -1, nil, "t"); err != nil {
		t.Fatal(err)
	}
}

func TestKafka(t *testing.T) {
	s := started(t, Kafka, Options{})
	createTopic(t, s)
	produce(t, s, "a")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	produce(t, s, "b")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	produce(t, s, "c")
	if got := consume(t, s, 3); got != "a b c" {
		t.Errorf("got %q", got)
	}
	out, err := KafkaTool(t.Context(), "org.apache.kafka.tools.TopicCommand",
		"--bootstrap-server", s.Addrs()[0], "--list")
	if err != nil || strings.TrimSpace(string(out)) != "t" {
		t.Errorf("Kafka's own tool lists %q, %v", out, err)
	}
}

// Two of three brokers go on without the third.
func TestKafkaThreeBrokers(t *testing.T) {
	s := started(t, Kafka, Options{Brokers: 3})
	createTopic(t, s)
	var want []string
	for node := range s.Addrs() {
		for _, value := range []string{"before", "without"} {
			want = append(want, value)
			produce(t, s, value)
			if value == "before" {
				if err := s.Kill(node); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := consume(t, s, len(want)); got != strings.Join(want, " ") {
		t.Errorf("got %q", got)
	}
}

func TestCassandra(t *testing.T) {
	s := started(t, Cassandra, Options{Dir: t.TempDir()})
	session := func() *gocql.Session {
		t.Helper()
		config := gocql.NewCluster(s.Addrs()...)
		config.Timeout, config.ConnectTimeout = 30*time.Second, 30*time.Second
		c, err := config.CreateSession()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := session()
	for _, statement := range []string{
		"CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 1}",
		"CREATE TABLE k.t (a int PRIMARY KEY, b text)",
		"INSERT INTO k.t (a, b) VALUES (1, 'kept')",
	} {
		if err := c.Query(statement).Exec(); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	c = session()
	defer c.Close()
	var got string
	if err := c.Query("SELECT b FROM k.t WHERE a = 1").Scan(&got); err != nil || got != "kept" {
		t.Errorf("after a restart: got %q, %v", got, err)
	}
}
