package streams_test

import (
	"bufio"
	"bytes"
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
)

// patience is how long a test waits for what should happen soon.
const patience = 30 * time.Second

// deployment is a Kafka, a Redis and a process with all roles but the API; API processes come and go.
type deployment struct {
	testing.TB
	dir        string
	common     config.Config // of all processes
	processors *process
}

// pullAbove is the number of followers from which on an author's posts are not delivered.
const pullAbove = 2

func deploy(t testing.TB) *deployment {
	t.Helper()
	dir := t.TempDir()
	d := &deployment{TB: t, dir: dir, common: apptest.Servers(t, dir)}
	d.common.PullAbove = pullAbove
	d.processors = d.start("processors", config.Directory, config.Following, config.Fanout, config.Archive)
	return d
}

// process is a process of freshet in this one.
type process struct {
	*deployment
	*app.App
	stop func()
}

// start starts a process that keeps its data under a name.
func (d *deployment) start(name string, roles ...config.Role) *process {
	d.Helper()
	return d.startWith(name, func(*config.Config) {}, roles...)
}

// startWith is start with another configuration.
func (d *deployment) startWith(name string, change func(*config.Config), roles ...config.Role) *process {
	d.Helper()
	c := d.common
	c.Roles, c.DataDir = roles, filepath.Join(d.dir, name)
	change(&c)
	a, stop := apptest.Run(d, c)
	return &process{deployment: d, App: a, stop: stop}
}

func (d *deployment) api(name string) *process {
	d.Helper()
	return d.start(name, config.API)
}

// do sends a request, which has to be answered well.
func (p *process) do(method, path, body string, headers ...string) map[string]any {
	p.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, p.APIURL()+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		p.Fatalf("%s %s: %d %s %v", method, path, response.StatusCode, data, err)
	}
	var answer map[string]any
	if len(bytes.TrimSpace(data)) > 0 {
		if err := json.Unmarshal(data, &answer); err != nil {
			p.Fatal(err)
		}
	}
	return answer
}

func (p *process) register(ids ...string) {
	p.Helper()
	for _, id := range ids {
		p.do(http.MethodPut, "accounts/"+id, "")
	}
}

func (p *process) follow(who string, whom ...string) {
	p.Helper()
	for _, other := range whom {
		p.do(http.MethodPut, "accounts/"+who+"/following/"+other, "")
	}
}

// post publishes and returns the id.
func (p *process) post(author, text string) string {
	p.Helper()
	id, _ := p.do(http.MethodPost, "posts", fmt.Sprintf(`{"author":%q,"text":%q}`, author, text))["id"].(string)
	return id
}

// event is one of a stream.
type event struct {
	kind, data string
	id         string // of the stream, when the event came
}

// text is what an event says in short: "post hello", "delete 17".
func (e event) text() string {
	var said struct{ ID, Text string }
	_ = json.Unmarshal([]byte(e.data), &said) // what is no JSON shows by its text
	switch e.kind {
	case "post", "edit":
		return e.kind + " " + said.Text
	case "delete":
		return e.kind + " " + said.ID
	}
	return e.kind + " " + e.data
}

// reader reads a stream.
type reader struct {
	*process
	account string
	events  chan event
	end     context.CancelFunc
	gone    chan struct{}
	mu      sync.Mutex
	lastID  string
}

// open opens a stream and returns when it has told where it is. last is the id to begin at, if not empty.
func (p *process) open(account, last string, headers ...string) *reader {
	p.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{process: p, account: account, events: make(chan event, 10_000), end: cancel, gone: make(chan struct{})}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.APIURL()+"/v1/accounts/"+account+"/feed/stream",
		http.NoBody)
	if err != nil {
		p.Fatal(err)
	}
	if last != "" {
		request.Header.Set("Last-Event-ID", last)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request) //nolint:bodyclose // read closes it
	if err != nil {
		p.Fatal(err)
	}
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/event-stream" {
		p.Fatalf("the stream of %s: %d %s", account, response.StatusCode, kind)
	}
	go r.read(response.Body)
	p.Cleanup(r.close)
	if last == "" {
		p.until("the stream has an id", func() bool { return r.last() != "" })
	}
	return r
}

func (r *reader) close() {
	r.end()
	<-r.gone
}

func (r *reader) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastID
}

// read takes the stream apart, as EventSource does.
func (r *reader) read(body io.ReadCloser) {
	defer close(r.gone)
	defer body.Close() //nolint:errcheck // it is over
	var e event
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			e.kind = value
		case "data":
			e.data = value
		case "id":
			r.mu.Lock()
			r.lastID = value
			r.mu.Unlock()
		case "":
			if e.data != "" {
				e.id = r.last()
				r.events <- e
			}
			e = event{}
		}
	}
}

// next is the next event.
func (r *reader) next() event {
	r.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(patience):
		r.Fatalf("the stream of %s says nothing", r.account)
		return event{}
	}
}

// want reads events and wants them to be these, in this order.
func (r *reader) want(texts ...string) {
	r.Helper()
	for i, want := range texts {
		if got := r.next().text(); got != want {
			r.Fatalf("event %d of %s is %q, want %q", i, r.account, got, want)
		}
	}
}

// wantAfterRepeats is want, when events of before may come again first.
func (r *reader) wantAfterRepeats(repeats []string, texts ...string) {
	r.Helper()
	again := map[string]bool{}
	for _, text := range repeats {
		again[text] = true
	}
	for i := 0; i < len(texts); {
		switch got := r.next().text(); {
		case got == texts[i]:
			i++
		case i == 0 && again[got]:
		default:
			r.Fatalf("event %d of %s is %q, want %q", i, r.account, got, texts[i])
		}
	}
}

// until polls until something is so.
func (d *deployment) until(what string, is func() bool) {
	d.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			d.Fatalf("not so after %s: %s", patience, what)
		}
	}
}
