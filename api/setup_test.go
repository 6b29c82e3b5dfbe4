package api_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"freshet"
	"freshet/api"
	"freshet/emitters"
	"freshet/internal/kafka/kafkatest"
	"freshet/processors/directory"
	"freshet/processors/following"
	"freshet/processors/processortest"
	"freshet/streams"
	"freshet/views"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

const (
	partitions = 4
	followCap  = 5
)

// deployment is a Kafka with the processors that the API needs; each of its processes has views of its own.
type deployment struct {
	*processortest.Cluster
	posts         *memoryPosts
	stopFollowing func()
}

// deploy has the test run beside others.
func deploy(t *testing.T) *deployment {
	t.Helper()
	t.Parallel()
	c := processortest.Start(t, partitions)
	c.Processor(freshet.DirectoryGroup, directory.New)
	return &deployment{
		Cluster:       c,
		posts:         &memoryPosts{},
		stopFollowing: c.Processor(freshet.FollowingGroup, following.New),
	}
}

// process is an API process, as its clients see it.
type process struct {
	t       *testing.T
	handler http.Handler
	server  *httptest.Server
	config  api.Config
}

// open makes a process whose views are not run.
func (d *deployment) open(t *testing.T) (p *process, run func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	accounts, err := views.NewAccounts(d.Brokers, d.Names, d.ViewSettings("accounts"))
	must(err)
	stats, err := views.NewStats(d.Brokers, d.Names, d.ViewSettings("stats"))
	must(err)
	rows, err := views.NewFollowing(d.Brokers, d.Names, d.ViewSettings("following"))
	must(err)
	fresh, err := views.NewFresh(d.Brokers, d.ViewSettings("fresh"), accounts, rows)
	must(err)
	write, err := emitters.New(d.Brokers, d.Names, d.Config)
	must(err)
	t.Cleanup(func() {
		if err := write.Close(); err != nil {
			t.Error(err)
		}
	})
	minter, err := freshet.NewMinter(1, time.Now)
	must(err)
	hub := streams.New(streams.Config{
		Brokers: d.Brokers, Topic: d.Names.Topic(freshet.Posts), Partitions: partitions, Rows: rows, Accounts: accounts,
		Fresh: fresh, Log: d.Logger(),
	})
	rows.Notice(hub.Changed)
	p = &process{t: t, config: api.Config{
		Accounts: accounts, Stats: stats, Following: rows, Fresh: fresh, Followers: d.posts, Feeds: d.posts, Posts: d.posts,
		Streams: hub, Publisher: d.posts, Emitters: write, Minter: minter,
		CursorKey: bytes.Repeat([]byte{7}, 32), FollowCap: followCap, Log: d.Logger(),
	}}
	handler, err := api.New(p.config)
	must(err)
	p.handler = handler
	p.server = httptest.NewUnstartedServer(nil)
	p.server.Config = api.NewServer(handler, d.Logger())
	p.server.Start()
	run = func() {
		d.Run("accounts", accounts.Run)
		d.Run("stats", stats.Run)
		d.Run("following", rows.Run)
		d.Await("accounts recovered", accounts.Ready())
		d.Await("stats recovered", stats.Ready())
		d.Await("following recovered", rows.Ready())
		d.Run("fresh views", fresh.Run)
		d.Await("views are fresh", fresh.Ready())
		d.Run("streams", hub.Run)
		d.Await("streams begin", hub.Ready())
		t.Cleanup(p.server.Close) // before the views end
	}
	return p, run
}

// with is another handler on the same views.
func (p *process) with(change func(*api.Config)) *process {
	p.t.Helper()
	other := &process{t: p.t, config: p.config}
	change(&other.config)
	handler, err := api.New(other.config)
	if err != nil {
		p.t.Fatal(err)
	}
	other.handler = handler
	other.server = httptest.NewUnstartedServer(nil)
	other.server.Config = api.NewServer(handler, p.config.Log)
	other.server.Start()
	p.t.Cleanup(other.server.Close)
	return other
}

func (d *deployment) start(t *testing.T) *process {
	t.Helper()
	p, run := d.open(t)
	run()
	return p
}

// answer is what a request was answered.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

