package surfaces

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"freshet/internal/config"
)

// failing is a Redis that fails as it is told.
type failing struct {
	*miniredis.Miniredis
	writes, all atomic.Bool
}

func startFailing(t *testing.T) *failing {
	t.Helper()
	r := &failing{Miniredis: miniredis.RunT(t)}
	if err := r.Server().Register("CONFIG", func(c *server.Peer, _ string, _ []string) {
		c.WriteStrings([]string{"maxmemory-policy", "noeviction"})
	}); err != nil {
		t.Fatal(err)
	}
	r.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
		writes := strings.HasPrefix(cmd, "EVAL") || cmd == "APPEND" || cmd == "SET"
		if r.all.Load() || writes && r.writes.Load() {
			c.WriteError("OOM command not allowed when used memory > 'maxmemory'.")
			return true
		}
		return false
	})
	return r
}

// TestPostsThatRedisDidNotTake: Redis takes no writes, or answers nothing, and fan-out and the archive stand still. Who
// has posted goes on with the post through the process that took it; no process ever says that there is no such post
// while it cannot know.
func TestPostsThatRedisDidNotTake(t *testing.T) {
	t.Parallel()
	redis := startFailing(t)
	c := servers(t, t.TempDir(), redis.Addr())
	serve(t, c, "tables", config.Directory, config.Following)
	one, two := serve(t, c, "one", config.API), serve(t, c, "two", config.API)
	t.Run("fan-out and the archive make the zones and end", func(t *testing.T) {
		serve(t, c, "fan-out", config.Fanout, config.Archive)
		one.must(http.MethodPut, "accounts/ada", "")
	})

	post := func() *shown {
		var made shown
		if err := json.Unmarshal(one.must(http.MethodPost, "posts", `{"author":"ada","text":"one"}`), &made); err != nil {
			t.Fatal(err)
		}
		return &made
	}
	want := func(p *process, method string, post *shown, status int, text string) {
		t.Helper()
		body := ""
		if method == http.MethodPatch {
			body = fmt.Sprintf(`{"text":%q}`, text)
		}
		got, data := p.ask(nil, method, "posts/"+post.ID, body)
		var answered shown
		if err := json.Unmarshal(data, &answered); len(data) > 0 && err != nil {
			t.Fatal(err)
		}
		if got != status || status == http.StatusOK && answered.Text != text {
			t.Errorf("%s through %s: %d %s; want %d %q", method, p.name, got, data, status, text)
		}
	}
	all := func(p *process, post *shown, status int) {
		t.Helper()
		for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodDelete} {
			want(p, method, post, status, "x")
		}
	}
	redis.writes.Store(true)
	first, second := post(), post()
	want(one, http.MethodGet, first, 200, "one")
	want(one, http.MethodPatch, first, 200, "two")
	want(one, http.MethodGet, first, 200, "two")
	all(two, first, 503)
	want(one, http.MethodDelete, second, 503, "") // it is in the log
	want(one, http.MethodGet, second, 404, "")
	want(one, http.MethodPatch, second, 404, "x")
	redis.all.Store(true)
	third := post()
	all(one, third, 503)
	all(two, third, 503)
	redis.all.Store(false)
	want(one, http.MethodGet, third, 200, "one")
	redis.writes.Store(false)
	want(one, http.MethodPatch, third, 200, "three")
	want(one, http.MethodDelete, second, 204, "")
	want(two, http.MethodGet, second, 404, "")

	serve(t, c, "fan-out", config.Fanout, config.Archive)
	for post, text := range map[*shown]string{first: "two", third: "three"} {
		until(t, "the other process shows it", func() string {
			if status, data := two.ask(nil, http.MethodGet, "posts/"+post.ID, ""); status != 200 ||
				!strings.Contains(string(data), text) {
				return fmt.Sprint(status, string(data))
			}
			return ""
		})
		want(one, http.MethodGet, post, 200, text)
	}
	want(one, http.MethodGet, second, 404, "")
}
