package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// worst are values that no field of this API takes, as JSON, or what stands where a value should.
var worst = map[string]string{
	"a number": "7", "a huge number": "1e999999", "a number of many digits": strings.Repeat("9", 4000), "null": "null",
	"true": "true", "an array": `["x"]`, "an object": `{"x":"y"}`, "deep nesting": strings.Repeat("[", 20_000),
	"a control character": "\"a\x01b\"", "a line break": "\"a\nb\"", "a NUL": "\"a\x00b\"",
	"invalid UTF-8": "\"a\xffb\"", "an overlong encoding": "\"\xc0\xafx\"", "half of a surrogate pair": `"\ud83d"`,
	"a surrogate in UTF-8": "\"\xed\xa0\xbd\"", "a bad escape": `"\q"`, "an unfinished escape": `"\u12"`,
	"no end": `"abc`, "nothing": "",
}

// wrong are strings that a field refuses, and with which status.
type wrong map[string]int

func (w wrong) and(other wrong) wrong {
	all := maps.Clone(w)
	maps.Copy(all, other)
	return all
}

var (
	badAccount = wrong{
		"": 400, " ": 400, "a b": 400, "ä": 400, "a/b": 400, "a#b": 400, "a:b": 400, "a\x00": 400, "a\n": 400, "..%2f": 400,
		strings.Repeat("a", 65): 400, strings.Repeat("a", 6000): 400, "а": 400, "\u202e": 400,
	}
	badPost = wrong{
		"": 400, "0": 400, "-1": 400, "+1": 400, "01": 400, "1.0": 400, "1e3": 400, "\u00201": 400, "x": 400, "0x10": 400,
		"9223372036854775808": 400, "99999999999999999999": 400, strings.Repeat("9", 4000): 400, "１": 400, "1\x00": 400,
	}
	badText = wrong{"": 422, strings.Repeat("a", 10_001): 422, strings.Repeat("\U0001F600", 10_001): 422}
)

// inputs are all fields of bodies: the schema, the request, the other fields that it needs, and what is refused.
var inputs = map[string]struct {
	method, path string
	others       map[string]string
	refused      wrong
	needed       bool
}{
	"NewAccount.name": {
		http.MethodPut, "/v1/accounts/ada", nil,
		wrong{strings.Repeat("a", 201): 422, strings.Repeat("\U0001F600", 201): 422, strings.Repeat("a", 60_000): 422}, false,
	},
	"NewPost.author":   {http.MethodPost, "/v1/posts", map[string]string{"text": "x"}, badAccount, true},
	"NewPost.text":     {http.MethodPost, "/v1/posts", map[string]string{"author": "ada"}, badText, true},
	"NewPost.reply_to": {http.MethodPost, "/v1/posts", map[string]string{"author": "ada", "text": "x"}, badPost, false},
	"NewPost.visibility": {
		http.MethodPost, "/v1/posts", map[string]string{"author": "ada", "text": "x"},
		wrong{"": 422, "Public": 422, "friends": 422, "public\u0020": 422, "public\x00": 422,
			strings.Repeat("public", 5000): 422},
		false,
	},
	"PostEdit.text": {http.MethodPatch, "/v1/posts/{post}", nil, badText, true},
}

