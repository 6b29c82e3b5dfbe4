package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api"
	"freshet/emitters"
	"freshet/internal/feeds"
	"freshet/views"
)

func TestRefusals(t *testing.T) {
	p := deploy(t).start(t)
	p.register("ada")
	var made post
	p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"hello"}`).want(http.StatusCreated).json(&made)
	const posts, account = "/v1/posts", "/v1/accounts/ada"
	post := func(fields string) string { return `{"author":"ada","text":"hello"` + fields + `}` }
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		fields             []string
	}{
		"no such path":          {http.MethodGet, "/v2/posts", "", 404, nil},
		"a slash too many":      {http.MethodGet, account + "/", "", 404, nil},
		"two slashes":           {http.MethodGet, "//v1/accounts/ada", "", 404, nil},
		"dots":                  {http.MethodGet, "/v1/accounts/../accounts/ada", "", 404, nil},
		"an id with a slash":    {http.MethodGet, "/v1/accounts/a%2Fb", "", 404, nil},
		"an id with a space":    {http.MethodGet, "/v1/accounts/a%20b", "", 400, []string{"id"}},
		"an id with a '#'":      {http.MethodPut, "/v1/accounts/%231", "", 400, []string{"id"}},
		"a long id":             {http.MethodPut, "/v1/accounts/" + strings.Repeat("a", 65), "", 400, []string{"id"}},
		"a post id of letters":  {http.MethodGet, "/v1/posts/abc", "", 400, []string{"post"}},
		"post 0":                {http.MethodDelete, "/v1/posts/0", "", 400, []string{"post"}},
		"a post id with a zero": {http.MethodGet, "/v1/posts/0" + made.ID, "", 400, []string{"post"}},
		"limit 0":               {http.MethodGet, account + "/feed?limit=0", "", 400, []string{"limit"}},
		"limit 101":             {http.MethodGet, account + "/feed?limit=101", "", 400, []string{"limit"}},
		"limit of letters":      {http.MethodGet, account + "/posts?limit=ten", "", 400, []string{"limit"}},
		"limit twice":           {http.MethodGet, account + "/posts?limit=1&limit=1", "", 400, []string{"limit"}},
		"an empty cursor":       {http.MethodGet, account + "/posts?cursor=", "", 400, []string{"cursor"}},
		"a made up cursor":      {http.MethodGet, account + "/posts?cursor=AAAA", "", 400, []string{"cursor"}},
		"an unknown parameter":  {http.MethodGet, account + "/followers?page=2", "", 400, []string{"page"}},
		"a malformed query":     {http.MethodGet, account + "/followers?limit=%zz", "", 400, nil},

		"not JSON":              {http.MethodPost, posts, `{"author":"ada"`, 400, nil},
		"a trailing comma":      {http.MethodPost, posts, post(","), 400, nil},
		"trailing data":         {http.MethodPost, posts, post("") + "{}", 400, nil},
		"an array":              {http.MethodPost, posts, `[]`, 400, nil},
		"null":                  {http.MethodPost, posts, `null`, 400, nil},
		"not UTF-8":             {http.MethodPost, posts, `{"author":"ada","text":"` + "\xff" + `"}`, 400, []string{"text"}},
		"half a surrogate pair": {http.MethodPost, posts, `{"author":"ada","text":"\ud83d"}`, 400, []string{"text"}},
		"a field twice":         {http.MethodPost, posts, post(`,"text":"hello"`), 400, []string{"text"}},
		"an unknown field":      {http.MethodPost, posts, post(`,"likes":"7"`), 400, []string{"likes"}},
		"another case": {
			http.MethodPost, posts, `{"Author":"ada","text":"hello"}`, 400, []string{"Author", "author"},
		},
		"a number for a string": {http.MethodPost, posts, `{"author":"ada","text":7}`, 400, []string{"text"}},
		"null for a string":     {http.MethodPut, account, `{"name":null}`, 400, []string{"name"}},
		"nothing":               {http.MethodPost, posts, `{}`, 400, []string{"author", "text"}},
		"a malformed author":    {http.MethodPost, posts, `{"author":"a b","text":"hello"}`, 400, []string{"author"}},
		"a malformed reply":     {http.MethodPost, posts, post(`,"reply_to":"x"`), 400, []string{"reply_to"}},

		"no text": {http.MethodPost, posts, `{"author":"ada","text":""}`, 422, []string{"text"}},
		"too long a text": {
			http.MethodPost, posts, `{"author":"ada","text":"` + strings.Repeat("ü", 10_001) + `"}`, 422, []string{"text"},
		},
		"unknown visibility": {http.MethodPost, posts, post(`,"visibility":"friends"`), 422, []string{"visibility"}},
		"too long a name": {
			http.MethodPut, account, `{"name":"` + strings.Repeat("ü", 201) + `"}`, 422, []string{"name"},
		},
		"two at once": {
			http.MethodPost, posts, `{"author":"ada","text":"","visibility":"x"}`, 422, []string{"text", "visibility"},
		},
		"too large": {
			http.MethodPost, posts, post(`,"reply_to":"` + strings.Repeat("1", api.MaxBody) + `"`), 413, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.do(tt.method, tt.path, tt.body).want(tt.status)
			var problem struct{ Errors map[string]string }
			a.json(&problem)
			var fields []string
			for field := range problem.Errors {
				fields = append(fields, field)
			}
			slices.Sort(fields)
			if !slices.Equal(fields, tt.fields) {
				t.Errorf("wrong fields %v, want %v: %s", fields, tt.fields, a.body)
			}
		})
	}
	// U+FFFD is a character like any other.
	p.do(http.MethodPost, posts, `{"author":"ada","text":"\ufffd"}`).want(http.StatusCreated)

	for _, content := range []string{
		"", "text/plain", "application/json; charset=latin1", "application/problem+json", ";",
	} {
		p.do(http.MethodPost, posts, post(""), "Content-Type", content).want(http.StatusUnsupportedMediaType)
		p.do(http.MethodPut, account, `{"name":"x"}`, "Content-Type", content).want(http.StatusUnsupportedMediaType)
	}
	p.do(http.MethodPost, posts, "").want(http.StatusUnsupportedMediaType)
	p.do(http.MethodPost, posts, post(""), "Content-Encoding", "gzip").want(http.StatusUnsupportedMediaType)
	p.do(http.MethodPost, posts, post(""), "Content-Type", "application/json; charset=UTF-8").want(http.StatusCreated)

	for path, allowed := range map[string]string{
		posts:                  "POST",
		posts + "/1":           "GET, HEAD, PATCH, DELETE",
		account:                "GET, HEAD, PUT, DELETE",
		account + "/following": "GET, HEAD",
		account + "/muted/bob": "PUT, DELETE",
		account + "/feed":      "GET, HEAD",
		"/openapi.yaml":        "GET, HEAD",
	} {
		a := p.do(http.MethodTrace, path, "").want(http.StatusMethodNotAllowed)
		if got := a.header.Get("Allow"); got != allowed {
			t.Errorf("%s: Allow is %q, want %q", path, got, allowed)
		}
	}
}

// TestCursorsAreBound: a cursor that was changed, or belongs to another list or account, is refused; one that comes
// from another process, or from before a restart, is not.
func TestCursorsAreBound(t *testing.T) {
	d := deploy(t)
	p, other := d.start(t), d.start(t)
	p.register("bob")
	registered := p.do(http.MethodPut, "/v1/accounts/ada", "").want(http.StatusCreated)
	other.do(http.MethodGet, "/v1/accounts/ada", "", "Freshet-Position", registered.header.Get("Freshet-Position")).
		want(http.StatusOK)
	for range 2 {
		p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"hello"}`).want(http.StatusCreated)
	}
	var list struct {
		NextCursor string `json:"next_cursor"`
	}
	first := p.do(http.MethodGet, "/v1/accounts/ada/posts?limit=1", "")
	first.json(&list)
	cursor := list.NextCursor
	if cursor == "" {
		t.Fatal("no cursor")
	}
	get := func(p *process, path, cursor string) answer {
		return p.do(http.MethodGet, "/v1/accounts/"+path+"?cursor="+cursor, "")
	}
	get(p, "ada/posts", cursor).want(http.StatusOK)
	if got, _ := get(other, "ada/posts", cursor).ids(); len(got) != 1 {
		t.Errorf("another process answers %v", got)
	}
	for _, path := range []string{"ada/feed", "ada/following", "bob/posts"} {
		get(p, path, cursor).want(http.StatusBadRequest)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range cursor {
		for _, c := range []byte{alphabet[(strings.IndexByte(alphabet, cursor[i])+1)%64], alphabet[i%64]} {
			if c != cursor[i] {
				get(p, "ada/posts", cursor[:i]+string(c)+cursor[i+1:]).want(http.StatusBadRequest)
			}
		}
	}
	get(p, "ada/posts", cursor[:len(cursor)-1]).want(http.StatusBadRequest)
	get(p, "ada/posts", cursor+"A").want(http.StatusBadRequest)
}

