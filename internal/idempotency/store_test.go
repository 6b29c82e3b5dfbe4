package idempotency

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet"
	"freshet/internal/embedded"
	"freshet/internal/feeds"
	"freshet/internal/kafka/kafkatest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// link is a connection to Redis that can be cut.
type link struct {
	feeds.Conn
	cut atomic.Bool
}

func (l *link) Do(ctx context.Context, ops ...feeds.Op) error {
	if l.cut.Load() {
		return feeds.ErrAway
	}
	return l.Conn.Do(ctx, ops...)
}

func startRedis(t *testing.T) func() *link {
	t.Helper()
	redis, err := embedded.StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	conn, err := feeds.Connect(t.Context(), feeds.Layout{Zones: 4, FeedLength: 5}, []string{redis.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return func() *link { return &link{Conn: conn} }
}

func claim(t *testing.T, s *Store, name string, post freshet.PostID) *Claim {
	t.Helper()
	c, answer, err := s.Claim(t.Context(), "ada", name, "request", post)
	if err != nil || c == nil {
		t.Fatalf("claim %s: answered %q: %v", name, answer, err)
	}
	return c
}

// refused wants no claim: an answer or an error.
func refused(t *testing.T, s *Store, name, request, answer string, want error) {
	t.Helper()
	c, got, err := s.Claim(t.Context(), "ada", name, request, 99)
	if c != nil || string(got) != answer || !errors.Is(err, want) {
		t.Errorf("claim %s for %s: %v, answered %q, %v; want %q, %v", name, request, c, got, err, answer, want)
	}
}

func TestStore(t *testing.T) {
	dial := startRedis(t)
	here, there := &Store{Conn: dial()}, &Store{Conn: dial()}
	c := claim(t, here, "1", 7)
	if c.Post != 7 {
		t.Errorf("post %d", c.Post)
	}
	for _, s := range []*Store{here, there} {
		refused(t, s, "1", "request", "", ErrBusy)
		refused(t, s, "1", "another", "", ErrOther)
	}
	c.Keep(t.Context(), []byte("done"))
	for _, s := range []*Store{here, there} {
		refused(t, s, "1", "request", "done", nil)
		refused(t, s, "1", "another", "", ErrOther)
	}
	other, _, err := there.Claim(t.Context(), "bob", "1", "another", 8)
	if err != nil || other.Post != 8 {
		t.Errorf("another caller's request of that name: %v", err)
	}
	other.Release(t.Context(), false)

	// An attempt that failed for certain leaves nothing; one of which that is not certain leaves the id of its post.
	claim(t, here, "2", 10).Release(t.Context(), false)
	claim(t, there, "2", 11).Release(t.Context(), true)
	if c := claim(t, here, "2", 12); c.Post != 11 {
		t.Errorf("post %d after an attempt that may have written 11", c.Post)
	}
	if n := len(here.here); n != 1 || here.bytes != 0 { // the one that is being worked on
		t.Errorf("%d requests, %d bytes are remembered here, and Redis has them", n, here.bytes)
	}
}

func TestStoreWithoutRedis(t *testing.T) {
	dial := startRedis(t)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	conn := dial()
	s := &Store{Conn: conn, Now: func() time.Time { return now }}
	there := &Store{Conn: dial()}

	// Away all the time.
	conn.cut.Store(true)
	c := claim(t, s, "1", 7)
	refused(t, s, "1", "request", "", ErrBusy)
	c.Keep(t.Context(), []byte("done"))
	refused(t, s, "1", "request", "done", nil)
	refused(t, s, "1", "another", "", ErrOther)
	conn.cut.Store(false)
	refused(t, s, "1", "request", "done", nil)
	claim(t, there, "1", 8).Release(t.Context(), false) // who cannot know

	// Gone before the end.
	c = claim(t, s, "2", 9)
	conn.cut.Store(true)
	c.Keep(t.Context(), []byte("two"))
	refused(t, s, "2", "request", "two", nil)
	refused(t, there, "2", "request", "", ErrBusy)
	claim(t, s, "3", 10).Release(t.Context(), true)
	if c = claim(t, s, "3", 11); c.Post != 10 {
		t.Errorf("post %d after an attempt that may have written 10", c.Post)
	}
	c.Release(t.Context(), false) // it failed for certain, but the attempt before it may not have
	if c = claim(t, s, "3", 12); c.Post != 10 {
		t.Errorf("post %d after two attempts, of which the first may have written 10", c.Post)
	}
	c.Release(t.Context(), false)

	now = now.Add(feeds.AnswerLife)
	claim(t, s, "1", 13).Release(t.Context(), false)
	claim(t, s, "2", 14).Release(t.Context(), false)
	claim(t, s, "3", 15).Release(t.Context(), false)
	if len(s.here) != 0 || s.done.Len() != 0 || s.bytes != 0 {
		t.Errorf("%d requests, %d answers, %d bytes are remembered at the end", len(s.here), s.done.Len(), s.bytes)
	}

	// What is remembered is bounded, and the oldest goes.
	large := []byte(strings.Repeat("x", mostBytes/4))
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		claim(t, s, name, 1).Keep(t.Context(), large)
	}
	if s.bytes > mostBytes {
		t.Errorf("%d bytes are remembered, more than %d", s.bytes, mostBytes)
	}
	refused(t, s, "e", "request", string(large), nil)
	claim(t, s, "a", 2).Release(t.Context(), false)
}

// Of many at once, one does it, whatever process they come to.
func TestStoreAtOnce(t *testing.T) {
	dial := startRedis(t)
	stores := []*Store{{Conn: dial()}, {Conn: dial()}, {Conn: dial()}}
	var did atomic.Int64
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ; ; <-tick.C {
				c, answer, err := stores[i%len(stores)].Claim(t.Context(), "ada", "1", "request", freshet.PostID(i+1))
				switch {
				case errors.Is(err, ErrBusy):
					continue
				case err != nil:
					t.Error(err)
				case c != nil:
					did.Add(1)
					c.Keep(t.Context(), []byte("done"))
				case string(answer) != "done":
					t.Errorf("answered %q", answer)
				}
				return
			}
		})
	}
	wg.Wait()
	if did.Load() != 1 {
		t.Errorf("it was done %d times", did.Load())
	}
}
