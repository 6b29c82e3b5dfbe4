package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/client"
)

// list is all of a list.
func list[T any](t *testing.T, items iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for item, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item)
	}
	return all
}

func register(t *testing.T, c *client.Client, ids ...freshet.AccountID) {
	t.Helper()
	for _, id := range ids {
		if _, err := c.PutAccount(t.Context(), id, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Everything that the API does, from the client's side.
func TestWhole(t *testing.T) {
	c, ctx := connect(t, start(t), nil), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := "Ann"
	account, err := c.PutAccount(ctx, "ann", &name)
	must(err)
	if account.ID != "ann" || account.Name != name || account.CreatedAt.IsZero() {
		t.Errorf("%+v", account)
	}
	register(t, c, "bob", "cid")
	must(c.Follow(ctx, "ann", "bob"))
	must(c.Follow(ctx, "ann", "cid"))
	if got := list(t, c.Following(ctx, "ann")); len(got) != 2 {
		t.Errorf("ann follows %v", got)
	}
	must(c.Unfollow(ctx, "ann", "cid"))
	if got := list(t, c.Followers(ctx, "bob")); !slices.Equal(got, []freshet.AccountID{"ann"}) {
		t.Errorf("bob is followed by %v", got)
	}

	made, err := c.Publish(ctx, client.NewPost{Author: "bob", Text: "hello", Visibility: freshet.FollowersOnly})
	must(err)
	reply, err := c.Publish(ctx, client.NewPost{Author: "ann", Text: "hello, bob", ReplyTo: made.ID})
	must(err)
	if reply.ReplyTo != made.ID || reply.Visibility != freshet.Public || made.Visibility != freshet.FollowersOnly {
		t.Errorf("%+v %+v", made, reply)
	}
	edited, err := c.Edit(ctx, made.ID, "hello, world")
	must(err)
	found, err := c.Post(ctx, made.ID)
	must(err)
	if found != edited || found.EditedAt.IsZero() || found.Text != "hello, world" {
		t.Errorf("%+v, edited %+v", found, edited)
	}

	var many []client.NewPost
	for i := range 150 {
		many = append(many, client.NewPost{Author: "bob", Text: fmt.Sprint("number ", i)})
	}
	many[7].Author = "nobody"
	results, err := c.PublishBatch(ctx, many)
	must(err)
	for i, r := range results {
		if (r.Err != nil) != (i == 7) || r.Err == nil && r.Post.Text != many[i].Text {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	feed := list(t, c.Feed(ctx, "ann")) // two pages
	if len(feed) != 151 || feed[0].Text != "number 149" || feed[150] != found {
		t.Errorf("%d posts in ann's feed", len(feed))
	}
	if own := list(t, c.Posts(ctx, "bob")); len(own) != 150 {
		t.Errorf("bob has %d posts", len(own))
	}
	first, err := c.FeedPage(ctx, "ann", client.PageOptions{Limit: 3})
	must(err)
	second, err := c.FeedPage(ctx, "ann", client.PageOptions{Limit: 3, Cursor: first.Next})
	must(err)
	if !slices.Equal(slices.Concat(first.Items, second.Items), feed[:6]) || !first.Complete {
		t.Errorf("pages: %+v %+v", first, second)
	}

	must(c.Delete(ctx, made.ID))
	must(c.Delete(ctx, made.ID))
	_, err = c.Post(ctx, made.ID)
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusNotFound || refused.Detail == "" {
		t.Errorf("a deleted post: %v", err)
	}
	if _, err = c.Publish(ctx, client.NewPost{Author: "bob"}); !errors.As(err, &refused) || refused.Errors["text"] == "" {
		t.Errorf("a post without a text: %v", err)
	}

	must(c.Mute(ctx, "ann", "bob"))
	if got := list(t, c.Muted(ctx, "ann")); len(got) != 1 || len(list(t, c.Feed(ctx, "ann"))) != 1 {
		t.Errorf("muted: %v", got)
	}
	must(c.Unmute(ctx, "ann", "bob"))
	must(c.Block(ctx, "ann", "cid"))
	if got := list(t, c.Blocked(ctx, "ann")); !slices.Equal(got, []freshet.AccountID{"cid"}) {
		t.Errorf("blocked: %v", got)
	}
	if err := c.Follow(ctx, "cid", "ann"); client.StatusOf(err) != http.StatusForbidden {
		t.Errorf("follow who blocks: %v", err)
	}
	must(c.Unblock(ctx, "ann", "cid"))
	must(c.CloseAccount(ctx, "cid"))
	if _, err := c.Account(ctx, "cid"); client.StatusOf(err) != http.StatusNotFound {
		t.Errorf("a closed account: %v", err)
	}
	counted, err := c.Account(ctx, "ann")
	if err != nil || counted.Following != 1 {
		t.Errorf("%+v %v", counted, err)
	}
}

// A request whose answer is lost is sent again, and done once.
func TestLostAnswers(t *testing.T) {
	w := between(t, start(t))
	c := connect(t, w.URL, nil)
	register(t, c, "ann")
	w.lose.Store(3)
	if _, err := c.Publish(t.Context(), client.NewPost{Author: "ann", Text: "once"}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, c.Posts(t.Context(), "ann")); len(got) != 1 {
		t.Errorf("ann has %d posts", len(got))
	}
	w.lose.Store(1)
	before := w.sent.Load()
	if _, err := c.PublishBatch(t.Context(), []client.NewPost{{Author: "ann", Text: "twice?"}}); err == nil {
		t.Error("a batch without an answer is no error")
	}
	if sent := w.sent.Load() - before; sent != 1 {
		t.Errorf("a batch that may be done was sent %d times", sent)
	}
	w.lose.Store(100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Account(ctx, "ann"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	before = w.sent.Load()
	if _, err := c.Account(t.Context(), "ann"); err == nil || w.sent.Load()-before != client.DefaultAttempts {
		t.Errorf("%v after %d attempts, want an error after %d", err, w.sent.Load()-before, client.DefaultAttempts)
	}
}

// Writes answer where they lie, and reads take it along: of each row the last one.
func TestReadsNameTheWritesBefore(t *testing.T) {
	w := between(t, start(t))
	c := connect(t, w.URL, nil)
	register(t, c, "ann", "bob")
	for _, err := range []error{c.Follow(t.Context(), "ann", "bob"), c.Unfollow(t.Context(), "ann", "bob")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Publish(t.Context(), client.NewPost{Author: "ann", Text: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Account(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	header, _ := w.last.Load().(http.Header)
	positions := header.Values("Freshet-Position")
	if len(positions) != 1 || strings.Count(positions[0], ",") != 2 {
		t.Errorf("a read after two registrations, two changes of a row and a post sends %q", positions)
	}
}

// What the API asks to wait is waited, and what it refuses for good is not sent again.
func TestRetryAfter(t *testing.T) {
	answers := make(chan int, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		status := <-answers
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"about:blank","title":"x","status":%d,"detail":"y"}`, status)
	}))
	defer server.Close()
	c := connect(t, server.URL, nil)
	answers <- http.StatusTooManyRequests
	answers <- http.StatusOK
	begun := time.Now()
	if _, err := c.Account(t.Context(), "ann"); err != nil || time.Since(begun) < time.Second {
		t.Errorf("%v after %s; want to have waited a second", err, time.Since(begun))
	}
	answers <- http.StatusForbidden
	if _, err := c.Account(t.Context(), "ann"); client.StatusOf(err) != http.StatusForbidden || len(answers) != 0 {
		t.Errorf("%v", err)
	}
}

// A stream goes on where it was, however often it breaks.
func TestStreamThatBreaks(t *testing.T) {
	w := between(t, start(t))
	c := connect(t, w.URL, nil)
	register(t, c, "ann", "bob")
	if err := c.Follow(t.Context(), "ann", "bob"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w.cut.Store(3)
	const posts = 12
	published := make(chan error, 1)
	seen := map[string]bool{}
	var order []string
	for e, err := range c.Stream(ctx, "ann", "") {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == client.Opened {
			go func() {
				var err error
				for i := range posts {
					_, failed := c.Publish(ctx, client.NewPost{Author: "bob", Text: fmt.Sprint("number ", i)})
					err = errors.Join(err, failed)
				}
				published <- err
			}()
		}
		if text := e.Post.Text; e.Kind == client.Posted && !seen[text] {
			seen[text] = true
			order = append(order, text)
		}
		if len(order) == posts {
			break
		}
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	for i, text := range order {
		if text != fmt.Sprint("number ", i) {
			t.Fatalf("the stream told %q", order)
		}
	}
	for _, err := range c.Stream(t.Context(), "nobody", "") {
		if client.StatusOf(err) != http.StatusNotFound {
			t.Errorf("the stream of nobody: %v", err)
		}
	}
}
