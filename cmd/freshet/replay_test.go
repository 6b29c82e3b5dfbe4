package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet/internal/app"
	"freshet/internal/replay"
)

// reader reads a feed over HTTP.
type reader struct {
	t *testing.T
	a *app.App
}

func (r reader) do(method, path, body string) string {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, r.a.APIURL()+path, bytes.NewBufferString(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= http.StatusMultipleChoices {
		r.t.Fatalf("%s %s: %s %s %v", method, path, answer.Status, text, err)
	}
	return string(text)
}

// feed is the texts of ada's feed, newest first.
func (r reader) feed() (texts []string) {
	r.t.Helper()
	var page struct{ Items []struct{ Text string } }
	if err := json.Unmarshal([]byte(r.do(http.MethodGet, "/v1/accounts/ada/feed?limit=100", "")), &page); err != nil {
		r.t.Fatal(err)
	}
	for _, post := range page.Items {
		texts = append(texts, post.Text)
	}
	return texts
}

func (r reader) await(what string, right func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !right(); {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: the feed is %v", what, r.feed())
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-r.t.Context().Done():
			r.t.FailNow()
		}
	}
}

// A bug has lost what was delivered into a feed that is read. Posts come and feeds are read all the while that the
// operator has the range processed again, and the feed is right.
func TestReplayMakesFeedsRight(t *testing.T) {
	a := start(t)
	kafka := []string{"--kafka", strings.Join(a.Kafka(), ",")}
	tool := func(args string) result {
		t.Helper()
		return command(t, "", append(strings.Fields(args), kafka...)...)
	}
	r := reader{t, a}
	for _, id := range []string{"ada", "bela"} {
		r.do(http.MethodPut, "/v1/accounts/"+id, "{}")
	}
	r.do(http.MethodPut, "/v1/accounts/ada/following/bela", "")
	settled(t, kafka)
	r.feed() // from now on it is warm
	post := func(i int) { r.do(http.MethodPost, "/v1/posts", fmt.Sprintf(`{"author":"bela","text":"%d"}`, i)) }
	const more, live = 20, 10
	bad := 0
	// Until a read has noted that the tree holds ada, reads find in the outbox what is missing, and put it back.
	r.await("a post is lost", func() bool {
		post(bad)
		bad++
		r.await("delivered", func() bool { return len(r.feed()) == bad })
		lose(t, a)
		return len(r.feed()) < bad
	})
	left := len(r.feed())
	for range more {
		post(bad)
		bad++
	}
	r.await("delivered", func() bool { return len(r.feed()) == left+more })
	lose(t, a)
	r.await("lost by the bug", func() bool { return len(r.feed()) == left })

	tool("replay fanout --from 1h --plan -o json").expect(t, exitPlan, `"partitions"`, "nothing was done")
	done := make(chan result, 1)
	go func() { done <- tool("replay fanout --from 1h --rate 40") }()
	for i := range live {
		post(bad + i)
		r.feed()
	}
	(<-done).expect(t, 0, "done", "")
	r.await("made right", func() bool { return len(r.feed()) == bad+live })
	for i, text := range r.feed() {
		if text != fmt.Sprint(bad+live-1-i) {
			t.Errorf("post %d of the feed is %s", i, text)
		}
	}
	var account struct{ Posts int }
	r.await("each post is counted once", func() bool {
		text := r.do(http.MethodGet, "/v1/accounts/bela", "")
		return json.Unmarshal([]byte(text), &account) == nil && account.Posts >= bad+live
	})
	if account.Posts != bad+live {
		t.Errorf("%d posts are counted, want %d", account.Posts, bad+live)
	}

	var states []replay.State
	if err := json.Unmarshal([]byte(tool("replay status -o json").stdout), &states); err != nil || len(states) != 1 ||
		states[0].Status != replay.Done || states[0].Copied < int64(bad) {
		t.Errorf("status: %+v, %v", states, err)
	}
	tool("replay fanout --from 1h --author bela").expect(t, 0, "done", "")
	tool("replay fanout --from 1h --author nobody").expect(t, exitUsage, "", "unknown account nobody")
	tool("replay pause fanout").expect(t, exitFailed, "", "no such replay")
	tool("replay archive --from 1h").expect(t, exitUsage, "", "does not read freshet.replays")
	tool("replay fanuot --from 1h").expect(t, exitUsage, "", "did you mean fanout?")
	tool("replay fanout --from 1h --to 2h").expect(t, exitUsage, "", "which is after its end")
	tool("replay fanout --from yesterday").expect(t, exitUsage, "", "--from:")
	tool("offsets list").expect(t, 0, "REPLAY LAG", "")
	command(t, "", "topology", "fanout").expect(t, 0, "freshet.fanout-table", "")
	command(t, "", "topology", "-o", "dot").expect(t, 0, "digraph freshet", "")
	command(t, "", "topology", "fanot").expect(t, exitUsage, "", "did you mean fanout?")
	tool("topics").expect(t, 0, "freshet.replays", "")
}

const exitFailed = 1

// lose removes from Redis what was delivered and not compacted yet.
func lose(t *testing.T, a *app.App) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: a.Redis()[0]})
	defer client.Close() //nolint:errcheck // of a test
	keys, err := client.Keys(t.Context(), "*:log:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if err := client.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
	}
}
