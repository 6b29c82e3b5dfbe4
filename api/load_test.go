package api_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"freshet"
	"freshet/api"
)

// heldPosts answers when it is told to.
type heldPosts struct {
	api.PostReader
	asked, held chan struct{}
}

func (h *heldPosts) Post(ctx context.Context, id freshet.PostID) (freshet.Post, bool, error) {
	h.asked <- struct{}{}
	<-h.held
	return h.PostReader.Post(ctx, id)
}

// What comes while the process has enough in its hands is turned away, and what it has is answered.
func TestShedding(t *testing.T) {
	d := deploy(t)
	posts := &heldPosts{PostReader: d.posts, asked: make(chan struct{}), held: make(chan struct{})}
	p := d.start(t).with(func(c *api.Config) { c.Posts, c.MaxInFlight = posts, 2 })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if a := p.do(http.MethodGet, "/v1/posts/1", ""); a.status != http.StatusNotFound {
				t.Errorf("a request that was let in: %d %s", a.status, a.body)
			}
		})
		<-posts.asked
	}
	shed := p.do(http.MethodGet, "/v1/accounts/ada", "").want(http.StatusServiceUnavailable)
	if shed.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	p.do(http.MethodGet, "/openapi.yaml", "").want(http.StatusOK)
	close(posts.held)
	wg.Wait()
	p.do(http.MethodGet, "/v1/accounts/ada", "").want(http.StatusNotFound)
}

func TestRateLimit(t *testing.T) {
	d := deploy(t)
	free := d.start(t)
	free.register("ada")
	p := free.with(func(c *api.Config) { c.RateLimit, c.RateBurst = 0.001, 4 })
	made := p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"x"}`).want(http.StatusCreated) // 3 units
	if made.header.Get("RateLimit") == "" || made.header.Get("RateLimit-Policy") != `"default";q=4;w=4000` {
		t.Errorf("%v", made.header)
	}
	p.do(http.MethodGet, "/v1/accounts/ada/feed", "").want(http.StatusOK)
	refused := p.do(http.MethodGet, "/v1/accounts/ada/feed", "").want(http.StatusTooManyRequests)
	if refused.header.Get("Retry-After") == "" || refused.header.Get("RateLimit") == "" {
		t.Errorf("%v", refused.header)
	}
	p.do(http.MethodGet, "/openapi.yaml", "").want(http.StatusOK)
	if a := free.do(http.MethodGet, "/v1/accounts/ada/feed", "").want(http.StatusOK); a.header.Get("RateLimit") != "" {
		t.Error("a limit where there is none")
	}

	// With authentication each caller has its own.
	q := guarded(free).with(func(c *api.Config) { c.RateLimit, c.RateBurst = 0.001, 1 })
	for _, bearer := range []string{"ada", "backend", "bob"} {
		q.as(bearer, http.MethodGet, "/v1/accounts/ada", "").want(http.StatusOK)
		q.as(bearer, http.MethodGet, "/v1/accounts/ada", "").want(http.StatusTooManyRequests)
	}
	q.as("stolen", http.MethodGet, "/v1/accounts/ada", "").want(http.StatusUnauthorized)
}