// do sends a request and holds it and its answer against openapi.yaml.
func (p *process) do(method, path, body string, headers ...string) answer {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.server.URL+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := p.server.Client().Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	var answered io.Reader = response.Body
	if response.Header.Get("Content-Type") == "text/event-stream" {
		answered = io.LimitReader(answered, int64(len("retry: 1000\n\n"))) // the rest comes when something happens
	}
	data, err := io.ReadAll(answered)
	if err != nil {
		p.t.Fatal(err)
	}
	a := answer{t: p.t, status: response.StatusCode, header: response.Header, body: data}
	checkAgainstSpec(p.t, r, body, a)
	return a
}

// want ends the test unless the status is the one wanted, and an error is a problem that says so.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if status >= 400 {
		var p struct {
			Type, Title, Detail string
			Status              int
		}
		a.json(&p)
		if a.header.Get("Content-Type") != "application/problem+json" || p.Status != status || p.Type == "" ||
			p.Title != http.StatusText(status) || p.Detail == "" {
			a.t.Fatalf("%s is not the problem for %d: %s", a.header.Get("Content-Type"), status, a.body)
		}
	}
	return a
}

func (a answer) json(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
}

// ids are the ids of a list, and the path of the next page, "" for none.
func (a answer) ids() (ids []string, next string) {
	a.t.Helper()
	a.want(http.StatusOK)
	var l struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
		NextCursor string `json:"next_cursor"`
	}
	a.json(&l)
	for _, item := range l.Items {
		ids = append(ids, item.ID)
	}
	link := a.header.Get("Link")
	if (link == "") != (l.NextCursor == "") || link != "" && !strings.HasSuffix(link, `>; rel="next"`) {
		a.t.Fatalf("next_cursor is %q, and Link is %q", l.NextCursor, link)
	}
	next, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if l.NextCursor != "" && !strings.Contains(next, "cursor="+l.NextCursor) {
		a.t.Fatalf("next_cursor is %q, and Link is %q", l.NextCursor, link)
	}
	return ids, next
}

// all follows a list to its end.
func (p *process) all(path string) (ids []string, pages int) {
	p.t.Helper()
	for path != "" {
		if pages++; pages > 50 {
			p.t.Fatalf("%s does not end", path)
		}
		var page []string
		page, path = p.do(http.MethodGet, path, "").ids()
		ids = append(ids, page...)
	}
	return ids, pages
}

func (p *process) register(ids ...string) {
	p.t.Helper()
	for _, id := range ids {
		p.do(http.MethodPut, "/v1/accounts/"+id, "").want(http.StatusCreated)
	}
}

var spec = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err == nil {
		err = doc.Validate(context.Background())
	}
	if err != nil {
		panic(err)
	}
	return doc
})

// Each line of a batch, and of its answer, is held against the items of the array that the file describes.
func init() {
	for _, media := range []string{"text/event-stream", "text/html"} {
		openapi3filter.RegisterBodyDecoder(media, func(
			body io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn,
		) (any, error) {
			data, err := io.ReadAll(body)
			return string(data), err
		})
	}
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", func(
		body io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn,
	) (any, error) {
		lines := []any{}
		for d := json.NewDecoder(body); ; {
			var line any
			switch err := d.Decode(&line); {
			case errors.Is(err, io.EOF):
				return lines, nil
			case err != nil:
				return lines, nil //nolint:nilerr // a line that is broken is answered, not refused
			}
			lines = append(lines, line)
		}
	})
}

var specRoutes = sync.OnceValue(func() routers.Router {
	router, err := gorillamux.NewRouter(spec())
	if err != nil {
		panic(err)
	}
	return router
})

// checkAgainstSpec: an answer is one that the operation names, and a request that was accepted is one that it takes.
// Where the file has no operation, the answer has to be an error.
func checkAgainstSpec(t *testing.T, r *http.Request, body string, a answer) {
	t.Helper()
	sent := r.Clone(r.Context())
	if r.Method == http.MethodHead {
		sent.Method = http.MethodGet
	}
	sent.URL.Scheme, sent.URL.Host, sent.Host = "", "", ""
	sent.Body = io.NopCloser(strings.NewReader(body))
	route, params, err := specRoutes().FindRoute(sent)
	if err != nil {
		if a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed {
			t.Fatalf("%s %s: %v, and it is answered %d", r.Method, r.URL, err, a.status)
		}
		return
	}
	input := &openapi3filter.RequestValidationInput{
		Request: sent, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		},
	}
	if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil && a.status < 400 {
		t.Fatalf("%s %s was answered %d, and is not what openapi.yaml takes: %v", r.Method, r.URL, a.status, err)
	}
	if r.Method == http.MethodHead {
		return
	}
	err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.status, Header: a.header,
		Body: io.NopCloser(bytes.NewReader(a.body)), Options: input.Options,
	})
	if err != nil {
		t.Fatalf("%s %s: the answer is not what openapi.yaml says: %v\n%s", r.Method, r.URL, err, a.body)
	}
}