func TestCursorKeyHasALength(t *testing.T) {
	if _, err := api.New(api.Config{CursorKey: make([]byte, 31)}); err == nil {
		t.Error("a key of 31 bytes is taken")
	}
}

// TestPositions: what one process wrote, another one's answer includes if it is asked to; and it says so if it cannot.
func TestPositions(t *testing.T) {
	d := deploy(t)
	p, other := d.start(t), d.start(t)
	read := func(path, position string) answer {
		return other.do(http.MethodGet, path, "", "Freshet-Position", position)
	}
	var positions []string
	for i := range 10 {
		a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
		position := p.do(http.MethodPut, "/v1/accounts/"+a, `{"name":"x"}`).want(201).header.Get("Freshet-Position")
		var got account
		read("/v1/accounts/"+a, position).want(http.StatusOK).json(&got)
		if got.Name != "x" {
			t.Fatalf("as of %s: %+v", position, got)
		}
		p.register(b)
		position = p.do(http.MethodPut, "/v1/accounts/"+a+"/following/"+b, "").want(204).header.Get("Freshet-Position")
		read("/v1/accounts/"+a, position).want(http.StatusOK).json(&got)
		if got.Following != 1 {
			t.Fatalf("as of %s: %+v", position, got)
		}
		positions = append(positions, position)
	}
	read("/v1/accounts/a1", strings.Join(positions[:8], ", ")).want(http.StatusOK)
	read("/v1/accounts/a1", strings.Join(positions[:9], ",")).want(http.StatusBadRequest)
	read("/v1/accounts/a1", "posts:0:12:7").want(http.StatusOK)

	for _, malformed := range []string{
		"follows", "follows:0:1:x", "profiles:0:1:a b", "follows:0:x:7", "stats:0:1:7", ",",
	} {
		read("/v1/accounts/a1", malformed).want(http.StatusBadRequest)
	}
	began := time.Now()
	a := read("/v1/accounts/a1", "follows:0:999999:7").want(http.StatusServiceUnavailable)
	if took := time.Since(began); took < api.PositionTimeout || a.header.Get("Retry-After") == "" {
		t.Errorf("it was answered after %s, with Retry-After %q", took, a.header.Get("Retry-After"))
	}
}

