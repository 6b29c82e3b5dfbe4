package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"freshet"
	"freshet/api"
)

// result is a line of the answer to a batch.
type result struct {
	Status  int
	Post    *post
	Problem *struct {
		Type, Title, Detail string
		Status              int
		Errors              map[string]string
	}
}

// batch sends lines, and returns a result for each.
func (p *process) batch(body string, headers ...string) (answer, []result) {
	p.t.Helper()
	headers = append([]string{"Content-Type", "application/x-ndjson"}, headers...)
	a := p.do(http.MethodPost, "/v1/posts/batch", body, headers...)
	a.want(http.StatusMultiStatus)
	if got := a.header.Get("Content-Type"); got != "application/x-ndjson" {
		p.t.Fatalf("the answer is %s", got)
	}
	var results []result
	for text := range strings.Lines(string(a.body)) {
		var r result
		if err := json.Unmarshal([]byte(text), &r); err != nil || !strings.HasSuffix(text, "\n") {
			p.t.Fatalf("%q: %v", text, err)
		}
		if (r.Status/100 == 2) != (r.Post != nil) || (r.Post == nil) != (r.Problem != nil) ||
			r.Problem != nil && (r.Problem.Status != r.Status || r.Problem.Title != http.StatusText(r.Status)) {
			p.t.Fatalf("a result that contradicts itself: %s", text)
		}
		results = append(results, r)
	}
	return a, results
}

func statuses(results []result) (all []int) {
	for _, r := range results {
		all = append(all, r.Status)
	}
	return all
}

func TestBatch(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada", "bob", "cyd", "dan", "eve", "fay")
	p.do(http.MethodDelete, "/v1/accounts/bob", "").want(http.StatusAccepted)
	lines := []struct {
		text   string
		status int
		field  string
	}{
		{`{"author":"ada","text":"one"}`, 201, ""},
		{``, 400, ""},
		{" \t\r", 400, ""},
		{`{"author":"ada","text":"a \"b\" \n \u00fc \ud83d\ude42 <&>","visibility":"followers","reply_to":"7"}`, 201, ""},
		{`{"author":"ada","text":"cut o`, 400, ""},
		{`{"author":"ada","text":"` + "\xff" + `"}`, 400, ""},
		{`{"author":"ada","text":"x","likes":"7"}`, 400, "likes"},
		{`{"author":"ada","text":"x","text":"x"}`, 400, ""},
		{`{"author":"ada","text":"\x"}`, 400, ""},
		{`{"author":"ada","text":"\ud83d"}`, 400, "text"},
		{`{"author":"ada","text":7}`, 400, "text"},
		{`{"author":"ada","text":"x"} {}`, 400, ""},
		{`{"author":"ada","text":"x"},`, 400, ""},
		{`[{"author":"ada","text":"x"}]`, 400, ""},
		{`null`, 400, ""},
		{`{}`, 400, "author"},
		{`{"author":"","text":"x"}`, 400, "author"},
		{`{"author":"ada","text":""}`, 422, "text"},
		{`{"author":"ada","text":"` + strings.Repeat("ü", 10_000) + `"}`, 201, ""},
		{`{"author":"ada","text":"` + strings.Repeat("ü", 10_001) + `"}`, 422, "text"},
		{`{"author":"ada","text":"x"` + strings.Repeat(" ", api.MaxBody) + `}`, 413, ""},
		{`{"author":"nobody","text":"x"}`, 404, ""},
		{`{"author":"bob","text":"x"}`, 404, ""},
		{" { \"text\" : \"two\" ,\t\"author\":\"cyd\" } \r", 201, ""},
		{`{"author":"dan","te\u0078t":"three"}`, 201, ""},
		{`{"author":"eve","text":"four"}`, 201, ""},
		{`{"author":"fay","text":"five"}`, 201, ""},
	}
	var body strings.Builder
	for _, l := range lines {
		body.WriteString(l.text + "\n")
	}
	for _, text := range []string{body.String(), strings.TrimSuffix(body.String(), "\n")} {
		before := len(d.posts.posts)
		a, results := p.batch(text)
		if len(results) != len(lines) {
			t.Fatalf("%d results for %d lines", len(results), len(lines))
		}
		last, written := "", 0
		for i, l := range lines {
			r := results[i]
			if r.Status != l.status {
				t.Errorf("line %d, %.80q: status %d, want %d", i, l.text, r.Status, l.status)
				continue
			}
			if l.field != "" && r.Problem.Errors[l.field] == "" {
				t.Errorf("line %d, %.80q: nothing is said of %s: %+v", i, l.text, l.field, *r.Problem)
			}
			if r.Post == nil {
				continue
			}
			written++
			var want struct {
				Author, Text, Visibility string
				ReplyTo                  string `json:"reply_to"`
			}
			want.Visibility = "public"
			if err := json.Unmarshal([]byte(l.text), &want); err != nil {
				t.Fatal(err)
			}
			if r.Post.Author != want.Author || r.Post.Text != want.Text || r.Post.Visibility != want.Visibility ||
				r.Post.ReplyTo != want.ReplyTo {
				t.Errorf("line %d: %+v, want %+v", i, *r.Post, want)
			}
			if len(r.Post.ID) < len(last) || r.Post.ID <= last {
				t.Errorf("line %d: id %s does not come after %s", i, r.Post.ID, last)
			}
			last = r.Post.ID
			var read post
			p.do(http.MethodGet, "/v1/posts/"+r.Post.ID, "").want(http.StatusOK).json(&read)
			if read != *r.Post {
				t.Errorf("line %d was answered %+v, and reads %+v", i, *r.Post, read)
			}
		}
		if got := len(d.posts.posts) - before; got != written {
			t.Errorf("%d posts were published, and %d are said to be", got, written)
		}
		// The header names each partition once, and any process takes it back.
		position := a.header.Get("Freshet-Position")
		seen := map[string]bool{}
		for _, one := range strings.Split(position, ", ") {
			parts := strings.Split(one, ":")
			if len(parts) != 4 || parts[0] != "posts" || seen[parts[1]] {
				t.Errorf("the positions are %q", position)
			}
			seen[parts[1]] = true
		}
		if len(seen) < 2 {
			t.Errorf("the positions %q name one partition", position)
		}
		p.do(http.MethodGet, "/v1/accounts/ada/feed", "", "Freshet-Position", position).want(http.StatusOK)
	}
}

