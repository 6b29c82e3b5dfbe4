package surfaces

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/app"
	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/kafka/kafkatest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// patience is how long a test waits for what should happen soon.
const patience = 30 * time.Second

// process is a process of freshet with an API, in this one.
type process struct {
	testing.TB
	name string
	*app.App
	client *http.Client
}

// processes starts a Kafka, a Redis, a process that does everything but answer, and two that are an API only.
func processes(t *testing.T) (apis []*process) {
	t.Helper()
	dir := t.TempDir()
	common := apptest.Servers(t, dir)
	start := func(name string, roles ...config.Role) *app.App {
		c := common
		c.Roles, c.DataDir = roles, filepath.Join(dir, name)
		return apptest.Start(t, c)
	}
	start("processors", config.Directory, config.Following, config.Fanout, config.Archive)
	for _, name := range []string{"one", "two"} {
		transport := &http.Transport{MaxIdleConnsPerHost: 16}
		t.Cleanup(transport.CloseIdleConnections)
		apis = append(apis, &process{t, name, start(name, config.API), &http.Client{Transport: transport}})
	}
	return apis
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
