package api_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet"
	"freshet/api"
	"freshet/emitters"
	"freshet/internal/embedded"
	"freshet/internal/feeds"
	"freshet/internal/idempotency"
)

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

// failing writers lose their answers.
type failing struct {
	api.PostWriter
	fails atomic.Bool
	asked chan struct{} // if not nil, told of each post, which waits for held
	held  chan struct{}
}

func (f *failing) Publish(ctx context.Context, p freshet.Post) (emitters.Position, error) {
	if f.asked != nil {
		f.asked <- struct{}{}
		<-f.held
	}
	at, err := f.PostWriter.Publish(ctx, p)
	if f.fails.Load() {
		return emitters.Position{}, emitters.ErrUnavailable
	}
	return at, err
}

// Publish of a post that is there changes nothing, as in the log.
func (d *deployment) once() *failing { return &failing{PostWriter: &sameOnce{d.posts}} }

type sameOnce struct{ *memoryPosts }

func (s *sameOnce) Publish(ctx context.Context, p freshet.Post) (emitters.Position, error) {
	if _, found, err := s.Post(ctx, p.ID); found || err != nil {
		return emitters.Position{Topic: freshet.Posts, Offset: 1, Key: p.Author.Key()}, err
	}
	return s.memoryPosts.Publish(ctx, p)
}

// twoProcesses of one deployment, on one Redis.
func twoProcesses(t *testing.T, d *deployment) (here, there *process, conns []*link, writer *failing) {
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
	free := d.start(t)
	free.register("ada")
	writer = d.once()
	open := func() *process {
		l := &link{Conn: conn}
		conns = append(conns, l)
		return guarded(free).with(func(c *api.Config) {
			c.Publisher, c.Answers = writer, &idempotency.Store{Conn: l}
		})
	}
	here, there = open(), open()
	return here, there, conns, writer
}

func (d *deployment) count() int {
	d.posts.mu.Lock()
	defer d.posts.mu.Unlock()
	return len(d.posts.posts)
}

const hello = `{"author":"ada","text":"hello"}`

func (p *process) name(bearer, body, name string) answer {
	p.t.Helper()
	return p.as(bearer, http.MethodPost, "/v1/posts", body, "Idempotency-Key", name)
}

func TestSameKeySameAnswer(t *testing.T) {
	d := deploy(t)
	here, there, conns, writer := twoProcesses(t, d)
	same := func(a, b answer) {
		t.Helper()
		for _, name := range []string{"Location", "Freshet-Position", "Content-Type"} {
			if a.header.Get(name) != b.header.Get(name) || a.header.Get(name) == "" {
				t.Errorf("%s: %q and then %q", name, a.header.Get(name), b.header.Get(name))
			}
		}
		if a.status != b.status || !bytes.Equal(a.body, b.body) {
			t.Errorf("%d %s, and then %d %s", a.status, a.body, b.status, b.body)
		}
	}
	count := func(want int) {
		t.Helper()
		if got := d.count(); got != want {
			t.Fatalf("%d posts, want %d", got, want)
		}
	}
	first := here.name("ada", hello, "1").want(http.StatusCreated)
	same(first, here.name("ada", hello, "1"))
	same(first, there.name("ada", hello, "1"))
	count(1)
	there.name("ada", strings.Replace(hello, "hello", "other", 1), "1").want(http.StatusUnprocessableEntity)
	there.name("backend", hello, "1").want(http.StatusCreated) // another caller's name
	there.name("ada", hello, "2").want(http.StatusCreated)
	there.as("ada", http.MethodPost, "/v1/posts", hello).want(http.StatusCreated)
	count(4)

	// What was refused may be sent again, better, under the same name; it was not done.
	here.name("ada", `{"author":"ada","text":""}`, "3").want(http.StatusUnprocessableEntity)
	here.name("bob", hello, "3").want(http.StatusForbidden)
	there.name("ada", hello, "3").want(http.StatusCreated)
	count(5)

	// An attempt whose end nobody knows, and another in another process: one post.
	writer.fails.Store(true)
	here.name("ada", hello, "4").want(http.StatusServiceUnavailable)
	writer.fails.Store(false)
	there.name("ada", hello, "4").want(http.StatusCreated)
	count(6)

	// Redis is away.
	conns[0].cut.Store(true)
	first = here.name("ada", hello, "5").want(http.StatusCreated)
	same(first, here.name("ada", hello, "5"))
	conns[0].cut.Store(false)
	same(first, here.name("ada", hello, "5"))
	count(7)

	for _, name := range []string{"", "a b", "ü", strings.Repeat("x", 256)} {
		here.name("ada", hello, name).want(http.StatusBadRequest)
	}
	here.name("ada", hello, strings.Repeat("x", 255)).want(http.StatusCreated)
	large := `{"author":"ada","text":"` + strings.Repeat("x", api.MaxBody) + `"}`
	here.name("ada", large, "6").want(http.StatusRequestEntityTooLarge)
}

func TestSameKeyAtOnce(t *testing.T) {
	d := deploy(t)
	here, there, conns, writer := twoProcesses(t, d)
	for name, cut := range map[string]bool{"redis-there": false, "redis-away": true} {
		conns[0].cut.Store(cut)
		before := d.count()
		writer.asked, writer.held = make(chan struct{}), make(chan struct{})
		var first sync.WaitGroup
		first.Go(func() {
			if a := here.name("ada", hello, name); a.status != http.StatusCreated {
				t.Errorf("%s: the first: %d %s", name, a.status, a.body)
			}
		})
		<-writer.asked
		processes := []*process{here, there}
		if cut {
			processes = processes[:1] // others cannot know
		}
		for _, p := range processes {
			busy := p.name("ada", hello, name).want(http.StatusConflict)
			if busy.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		close(writer.held)
		first.Wait()
		writer.asked = nil

		var wg sync.WaitGroup
		for i := range 20 {
			p := processes[i%len(processes)]
			wg.Go(func() {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				a := p.name("ada", hello, name+"-many")
				for ; a.status == http.StatusConflict; a = p.name("ada", hello, name+"-many") {
					<-tick.C
				}
				if a.status != http.StatusCreated {
					t.Errorf("%s: %d %s", name, a.status, a.body)
				}
			})
		}
		wg.Wait()
		if got := d.count() - before; got != 2 {
			t.Errorf("%s: %d posts, want 2", name, got)
		}
	}
}