// TestBatchPositions: as many positions of posts as a deployment has partitions are taken, beside those that are waited
// for.
func TestBatchPositions(t *testing.T) {
	p := deploy(t).start(t)
	p.register("ada")
	var positions []string
	for i := range 128 {
		positions = append(positions, fmt.Sprintf("posts:%d:%d:%d", i, 1<<40+i, 1<<50+i))
	}
	p.do(http.MethodGet, "/v1/accounts/ada/feed", "", "Freshet-Position", strings.Join(positions, ", ")).
		want(http.StatusOK)
	positions = append(positions, "posts:1:2")
	p.do(http.MethodGet, "/v1/accounts/ada/feed", "", "Freshet-Position", strings.Join(positions, ", ")).
		want(http.StatusBadRequest)
}

func TestBatchOneBrokenAmongAThousand(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada")
	var body strings.Builder
	for i := range 1001 {
		if i == 500 {
			body.WriteString("{\n")
			continue
		}
		fmt.Fprintf(&body, `{"author":"ada","text":"post %d"}`+"\n", i)
	}
	_, results := p.batch(body.String())
	if len(results) != 1001 {
		t.Fatalf("%d results", len(results))
	}
	for i, r := range results {
		switch {
		case i == 500 && r.Status != 400, i != 500 && (r.Status != 201 || r.Post.Text != fmt.Sprint("post ", i)):
			t.Fatalf("line %d: %+v", i, r)
		}
	}
	if got := len(d.posts.posts); got != 1000 {
		t.Errorf("%d posts were published, want 1000", got)
	}
}

