//go:build real

package cassandrastore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freshet"
	"freshet/internal/posts"
	"freshet/internal/posts/poststest"
	"freshet/internal/servers"
)

// server is one Cassandra for all tests; each store has a keyspace of its own.
var server *servers.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = servers.Cassandra(context.Background(), servers.Options{QuickSchema: true}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		panic("these tests need Cassandra")
	}
	ignore := goleak.IgnoreCurrent() // who watches over the server
	goleak.VerifyTestMain(m, ignore, goleak.Cleanup(func(code int) {
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

var keyspaces atomic.Int32

func nextKeyspace() string { return fmt.Sprintf("test_%d", keyspaces.Add(1)) }

func options(keyspace string) Options {
	return Options{Addrs: server.Addrs(), Keyspace: keyspace, Replication: 1, Timeout: 30 * time.Second}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestStore(t *testing.T) {
	poststest.Run(t, func(t *testing.T) posts.Database { return open(t, options(nextKeyspace())) })
}

func created(id freshet.PostID, author freshet.Number, offset int64, text string) posts.Event {
	return posts.Event{Offset: offset, PostEvent: freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
		ID: id, Author: author, Text: text, Visibility: freshet.Public, CreatedAt: id.Time(),
	}}}
}

// Two processes that open the store share it; the second finds the tables.
func TestTwoProcesses(t *testing.T) {
	o := options(nextKeyspace())
	first, second := open(t, o), open(t, o)
	defer closeStore(t, first)
	defer closeStore(t, second)
	if err := first.Apply(t.Context(), []posts.Event{created(9, 5, 3, "text")}); err != nil {
		t.Fatal(err)
	}
	page, err := second.ByAuthor(t.Context(), 5, 0, 10)
	if err != nil || len(page) != 1 || page[0].ID != 9 {
		t.Errorf("got %+v, %v", page, err)
	}
}

// The tokens are the server's.
func TestTokensOfTheServer(t *testing.T) {
	s := open(t, options(nextKeyspace()))
	defer closeStore(t, s)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		a, b := rng.Int64()>>rng.IntN(63), rng.Int64()>>rng.IntN(63)
		writes := []write{
			{one(a), editPost, []any{a, 1, "", int64(0), 1}, 1},
			{two(a, b), setFollower, []any{a, b, 1, true, 1}, 1},
		}
		if err := s.send(t.Context(), writes); err != nil {
			t.Fatal(err)
		}
		var byID, byPair int64
		if err := s.query(t.Context(), "SELECT token(slice) FROM posts WHERE slice = ?", a).Scan(&byID); err != nil {
			t.Fatal(err)
		}
		err := s.query(t.Context(),
			"SELECT token(followee, bucket) FROM followers WHERE followee = ? AND bucket = ?", a, b).Scan(&byPair)
		if err != nil {
			t.Fatal(err)
		}
		if one(a).token() != byID || two(a, b).token() != byPair {
			t.Errorf("%d, %d: got %d, %d, want %d, %d", a, b, one(a).token(), two(a, b).token(), byID, byPair)
		}
	}
}

func TestTooManyReplicas(t *testing.T) {
	o := options(nextKeyspace())
	o.Replication = 3
	s, err := Open(t.Context(), o)
	if err == nil {
		closeStore(t, s)
		t.Fatal("opened")
	}
	for _, part := range []string{o.Addrs[0], o.Keyspace, "1 of the 2 replicas", "start the others"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// The store goes on by itself when the server has come back, with all that was acknowledged.
func TestServerGoesAndComes(t *testing.T) {
	own, err := servers.Cassandra(t.Context(), servers.Options{Settings: map[string]string{
		"commitlog_sync": "batch", "commitlog_sync_period": "0ms",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	}()
	o := options(nextKeyspace())
	o.Addrs, o.Timeout = own.Addrs(), 5*time.Second
	s := open(t, o)
	defer closeStore(t, s)
	if err := s.Apply(t.Context(), []posts.Event{created(1, 5, 1, "before")}); err != nil {
		t.Fatal(err)
	}
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	err = s.Apply(t.Context(), []posts.Event{created(2, 5, 2, "while it is down")})
	if err == nil || !strings.Contains(err.Error(), o.Addrs[0]) {
		t.Errorf("while it is down: got %v, want an error that names the address", err)
	}
	if err := own.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last error
	for {
		err := s.Apply(ctx, []posts.Event{created(2, 5, 2, "again")})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("it came back, and the store did not: %v; before that: %v", err, last)
		}
		last = err
	}
	page, err := s.ByAuthor(ctx, 5, 0, 10)
	if err != nil || len(page) != 2 || page[1].Text != "before" {
		t.Errorf("after it came back: got %+v, %v", page, err)
	}
}

// BenchmarkApply stores batches as large as the archive group's, of texts as long as a short message. Of 100 authors
// each has some forty posts in a batch; of 100,000 hardly one has two.
func BenchmarkApply(b *testing.B) {
	for _, authors := range []uint64{100, 100_000} {
		b.Run(fmt.Sprintf("authors=%d", authors), func(b *testing.B) {
			s := open(b, options(nextKeyspace()))
			defer closeStore(b, s)
			const batch = 4096
			text := strings.Repeat("some text ", 14)
			first := freshet.FirstPostID(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
			offset := int64(0)
			for b.Loop() {
				events := make([]posts.Event, batch)
				for i := range events {
					offset++
					events[i] = created(first+freshet.PostID(offset)<<16, freshet.Number(rand.Uint64N(authors)), offset, text)
				}
				if err := s.Apply(b.Context(), events); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(offset)/b.Elapsed().Seconds(), "posts/s")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	s := open(b, options(nextKeyspace()))
	defer closeStore(b, s)
	first := freshet.FirstPostID(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	var ids []freshet.PostID
	for i := range 20 {
		var events []posts.Event
		for j := range 1000 {
			id := first + freshet.PostID(i*1000+j)<<22
			ids = append(ids, id)
			events = append(events, created(id, freshet.Number(j%20), int64(i*1000+j), "text"))
		}
		if err := s.Apply(b.Context(), events); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("Posts-50", func(b *testing.B) {
		for b.Loop() {
			at := rand.IntN(len(ids) - 50)
			if found, err := s.Posts(b.Context(), ids[at:at+50]); err != nil || len(found) != 50 {
				b.Fatal(len(found), err)
			}
		}
	})
	for _, limit := range []int{50, 800} {
		b.Run(fmt.Sprintf("ByAuthor-%d", limit), func(b *testing.B) {
			for b.Loop() {
				if page, err := s.ByAuthor(b.Context(), freshet.Number(rand.IntN(20)), 0, limit); err != nil || len(page) != limit {
					b.Fatal(len(page), err)
				}
			}
		})
	}
}