// bodyOf is an object with the other fields, as JSON, and more behind them.
func bodyOf(others map[string]string, more string) string {
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(others)) {
		fields = append(fields, fmt.Sprintf("%q:%q", name, others[name]))
	}
	if more != "" {
		fields = append(fields, more)
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// names wants the answer to be a problem that names the input.
func (a answer) names(status int, input string) {
	a.t.Helper()
	var problem struct{ Errors map[string]string }
	if a.want(status).json(&problem); problem.Errors[input] == "" {
		a.t.Errorf("%q is not named: %s", input, a.body)
	}
}

// TestBadFields: every field of a body that openapi.yaml knows refuses what it must, and the answer names it. Lines of
// a batch are judged as posts are.
func TestBadFields(t *testing.T) {
	p := deploy(t).start(t)
	p.register("ada")
	var made post
	p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"x"}`).want(http.StatusCreated).json(&made)
	for name := range bodyFields() {
		if _, tested := inputs[name]; !tested {
			t.Errorf("openapi.yaml has the field %s, of which there is no test", name)
		}
	}
	for name, input := range inputs {
		schema, field, _ := strings.Cut(name, ".")
		if !bodyFields()[name] {
			t.Errorf("openapi.yaml does not have the field %s", name)
		}
		path := strings.Replace(input.path, "{post}", made.ID, 1)
		refuse := func(t *testing.T, status int, body string) {
			t.Helper()
			p.t = t
			p.do(input.method, path, body).names(status, field)
			if schema != "NewPost" || strings.Contains(body, "\n") {
				return
			}
			a := p.do(http.MethodPost, "/v1/posts/batch", "{}\n"+body, "Content-Type", "application/x-ndjson")
			a.want(http.StatusMultiStatus)
			a.body = a.body[bytes.IndexByte(a.body, '\n'):]
			var line struct {
				Status  int
				Problem struct{ Errors map[string]string }
			}
			if a.json(&line); line.Status != status || line.Problem.Errors[field] == "" {
				t.Errorf("as a line of a batch: %s", a.body)
			}
		}
		t.Run(name, func(t *testing.T) {
			defer func(before *testing.T) { p.t = before }(p.t)
			for what, value := range worst {
				t.Run(what, func(t *testing.T) { refuse(t, 400, bodyOf(input.others, fmt.Sprintf("%q:%s", field, value))) })
			}
			for value, status := range input.refused {
				encoded, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				t.Run(fmt.Sprintf("%.20q", value), func(t *testing.T) {
					refuse(t, status, bodyOf(input.others, fmt.Sprintf("%q:%s", field, encoded)))
				})
			}
			t.Run("twice", func(t *testing.T) {
				refuse(t, 400, bodyOf(input.others, fmt.Sprintf(`%q:"1",%q:"1"`, field, field)))
			})
			t.Run("twice, once by escapes", func(t *testing.T) {
				again := fmt.Sprintf(`"\u%04x%s":"1"`, field[0], field[1:])
				refuse(t, 400, bodyOf(input.others, fmt.Sprintf(`%q:"1",%s`, field, again)))
			})
			if input.needed {
				t.Run("missing", func(t *testing.T) { refuse(t, 400, bodyOf(input.others, "")) })
			}
		})
	}
	if ids, _ := p.all("/v1/accounts/ada/posts"); len(ids) != 1 {
		t.Errorf("there are %d posts, want the first alone", len(ids))
	}
}

// bodyFields are the fields of all bodies that openapi.yaml takes, by their schemas.
func bodyFields() map[string]bool {
	fields := map[string]bool{}
	for _, item := range spec().Paths.Map() {
		for _, operation := range item.Operations() {
			if operation.RequestBody == nil {
				continue
			}
			for _, media := range operation.RequestBody.Value.Content {
				schema := media.Schema
				if schema.Value.Items != nil {
					schema = schema.Value.Items
				}
				for field := range schema.Value.Properties {
					fields[schema.Ref[strings.LastIndexByte(schema.Ref, '/')+1:]+"."+field] = true
				}
			}
		}
	}
	return fields
}

// parameters are all parameters that openapi.yaml knows, where they may stand, and what is refused. Values of paths and
// queries are encoded as they must be.
var parameters = map[string]struct {
	method, path string // {} is the parameter's place in a path
	refused      wrong
}{
	"id":     {http.MethodGet, "/v1/accounts/{}/feed", without(badAccount, "", "a/b")},
	"target": {http.MethodPut, "/v1/accounts/ada/muted/{}", without(badAccount, "", "a/b")},
	"post":   {http.MethodGet, "/v1/posts/{}", without(badPost, "")},
	"limit": {http.MethodGet, "/v1/accounts/ada/posts?limit={}", wrong{
		"": 400, "0": 400, "-1": 400, "101": 400, "1e2": 400, "1.0": 400, "+1": 400, "01": 400, "\u00201": 400, "１": 400,
		"99999999999999999999": 400, strings.Repeat("9", 4000): 400, "1\x00": 400, "\xff": 400, "NaN": 400,
	}},
	"cursor": {http.MethodGet, "/v1/accounts/ada/posts?cursor={}", wrong{
		"": 400, "x": 400, "AAAA": 400, "\x00": 400, "\xff": 400, strings.Repeat("A", 8000): 400, "../..": 400,
	}},
	"Freshet-Position": {http.MethodGet, "/v1/accounts/ada", wrong{
		"x": 400, "follows": 400, "follows:0:1": 400, "follows:0:x:1": 400, "follows:-1:0:1": 400, "other:0:1:1": 400,
		"follows:0:99999999999999999999:1": 400, ",": 400, strings.Repeat("follows:0:0:1,", 9) + "follows:0:0:1": 400,
		"follows:0:0:\xff": 400, strings.Repeat("9", 4000): 400,
	}},
	"Freshet-Viewer": {http.MethodGet, "/v1/accounts/ada/posts", without(badAccount, "a\x00", "a\n", " ",
		strings.Repeat("a", 6000)).and(wrong{"nobody": 400})},
	"Idempotency-Key": {http.MethodPost, "/v1/posts", wrong{
		"": 400, "a b": 400, "ä": 400, "\xff": 400, strings.Repeat("a", 256): 400, strings.Repeat("a", 8000): 400,
	}},
	"Last-Event-ID": {http.MethodGet, "/v1/accounts/ada/feed/stream", wrong{
		"x": 400, "AAAA": 400, "\xff": 400, strings.Repeat("A", 8000): 400, "-1": 400,
	}},
}

func without(w wrong, values ...string) wrong {
	rest := maps.Clone(w)
	for _, v := range values {
		delete(rest, v)
	}
	return rest
}

// TestBadParameters: the same for everything that stands in paths, queries and headers.
func TestBadParameters(t *testing.T) {
	p := deploy(t).start(t)
	p.register("ada")
	for _, item := range spec().Paths.Map() {
		all := slices.Clone(item.Parameters)
		for _, operation := range item.Operations() {
			all = append(all, operation.Parameters...)
		}
		for _, parameter := range all {
			name := parameter.Value.Name
			if _, tested := parameters[name]; !tested && name != "If-None-Match" { // of which all is taken
				t.Errorf("openapi.yaml has the parameter %s, of which there is no test", name)
			}
		}
	}
	for name, parameter := range parameters {
		for value, status := range parameter.refused {
			t.Run(fmt.Sprintf("%s %.20q", name, value), func(t *testing.T) {
				defer func(before *testing.T) { p.t = before }(p.t)
				p.t = t
				body := ""
				if parameter.method == http.MethodPost {
					body = `{"author":"ada","text":"x"}`
				}
				if strings.Contains(parameter.path, "{}") {
					p.do(parameter.method, strings.Replace(parameter.path, "{}", escaped(value), 1), body).names(status, name)
				} else {
					p.do(parameter.method, parameter.path, body, name, value).names(status, name)
				}
			})
		}
	}
}

// escaped is every byte as an escape of an URL.
func escaped(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}