// TestBatchWithoutKafka: what the log did not take is not said to be there, line by line.
func TestBatchWithoutKafka(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada")
	d.posts.refuses = func(p freshet.Post) bool { return p.Text == "lost" }
	a, results := p.batch(`{"author":"ada","text":"kept"}` + "\n" + `{"author":"ada","text":"lost"}` + "\n{}\n")
	if got := fmt.Sprint(statuses(results)); got != "[201 503 400]" {
		t.Errorf("the lines were answered %s", got)
	}
	if a.header.Get("Retry-After") == "" || !strings.HasPrefix(a.header.Get("Freshet-Position"), "posts:") {
		t.Errorf("the header is %v", a.header)
	}
	a, results = p.batch(`{"author":"ada","text":"lost"}`)
	if got := fmt.Sprint(statuses(results)); got != "[503]" || a.header.Get("Freshet-Position") != "" {
		t.Errorf("the line was answered %s, with the position %q", got, a.header.Get("Freshet-Position"))
	}
}

func TestBatchRefusals(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada")
	const path, lines = "/v1/posts/batch", "application/x-ndjson"
	good := `{"author":"ada","text":"hello"}` + "\n"
	for name, tt := range map[string]struct {
		body, content string
		status        int
	}{
		"nothing":             {"", lines, 400},
		"a line feed":         {"\n", lines, 400},
		"JSON":                {good, "application/json", 415},
		"no type":             {good, "", 415},
		"another charset":     {good, lines + "; charset=latin1", 415},
		"more than 8 MiB":     {strings.Repeat(good, api.MaxBatch/len(good)+1), lines, 413},
		"too many lines":      {strings.Repeat("\n", 100_001), lines, 413},
		"too many, no answer": {good + strings.Repeat(" ", api.MaxBatch), lines, 413},
	} {
		t.Run(name, func(t *testing.T) {
			for _, chunked := range []bool{false, true} {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(tt.body))
				r.Header.Set("Content-Type", tt.content)
				if chunked {
					r.ContentLength = -1
				}
				w := httptest.NewRecorder()
				p.handler.ServeHTTP(w, r)
				a := answer{t, w.Code, w.Header(), w.Body.Bytes()}
				a.want(tt.status)
				checkAgainstSpec(t, r, tt.body, a)
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path,
			io.MultiReader(strings.NewReader(good), brokenReader{}))
		r.Header.Set("Content-Type", lines)
		w := httptest.NewRecorder()
		p.handler.ServeHTTP(w, r)
		answer{t, w.Code, w.Header(), w.Body.Bytes()}.want(http.StatusBadRequest)
	})
	p.do(http.MethodPost, path, good, "Content-Type", lines, "Content-Encoding", "gzip").
		want(http.StatusUnsupportedMediaType)
	for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPut} {
		a := p.do(method, path, "").want(http.StatusMethodNotAllowed)
		if got := a.header.Get("Allow"); got != http.MethodPost {
			t.Errorf("%s: Allow is %q", method, got)
		}
	}
	if len(d.posts.posts) != 0 {
		t.Errorf("%d posts of refused batches were published", len(d.posts.posts))
	}
	// As long and as many as may be; openapi.yaml is held to shorter ones.
	for name, tt := range map[string]struct {
		body  string
		lines int
		last  string
	}{
		"lines": {strings.Repeat(good, 10) + strings.Repeat("\n", 99_990), 100_000, `{"status":400,`},
		"bytes": {good + strings.Repeat(" ", api.MaxBatch-len(good)), 2, `{"status":400,`},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(tt.body))
		r.Header.Set("Content-Type", lines+"; charset=UTF-8")
		w := httptest.NewRecorder()
		p.handler.ServeHTTP(w, r)
		results := strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
		if w.Code != http.StatusMultiStatus || len(results) != tt.lines ||
			!strings.HasPrefix(results[0], `{"status":201,`) || !strings.HasPrefix(results[tt.lines-1], tt.last) {
			t.Errorf("%s: %d, %d results", name, w.Code, len(results))
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