// memoryPosts stands for the feed and the post store, whose own packages test them.
type memoryPosts struct {
	mu        sync.Mutex
	posts     []freshet.Post // newest first
	offset    int64
	followers map[freshet.Number][]freshet.Number
	partial   bool
	refuses   func(freshet.Post) bool // by PublishAll; may be nil
	fails     error
	unshown   error // of edits
	panics    bool
}

func (m *memoryPosts) page(before freshet.PostID, limit int, in func(freshet.Post) bool) views.Page {
	page := views.Page{Complete: !m.partial}
	for _, p := range m.posts {
		if before != 0 && p.ID >= before || !p.DeletedAt.IsZero() || !in(p) {
			continue
		}
		if len(page.Posts) == limit {
			page.Next = page.Posts[limit-1].ID
			break
		}
		page.Posts = append(page.Posts, p)
	}
	return page
}

func (m *memoryPosts) Feed(_ context.Context, _ freshet.Number, before freshet.PostID, limit int) (views.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.page(before, limit, func(freshet.Post) bool { return true }), nil
}

func (m *memoryPosts) ByAuthor(
	_ context.Context, author freshet.Number, before freshet.PostID, limit int,
) (views.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.page(before, limit, func(p freshet.Post) bool { return p.Author == author }), nil
}

func (m *memoryPosts) Post(_ context.Context, id freshet.PostID) (freshet.Post, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.panics {
		panic("a bug")
	}
	if m.fails != nil {
		return freshet.Post{}, false, m.fails
	}
	i := slices.IndexFunc(m.posts, func(p freshet.Post) bool { return p.ID == id })
	if i < 0 {
		return freshet.Post{}, false, nil
	}
	return m.posts[i], true, nil
}

func (m *memoryPosts) Publish(_ context.Context, p freshet.Post) (emitters.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.posts = append(m.posts, p)
	slices.SortFunc(m.posts, func(a, b freshet.Post) int { return cmp.Compare(b.ID, a.ID) })
	return m.position(p.Author), nil
}

func (m *memoryPosts) PublishAll(ctx context.Context, posts []freshet.Post) []emitters.Outcome {
	outcomes := make([]emitters.Outcome, len(posts))
	for i, p := range posts {
		if m.refuses != nil && m.refuses(p) {
			outcomes[i].Err = fmt.Errorf("a test: %w", emitters.ErrUnavailable)
			continue
		}
		outcomes[i].Position, outcomes[i].Err = m.Publish(ctx, p)
	}
	return outcomes
}

func (m *memoryPosts) Edit(_ context.Context, id freshet.PostID, text string, may emitters.May) (
	freshet.Post, emitters.Position, bool, error,
) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.posts, func(p freshet.Post) bool { return p.ID == id && p.DeletedAt.IsZero() })
	if i < 0 {
		return freshet.Post{}, emitters.Position{}, false, nil
	}
	p := &m.posts[i]
	if err := may(*p); err != nil {
		return freshet.Post{}, emitters.Position{}, true, err
	}
	p.Text, p.EditedAt = text, time.Now()
	return *p, m.position(p.Author), true, m.unshown
}

func (m *memoryPosts) Delete(_ context.Context, id freshet.PostID, may emitters.May) (emitters.Position, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.posts {
		if m.posts[i].ID != id {
			continue
		}
		if err := may(m.posts[i]); err != nil {
			return emitters.Position{}, true, err
		}
		if !m.posts[i].DeletedAt.IsZero() {
			return emitters.Position{}, true, nil
		}
		m.posts[i].DeletedAt = time.Now()
		return m.position(m.posts[i].Author), true, nil
	}
	return emitters.Position{}, false, nil
}

func (m *memoryPosts) position(author freshet.Number) emitters.Position {
	m.offset++
	return emitters.Position{
		Topic: freshet.Posts, Partition: freshet.PartitionOf(author.Key(), partitions), Offset: m.offset, Key: author.Key(),
	}
}

func (m *memoryPosts) Followers(
	_ context.Context, followee, from freshet.Number, limit int,
) ([]freshet.Number, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var numbers []freshet.Number
	for _, n := range m.followers[followee] {
		if n >= from && len(numbers) < limit {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}
