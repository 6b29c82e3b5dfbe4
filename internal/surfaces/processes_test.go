package surfaces

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freshet/internal/app"
	"freshet/internal/config"
	"freshet/internal/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should happen soon.
const patience = 30 * time.Second

// process is a process of freshet with an API, in this one.
type process struct {
	testing.TB
	name string
	*app.App
	client *http.Client
}

// processes starts a Kafka, a Redis, a process that does everything and one that is an API only.
func processes(t *testing.T) []*process {
	t.Helper()
	dir := t.TempDir()
	kafka, err := embedded.StartKafka(filepath.Join(dir, "kafka"), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	redis, err := embedded.StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	c := config.Deployment()
	c.Apart, c.Kafka, c.Redis = true, kafka.Addrs(), []string{redis.Addr()}
	c.Partitions, c.Replication, c.MinInSync, c.Zones = 4, 1, 1, 8
	c.CursorKey, c.Listen, c.Admin = filepath.Join(dir, "cursor.key"), "127.0.0.1:0", "127.0.0.1:0"
	var started []*process
	for _, name := range []string{"processors", "one", "two"} {
		c.Roles, c.DataDir = []config.Role{config.API}, filepath.Join(dir, name)
		if name == "processors" {
			c.Roles = []config.Role{config.Directory, config.Following, config.Fanout, config.Archive}
		}
		p := start(t, name, c)
		if c.Has(config.API) {
			started = append(started, p)
		}
	}
	return started
}

func start(t *testing.T, name string, c config.Config) *process {
	t.Helper()
	a, err := app.Open(c, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s ended: %v", name, err)
		}
		transport.CloseIdleConnections()
	})
	select {
	case <-a.Ready():
	case <-time.After(patience):
		t.Fatalf("%s is not ready after %s: %v", name, patience, a.Missing())
	}
	return &process{t, name, a, &http.Client{Transport: transport}}
}

// ask sends a request as somebody, nil for nobody in particular.
func (p *process) ask(as *Account, method, path, body string) (status int, data []byte) {
	p.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, p.APIURL()+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if as != nil {
		r.Header.Set("Freshet-Viewer", as.ID)
	}
	response, err := p.client.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	if data, err = io.ReadAll(response.Body); err != nil {
		p.Fatal(err)
	}
	return response.StatusCode, data
}

// must sends a request that changes something, which has to be done.
func (p *process) must(method, path, body string) []byte {
	p.Helper()
	status, data := p.ask(nil, method, path, body)
	if status >= 300 {
		p.Fatalf("%s %s through %s: %d %s", method, path, p.name, status, data)
	}
	return data
}

// shown is a post as it is shown.
type shown struct {
	ID         string `json:"id"`
	Author     string `json:"author"`
	Text       string `json:"text"`
	ReplyTo    string `json:"reply_to"`
	Visibility string `json:"visibility"`
}

// list reads a list of posts to its end. whole is false where a page says that it lacks something, or there is none.
func (p *process) list(as *Account, path string, limit int) (posts []shown, whole bool, err error) {
	p.Helper()
	whole = true
	for cursor := ""; ; {
		status, data := p.ask(as, http.MethodGet, fmt.Sprintf("%s?limit=%d%s", path, limit, cursor), "")
		if status != http.StatusOK {
			return posts, false, fmt.Errorf("GET %s: %d %s", path, status, data)
		}
		var page struct {
			Items    []shown
			Next     string `json:"next_cursor"`
			Complete bool
		}
		if err := json.Unmarshal(data, &page); err != nil {
			p.Fatal(err)
		}
		posts = append(posts, page.Items...)
		if whole = whole && page.Complete; page.Next == "" || !whole {
			return posts, whole, nil
		}
		cursor = "&cursor=" + page.Next
	}
}

// until polls until something is so; what says what is lacking is for the message.
func until(t testing.TB, what string, is func() (lacks string)) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		lacks := is()
		if lacks == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s: %s: %s", patience, what, lacks)
		}
	}
}

// guarded is a list that grows.
type guarded[T any] struct {
	mu   sync.Mutex
	list []T
}

func (g *guarded[T]) add(v T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, v)
}

func (g *guarded[T]) from(n int) []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.list[n:len(g.list):len(g.list)]
}
