package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"freshet/api"
	"freshet/internal/auth"
)

// bearers are the credentials that are good; package auth tests how that is found out.
type bearers map[string]*auth.Caller

func (b bearers) Verify(_ context.Context, bearer string) (*auth.Caller, error) {
	if bearer == "later" {
		return nil, fmt.Errorf("%w: the key set is away", auth.ErrUnavailable)
	}
	if c := b[bearer]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("%w: who is that?", auth.ErrRejected)
}

func guarded(p *process) *process {
	return p.with(func(c *api.Config) {
		c.Auth = bearers{
			"backend": {Key: "1", Scopes: auth.Scopes},
			"reader":  {Key: "2", Scopes: []auth.Scope{auth.Read}},
			"writer":  {Key: "3", Scopes: []auth.Scope{auth.Write}},
			"ada":     {Account: "ada"}, "bob": {Account: "bob"}, "cyd": {Account: "cyd"}, "new": {Account: "new"},
		}
	})
}

func (p *process) as(bearer, method, path, body string, headers ...string) answer {
	p.t.Helper()
	return p.do(method, path, body, append([]string{"Authorization", "Bearer " + bearer}, headers...)...)
}

// TestWhoMayDoWhat walks every route that openapi.yaml has.
func TestWhoMayDoWhat(t *testing.T) {
	d := deploy(t)
	free := d.start(t)
	free.register("ada", "bob", "cyd", "eve")
	p := guarded(free)

	// Whom a token must belong to: anybody, the account of the path, the author, also of each line; "open" wants no
	// credentials.
	const anybody, self, author, lines, open = "anybody", "self", "author", "lines", "open"
	rules := map[string]string{
		"PUT /v1/accounts/{id}": self, "GET /v1/accounts/{id}": anybody, "DELETE /v1/accounts/{id}": self,
		"PUT /v1/accounts/{id}/following/{target}": self, "DELETE /v1/accounts/{id}/following/{target}": self,
		"PUT /v1/accounts/{id}/muted/{target}": self, "DELETE /v1/accounts/{id}/muted/{target}": self,
		"PUT /v1/accounts/{id}/blocked/{target}": self, "DELETE /v1/accounts/{id}/blocked/{target}": self,
		"GET /v1/accounts/{id}/following": anybody, "GET /v1/accounts/{id}/followers": anybody,
		"GET /v1/accounts/{id}/muted": self, "GET /v1/accounts/{id}/blocked": self,
		"POST /v1/posts": author, "POST /v1/posts/batch": lines,
		"GET /v1/posts/{post}": anybody, "PATCH /v1/posts/{post}": author,
		"DELETE /v1/posts/{post}": author, "GET /v1/accounts/{id}/posts": anybody, "GET /v1/accounts/{id}/feed": self,
		"GET /v1/accounts/{id}/feed/stream": self,
		"GET /openapi.yaml":                 open, "GET /docs": open,
	}
	walked := 0
	for template, item := range spec().Paths.Map() {
		for method := range item.Operations() {
			walked++
			rule, known := rules[method+" "+template]
			if !known {
				t.Errorf("%s %s: who may?", method, template)
				continue
			}
			if method == http.MethodDelete && template == "/v1/accounts/{id}" {
				continue // last
			}
			try := func(bearer string) answer {
				t.Helper()
				body := map[string]string{
					"POST /v1/posts": `{"author":"ada","text":"hello"}`, "POST /v1/posts/batch": `{"author":"ada","text":"hi"}`,
					"PATCH /v1/posts/{post}": `{"text":"hi"}`,
				}[method+" "+template]
				var made post
				if strings.Contains(template, "{post}") {
					free.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"hello"}`).json(&made)
				}
				target := "cyd"
				if strings.Contains(template, "/blocked/") {
					target = "eve"
				}
				path := strings.NewReplacer("{id}", "ada", "{target}", target, "{post}", made.ID).Replace(template)
				var headers []string
				if rule == lines {
					headers = []string{"Content-Type", "application/x-ndjson"}
				}
				if bearer == "" {
					return p.do(method, path, body, headers...)
				}
				return p.as(bearer, method, path, body, headers...)
			}
			t.Run(method+" "+template, func(t *testing.T) {
				none := try("")
				if rule == open {
					none.want(http.StatusOK)
					return
				}
				none.want(http.StatusUnauthorized)
				if got := none.header.Get("WWW-Authenticate"); got != `Bearer realm="freshet"` {
					t.Errorf("WWW-Authenticate: %q", got)
				}
				wrong := try("stolen").want(http.StatusUnauthorized)
				if got := wrong.header.Get("WWW-Authenticate"); !strings.Contains(got, "invalid_token") {
					t.Errorf("WWW-Authenticate: %q", got)
				}
				good := []string{"backend", "ada", "reader"}
				bad := "writer"
				if method != http.MethodGet {
					good[2], bad = "writer", "reader"
				}
				for _, bearer := range good {
					if a := try(bearer); a.status >= 400 {
						t.Errorf("%s: %d %s", bearer, a.status, a.body)
					}
				}
				scope := try(bad).want(http.StatusForbidden)
				if got := scope.header.Get("WWW-Authenticate"); !strings.Contains(got, "insufficient_scope") {
					t.Errorf("WWW-Authenticate: %q", got)
				}
				if a := try("bob"); rule == lines {
					if want := `{"status":403,`; a.status != http.StatusMultiStatus || !strings.HasPrefix(string(a.body), want) {
						t.Errorf("the token of another account: %d %s, want a line %s", a.status, a.body, want)
					}
				} else if (a.status == http.StatusForbidden) != (rule != anybody) || rule == anybody && a.status >= 400 {
					t.Errorf("the token of another account: %d %s", a.status, a.body)
				}
				later := try("later").want(http.StatusServiceUnavailable)
				if later.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			})
		}
	}
	if walked != len(rules) {
		t.Errorf("%d routes were walked, want %d", walked, len(rules))
	}
	p.as("bob", http.MethodDelete, "/v1/accounts/ada", "").want(http.StatusForbidden)
	p.as("reader", http.MethodDelete, "/v1/accounts/ada", "").want(http.StatusForbidden)
	p.do(http.MethodDelete, "/v1/accounts/ada", "").want(http.StatusUnauthorized)
	p.as("ada", http.MethodDelete, "/v1/accounts/ada", "").want(http.StatusAccepted)

	p.as("new", http.MethodPut, "/v1/accounts/new", "").want(http.StatusCreated)
	for _, header := range []string{"Basic YTpi", "backend", "Bearer", "bearer"} {
		p.do(http.MethodGet, "/v1/accounts/bob", "", "Authorization", header).want(http.StatusUnauthorized)
	}
	p.do(http.MethodGet, "/v1/accounts/bob", "", "Authorization", "bearer backend").want(http.StatusOK)
	p.do(http.MethodGet, "/nothing", "").want(http.StatusNotFound)
	p.do(http.MethodPost, "/v1/accounts/bob", "").want(http.StatusMethodNotAllowed)
	p.as("bob", http.MethodGet, "/v1/accounts/a%20b/feed", "").want(http.StatusBadRequest)
}

// A token sees what its account may see; a service key what the author sees, or the account that it names.
func TestAsWhomOneSees(t *testing.T) {
	d := deploy(t)
	free := d.start(t)
	free.register("ada", "bob", "cyd", "eve")
	free.do(http.MethodPut, "/v1/accounts/bob/following/ada", "").want(http.StatusNoContent)
	free.do(http.MethodPut, "/v1/accounts/ada/following/bob", "").want(http.StatusNoContent)
	free.do(http.MethodPut, "/v1/accounts/ada/following/cyd", "").want(http.StatusNoContent)
	free.do(http.MethodPut, "/v1/accounts/ada/blocked/eve", "").want(http.StatusNoContent)
	free.do(http.MethodPut, "/v1/accounts/bob/blocked/cyd", "").want(http.StatusNoContent)
	var public, followers post
	free.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"all"}`).want(http.StatusCreated).json(&public)
	free.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"some","visibility":"followers"}`).
		want(http.StatusCreated).json(&followers)
	p := guarded(free).with(func(c *api.Config) {
		c.Auth.(bearers)["eve"] = &auth.Caller{Account: "eve"}       //nolint:forcetypeassert // see guarded
		c.Auth.(bearers)["nobody"] = &auth.Caller{Account: "nobody"} //nolint:forcetypeassert // see guarded
	})
	both, one := []string{followers.ID, public.ID}, []string{public.ID}
	for _, tt := range []struct {
		bearer, as string
		posts      []string
		following  []string
	}{
		{"backend", "", both, []string{"bob", "cyd"}},
		{"ada", "", both, []string{"bob", "cyd"}},
		{"bob", "", both, []string{"bob"}}, // bob and cyd hide from each other
		{"cyd", "", one, []string{"cyd"}},
		{"eve", "", nil, nil},
		{"nobody", "", one, []string{"bob", "cyd"}},
		{"backend", "bob", both, []string{"bob"}},
		{"backend", "cyd", one, []string{"cyd"}},
		{"backend", "eve", nil, nil},
		{"cyd", "cyd", one, []string{"cyd"}},
	} {
		t.Run(tt.bearer+" "+tt.as, func(t *testing.T) {
			var headers []string
			if tt.as != "" {
				headers = []string{"Freshet-Viewer", tt.as}
			}
			got, _ := p.as(tt.bearer, http.MethodGet, "/v1/accounts/ada/posts", "", headers...).ids()
			if !slices.Equal(got, tt.posts) {
				t.Errorf("posts %v, want %v", got, tt.posts)
			}
			for _, id := range both {
				want := http.StatusNotFound
				if slices.Contains(tt.posts, id) {
					want = http.StatusOK
				}
				p.as(tt.bearer, http.MethodGet, "/v1/posts/"+id, "", headers...).want(want)
			}
			got, _ = p.as(tt.bearer, http.MethodGet, "/v1/accounts/ada/following", "", headers...).ids()
			if !slices.Equal(sorted(got), tt.following) {
				t.Errorf("following %v, want %v", got, tt.following)
			}
		})
	}
	blocked, _ := p.as("bob", http.MethodGet, "/v1/accounts/bob/blocked", "").ids()
	if !slices.Equal(blocked, []string{"cyd"}) {
		t.Errorf("bob blocks %v", blocked)
	}
	get := func(bearer, as string) answer {
		return p.as(bearer, http.MethodGet, "/v1/posts/"+public.ID, "", "Freshet-Viewer", as)
	}
	get("cyd", "bob").want(http.StatusForbidden)
	get("backend", "nobody").want(http.StatusBadRequest)
	get("backend", "a b").want(http.StatusBadRequest)
	get("backend", "").want(http.StatusBadRequest) // not as if nobody had been named
	free.do(http.MethodGet, "/v1/posts/"+public.ID, "", "Freshet-Viewer", "eve").want(http.StatusNotFound)

	// What somebody cannot see, it cannot tell from what is not there.
	for id, status := range map[string]int{public.ID: http.StatusForbidden, followers.ID: http.StatusNotFound} {
		p.as("cyd", http.MethodPatch, "/v1/posts/"+id, `{"text":"mine"}`).want(status)
		p.as("cyd", http.MethodDelete, "/v1/posts/"+id, "").want(status)
		p.as("eve", http.MethodDelete, "/v1/posts/"+id, "").want(http.StatusNotFound)
	}
	p.as("cyd", http.MethodPost, "/v1/posts", `{"author":"ada","text":"mine"}`).want(http.StatusForbidden)

	// Who takes the id of a closed account has nothing of it.
	free.do(http.MethodDelete, "/v1/accounts/ada", "").want(http.StatusAccepted)
	free.register("ada")
	p.as("ada", http.MethodPatch, "/v1/posts/"+public.ID, `{"text":"mine"}`).want(http.StatusNotFound)
	p.as("ada", http.MethodDelete, "/v1/posts/"+public.ID, "").want(http.StatusNotFound)
}

func sorted(ids []string) []string {
	slices.Sort(ids)
	return ids
}
