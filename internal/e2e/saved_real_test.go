//go:build real

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/crash"
	"freshet/internal/servers"
)

// savedRun is a process that saves posts before it publishes them, an author and a follower.
type savedRun struct {
	backends
	t      *testing.T
	http   *http.Client
	dir    string
	listen string
	proc   *process
	wanted map[string]bool // the texts of posts that have to be there, once each
	n      int
}

func (r *savedRun) start(env ...string) {
	r.t.Helper()
	r.proc = executeWith(r.t, env, r.listen, "run", "all", "--accept", "store", "--listen", r.listen,
		"--admin", "127.0.0.1:0", "--data", r.dir, "--kafka", strings.Join(r.kafka.Addrs(), ","),
		"--redis", strings.Join(r.redis.Addrs(), ","), "--cassandra", r.cassandra.Addrs()[0], "--store-replication", "1",
		"--partitions", "8", "--replication", "1", "--min-in-sync", "1")
	r.proc.awaitReady()
}

func (r *savedRun) ask(method, path string, body any) (answer, error) {
	return request(r.http, method, r.proc.url()+"/v1/"+path, body)
}

// must asks until the answer is the one wanted.
func (r *savedRun) must(status int, method, path string, body any) (last answer) {
	r.t.Helper()
	await(r.t, fmt.Sprintf("%s %s is answered %d", method, path, status), func() (bool, string) {
		var err error
		last, err = r.ask(method, path, body)
		return err == nil && last.status == status, fmt.Sprint(last, err)
	})
	return last
}

// post sends a post with a text of its own.
func (r *savedRun) post() (text string, made item, a answer, err error) {
	r.n++
	text = fmt.Sprint("post ", r.n)
	if a, err = r.ask(http.MethodPost, "posts", map[string]string{"author": "ann", "text": text}); err == nil {
		_ = json.Unmarshal(a.body, &made) // a refusal has no post
	}
	return text, made, a, err
}

// texts is what a list shows, and how often.
func (r *savedRun) texts(list string) (map[string]int, error) {
	items, complete, err := walk(r.http, r.proc.url()+"/v1/"+list, func() int { return 100 })
	if err == nil && !complete {
		err = fmt.Errorf("%s is not complete", list)
	}
	texts := map[string]int{}
	for _, i := range items {
		texts[i.Text]++
	}
	return texts, err
}

// shown waits until the author's posts and the follower's feed are what is wanted. Never is a post there twice, nor one
// that nobody wants.
func (r *savedRun) shown(when string) {
	r.t.Helper()
	await(r.t, when+": all posts are shown once", func() (bool, string) {
		for _, list := range []string{"accounts/ann/posts", "accounts/bob/feed"} {
			texts, err := r.texts(list)
			if err != nil {
				return false, err.Error()
			}
			for text, times := range texts {
				if times > 1 || !r.wanted[text] {
					r.t.Fatalf("%s: %s shows %q %d times", when, list, text, times)
				}
			}
			if len(texts) != len(r.wanted) {
				missing := maps.Clone(r.wanted)
				maps.DeleteFunc(missing, func(text string, _ bool) bool { return texts[text] == 1 })
				return false, fmt.Sprintf("%s lacks %v", list, slices.Sorted(maps.Keys(missing)))
			}
		}
		return true, ""
	})
}

// crashAt posts until the process has come to its point, starts it again, and returns the text of the post that it was
// at, which is wanted as well.
func (r *savedRun) crashAt(point crash.Point) (lost string) {
	r.t.Helper()
	r.proc.stop()
	r.start(fmt.Sprintf("%s=%s:3", crash.Env, point))
	r.proc.killed.Store(true)
	for {
		text, _, a, err := r.post()
		r.wanted[text] = true
		if err != nil {
			lost = text
			break
		}
		if a.status != http.StatusCreated {
			r.t.Fatalf("post: %s", a)
		}
	}
	r.proc.awaitKilled()
	r.start()
	return lost
}

// Posts that are saved before they are published, and what kills, Kafka and Cassandra being away in between make of
// them: none is lost, none comes twice, none is shown that was deleted or could not be saved, and no edit is undone.
func TestRealSavedPosts(t *testing.T) {
	t.Parallel()
	r := &savedRun{
		t: t, http: connections(t), dir: filepath.Join(t.TempDir(), "data"), listen: freePort(t), wanted: map[string]bool{},
	}
	r.backends = startServers(t, servers.Options{Brokers: 1}, nil)
	r.start()
	r.must(http.StatusCreated, http.MethodPut, "accounts/ann", nil)
	r.must(http.StatusCreated, http.MethodPut, "accounts/bob", nil)
	if a, err := r.ask(http.MethodPut, "accounts/bob/following/ann", nil); err != nil || a.status/100 != 2 {
		t.Fatal(a, err)
	}

	// The log has the post, and it is still marked: its author edits it before a sweep looks at it.
	lost := r.crashAt(crash.Published)
	r.shown("killed after publishing")
	items, _, err := walk(r.http, r.proc.url()+"/v1/accounts/ann/posts", func() int { return 100 })
	if err != nil || len(items) == 0 || items[0].Text != lost {
		t.Fatalf("got %v, %v, want %q first", items, err, lost)
	}
	r.must(http.StatusOK, http.MethodPatch, "posts/"+items[0].ID, map[string]string{"text": "edited"})
	delete(r.wanted, lost)
	r.wanted["edited"] = true

	// The log does not have the post.
	lost = r.crashAt(crash.Saved)
	if texts, err := r.texts("accounts/ann/posts"); err != nil || texts[lost] > 0 && r.swept() == 0 {
		t.Errorf("before a sweep, ann's posts are %v: %v", texts, err)
	}

	// Kafka is away.
	if err := r.kafka.Stop(); err != nil {
		t.Fatal(err)
	}
	text, made, a, err := r.post()
	if err != nil || a.status != http.StatusAccepted || made.Text != text {
		t.Fatalf("a post while Kafka is away: %s, %v", a, err)
	}
	r.wanted[text] = true
	_, deleted, a, err := r.post()
	if err != nil || a.status != http.StatusAccepted {
		t.Fatalf("a post while Kafka is away: %s, %v", a, err)
	}
	a, err = r.ask(http.MethodDelete, "posts/"+deleted.ID, nil)
	if err != nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("a delete while Kafka is away: %s, %v", a, err)
	}
	if err := r.kafka.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.must(http.StatusNoContent, http.MethodDelete, "posts/"+deleted.ID, nil)
	r.shown("killed after saving, and Kafka was away")
	if r.swept() == 0 {
		t.Error("no sweep has published anything")
	}

	// Cassandra is away.
	if err := r.cassandra.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, _, a, err := r.post(); err != nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("a post while Cassandra is away: %s, %v", a, err)
	}
	if err := r.cassandra.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "posts are accepted again", func() (bool, string) {
		text, _, a, err := r.post()
		if err == nil && a.status == http.StatusCreated {
			r.wanted[text] = true
			return true, ""
		}
		return false, fmt.Sprint(a, err)
	})
	r.shown("Cassandra was away")
}

// swept is how many posts the sweeps of the process have published.
func (r *savedRun) swept() (n int) {
	r.t.Helper()
	a, err := request(r.http, http.MethodGet, r.proc.admin+"/metrics", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(a.body)) {
		if _, err := fmt.Sscanf(line, "freshet_posts_swept_total %d", &n); err == nil {
			return n
		}
	}
	r.t.Fatal("there is no metric of swept posts")
	return 0
}
