package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
)

// TestWalk: a reader goes through a feed of 5,000 posts, of which the caches hold 800, by its cursors, while posts come
// and go. Every post is there once, in order, and whole pages are whole; a restart and a Redis that is emptied in
// between change nothing. The same cursors lead the same way when everything is over.
func TestWalk(t *testing.T) {
	t.Parallel()
	const authors, each, limit = 10, 500, 100
	r := newRun(t)
	dir := filepath.Join(t.TempDir(), "data")
	r.proc = start(t, "--data", dir)
	base := func() string { return r.proc.url() + "/v1/" }
	must := func(status int, method, path string, body any) answer {
		t.Helper()
		a, err := request(r.http, method, base()+path, body)
		if err != nil || a.status != status {
			t.Fatalf("%s %s: %s %v", method, path, a, err)
		}
		return a
	}
	must(http.StatusCreated, http.MethodPut, "accounts/reader", nil)
	for i := range authors {
		must(http.StatusCreated, http.MethodPut, fmt.Sprintf("accounts/author%d", i), nil)
		must(http.StatusNoContent, http.MethodPut, fmt.Sprintf("accounts/reader/following/author%d", i), nil)
	}
	var batch lines
	for n := range authors * each {
		batch = append(batch, map[string]string{"author": fmt.Sprintf("author%d", n%authors), "text": fmt.Sprint(n)})
	}
	must(http.StatusMultiStatus, http.MethodPost, "posts/batch", batch)
	r.quiet()

	feed := func(cursor string) page {
		t.Helper()
		var found page
		await(t, "the page is complete", func() (bool, string) {
			p, a, err := getPage(r.http, base()+"accounts/reader/feed", limit, cursor)
			found = p
			return err == nil && a.status == http.StatusOK && p.Complete, fmt.Sprintf("%s %v", a, err)
		})
		return found
	}
	var ids []uint64 // as they were walked through
	var cursors []string
	gone, late := map[uint64]bool{}, 0
	rng := r.random(1)
	for cursor, n := "", 0; ; n++ {
		p := feed(cursor)
		for _, post := range p.Items {
			ids = append(ids, post.id())
		}
		if p.Next == "" {
			break
		}
		if len(p.Items) != limit {
			t.Errorf("page %d has %d posts and another one behind it", n, len(p.Items))
		}
		cursor = p.Next
		cursors = append(cursors, cursor)
		for range 3 { // while it walks: newer posts, and one less further down
			late++
			must(http.StatusCreated, http.MethodPost, "posts", map[string]string{"author": "author1", "text": "late"})
		}
		ahead := feed(cursor)
		if doomed := ahead.Items[rng.IntN(len(ahead.Items))]; n%5 == 2 {
			must(http.StatusNoContent, http.MethodDelete, "posts/"+doomed.ID, nil)
			gone[doomed.id()] = true
		}
		switch n {
		case 3, 20: // within what the caches hold, and past it
			r.proc.kill()
			r.proc = start(t, "--data", dir)
		case 5, 30:
			r.flushAll(nil)
		}
	}
	want := authors*each - len(gone)
	for i := 1; i < len(ids); i++ {
		if ids[i] >= ids[i-1] {
			t.Errorf("post %d comes after %d", ids[i], ids[i-1])
		}
	}
	if len(ids) != want || len(gone) < 5 || late < 3*40 {
		t.Errorf("%d posts walked through, want %d; %d were deleted and %d came meanwhile", len(ids), want, len(gone), late)
	}
	for _, id := range ids {
		if gone[id] {
			t.Errorf("post %d was deleted before its page was read", id)
		}
	}
	for i, cursor := range cursors {
		p := feed(cursor)
		if at := slices.Index(ids, p.Items[0].id()); at < 0 || at > limit*(i+1) || at < limit*(i+1)-len(gone) {
			t.Errorf("cursor %d leads to post %s, the %d. of the walk", i, p.Items[0].ID, at)
		}
	}
}