// TestNotReady: before the views have recovered nothing is unknown, and nothing is written.
func TestNotReady(t *testing.T) {
	d := deploy(t)
	p, run := d.open(t)
	for _, r := range [][3]string{
		{http.MethodGet, "/v1/accounts/ada", ""},
		{http.MethodPut, "/v1/accounts/ada", ""},
		{http.MethodPut, "/v1/accounts/ada/following/bob", ""},
		{http.MethodGet, "/v1/accounts/ada/followers", ""},
		{http.MethodPost, "/v1/posts", `{"author":"ada","text":"hello"}`},
		{http.MethodGet, "/v1/accounts/ada/feed", ""},
	} {
		a := p.do(r[0], r[1], r[2]).want(http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" || a.header.Get("Freshet-Position") != "" {
			t.Errorf("%v: %v", r, a.header)
		}
	}
	run()
	p.do(http.MethodGet, "/v1/accounts/ada", "").want(http.StatusNotFound)
}

// within sends a request whose client has little patience, past the server.
func (p *process) within(patience time.Duration, method, path string) answer {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, http.NoBody))
	return answer{t: p.t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

// TestKafkaDoesNotAnswer: a write that is not acknowledged is not answered as if it were, and one that the views do not
// show says that it was accepted, and where.
func TestKafkaDoesNotAnswer(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada", "bob")
	d.stopFollowing()
	a := p.within(200*time.Millisecond, http.MethodPut, "/v1/accounts/ada/following/bob").want(503)
	if position := a.header.Get("Freshet-Position"); !strings.HasPrefix(position, "follows:") {
		t.Errorf("Freshet-Position is %q", position)
	}
	if !strings.Contains(string(a.body), "was accepted") {
		t.Errorf("it does not say that the write was accepted: %s", a.body)
	}

	release := make(chan struct{})
	defer close(release)
	d.HoldProduce(release)
	a = p.within(200*time.Millisecond, http.MethodPut, "/v1/accounts/cyd").want(503)
	if a.header.Get("Retry-After") == "" || a.header.Get("Freshet-Position") != "" {
		t.Errorf("Retry-After %q, Freshet-Position %q", a.header.Get("Retry-After"), a.header.Get("Freshet-Position"))
	}
}

// TestFailures: what passes by itself is a 503 that says when to come again, anything else a 500 that says nothing.
func TestFailures(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	for _, tt := range []struct {
		err    error
		status int
	}{
		{feeds.ErrAway, http.StatusServiceUnavailable},
		{emitters.ErrUnavailable, http.StatusServiceUnavailable},
		{views.ErrNotReady, http.StatusServiceUnavailable},
		{context.DeadlineExceeded, http.StatusServiceUnavailable},
		{errors.New("a secret"), http.StatusInternalServerError},
	} {
		d.posts.fails = fmt.Errorf("read the post: %w", tt.err)
		a := p.do(http.MethodGet, "/v1/posts/7", "").want(tt.status)
		if (a.header.Get("Retry-After") != "") != (tt.status == http.StatusServiceUnavailable) {
			t.Errorf("%v: Retry-After is %q", tt.err, a.header.Get("Retry-After"))
		}
		if strings.Contains(string(a.body), "read the post") || strings.Contains(string(a.body), "secret") {
			t.Errorf("the answer tells what the log should: %s", a.body)
		}
	}
	d.posts.fails = nil
	p.do(http.MethodGet, "/v1/posts/7", "").want(http.StatusNotFound)
}

func TestPanics(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	d.posts.panics = true
	a := p.do(http.MethodGet, "/v1/posts/7", "").want(http.StatusInternalServerError)
	if strings.Contains(string(a.body), "a bug") {
		t.Errorf("the answer tells what the log should: %s", a.body)
	}
	d.posts.panics = false
	p.do(http.MethodGet, "/v1/posts/7", "").want(http.StatusNotFound)
}

func TestHeaders(t *testing.T) {
	p := deploy(t).start(t)
	for _, path := range []string{"/v1/accounts/ada", "/v1", "/openapi.yaml"} {
		h := p.do(http.MethodGet, path, "").header
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Cache-Control"), "no-store") {
			t.Errorf("%s: %v", path, h)
		}
	}
	if !json.Valid(p.do(http.MethodGet, "/v1/accounts/ada", "").body) {
		t.Error("the problem is not JSON")
	}
}
