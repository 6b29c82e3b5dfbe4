package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"freshet/emitters"
)

type post struct {
	ID, Author, Text, Visibility string
	ReplyTo                      string `json:"reply_to"`
	CreatedAt                    string `json:"created_at"`
	EditedAt                     string `json:"edited_at"`
}

func TestPosts(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada", "bob")

	created := p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"hello <b> & 🙂"}`).want(http.StatusCreated)
	var first post
	created.json(&first)
	if first.Author != "ada" || first.Text != "hello <b> & 🙂" || first.Visibility != "public" || first.ReplyTo != "" {
		t.Errorf("created: %+v", first)
	}
	if !strings.HasPrefix(created.header.Get("Freshet-Position"), "posts:") {
		t.Errorf("Freshet-Position is %q", created.header.Get("Freshet-Position"))
	}
	var read post
	p.do(http.MethodGet, created.header.Get("Location"), "").want(http.StatusOK).json(&read)
	if read != first {
		t.Errorf("created %+v, read %+v", first, read)
	}
	var reply post
	p.do(http.MethodPost, "/v1/posts",
		`{"author":"bob","text":"`+strings.Repeat("ü", 10_000)+`","reply_to":"`+first.ID+`","visibility":"followers"}`).
		want(http.StatusCreated).json(&reply)
	if reply.ReplyTo != first.ID || reply.Visibility != "followers" {
		t.Errorf("created: %+v", reply)
	}
	p.do(http.MethodGet, "/v1/posts/"+reply.ID, "").want(http.StatusOK)

	for range 2 {
		p.do(http.MethodDelete, "/v1/posts/"+first.ID, "").want(http.StatusNoContent)
		p.do(http.MethodGet, "/v1/posts/"+first.ID, "").want(http.StatusNotFound)
	}
	p.do(http.MethodGet, "/v1/posts/1", "").want(http.StatusNotFound)
	p.do(http.MethodDelete, "/v1/posts/1", "").want(http.StatusNotFound)
	p.do(http.MethodPost, "/v1/posts", `{"author":"nobody","text":"hello"}`).want(http.StatusNotFound)

	p.do(http.MethodDelete, "/v1/accounts/bob", "").want(http.StatusAccepted)
	p.do(http.MethodGet, "/v1/posts/"+reply.ID, "").want(http.StatusNotFound)
	p.do(http.MethodGet, "/v1/accounts/bob/posts", "").want(http.StatusNotFound)
	p.do(http.MethodGet, "/v1/accounts/bob/feed", "").want(http.StatusNotFound)
	if got, _ := p.all("/v1/accounts/ada/feed"); len(got) != 0 {
		t.Errorf("the feed shows %v, whose author is closed", got)
	}
}

func TestEdits(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada")
	var first, edited, read post
	created := p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"helo","visibility":"followers"}`)
	created.want(http.StatusCreated).json(&first)
	path := "/v1/posts/" + first.ID

	answer := p.do(http.MethodPatch, path, `{"text":"hello"}`).want(http.StatusOK)
	answer.json(&edited)
	want := first
	want.Text, want.EditedAt = "hello", edited.EditedAt
	if edited != want || edited.EditedAt == "" {
		t.Errorf("edited: %+v, want %+v", edited, want)
	}
	if !strings.HasPrefix(answer.header.Get("Freshet-Position"), "posts:") {
		t.Errorf("Freshet-Position is %q", answer.header.Get("Freshet-Position"))
	}
	if p.do(http.MethodGet, path, "").want(http.StatusOK).json(&read); read != edited {
		t.Errorf("read %+v, edited %+v", read, edited)
	}

	for body, status := range map[string]int{
		`{}`: http.StatusBadRequest, `{"text":1}`: http.StatusBadRequest, ``: http.StatusUnsupportedMediaType,
		`{"text":"x","visibility":"public"}`: http.StatusBadRequest, `{"text":""}`: http.StatusUnprocessableEntity,
		`{"text":"` + strings.Repeat("ü", 10_001) + `"}`: http.StatusUnprocessableEntity,
	} {
		p.do(http.MethodPatch, path, body).want(status)
	}
	p.do(http.MethodPatch, "/v1/posts/1", `{"text":"x"}`).want(http.StatusNotFound)
	p.do(http.MethodPatch, "/v1/posts/x", `{"text":"x"}`).want(http.StatusBadRequest)
	if p.do(http.MethodGet, path, "").json(&read); read != edited {
		t.Errorf("what was refused has changed the post: %+v", read)
	}

	d.posts.unshown = emitters.ErrNotShown
	late := p.do(http.MethodPatch, path, `{"text":"late"}`).want(http.StatusServiceUnavailable)
	if late.header.Get("Freshet-Position") == "" {
		t.Error("an edit that is in the log and not shown yet has no position")
	}
	d.posts.unshown = nil

	p.do(http.MethodDelete, path, "").want(http.StatusNoContent)
	p.do(http.MethodPatch, path, `{"text":"x"}`).want(http.StatusNotFound)

	created = p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"bye"}`).want(http.StatusCreated)
	p.do(http.MethodDelete, "/v1/accounts/ada", "").want(http.StatusAccepted)
	p.do(http.MethodPatch, created.header.Get("Location"), `{"text":"x"}`).want(http.StatusNotFound)
}

func TestPagesOfPosts(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada", "bob")
	var adas, all []string
	for i := range 7 {
		author := []string{"ada", "bob"}[i%2]
		var made post
		p.do(http.MethodPost, "/v1/posts", fmt.Sprintf(`{"author":%q,"text":"%d"}`, author, i)).
			want(http.StatusCreated).json(&made)
		all = append(all, made.ID)
		if author == "ada" {
			adas = append(adas, made.ID)
		}
	}
	slices.Reverse(all)
	slices.Reverse(adas)
	for path, want := range map[string][]string{"/v1/accounts/ada/posts": adas, "/v1/accounts/ada/feed": all} {
		for limit := 1; limit <= len(want)+1; limit++ {
			got, pages := p.all(fmt.Sprint(path, "?limit=", limit))
			if wantPages := (len(want) + limit - 1) / limit; !slices.Equal(got, want) || pages != wantPages {
				t.Errorf("%s, limit %d: %v in %d pages, want %v in %d", path, limit, got, pages, want, wantPages)
			}
		}
	}

	complete := func() bool {
		var feed struct{ Complete *bool }
		p.do(http.MethodGet, "/v1/accounts/ada/feed", "").want(http.StatusOK).json(&feed)
		return *feed.Complete
	}
	if !complete() {
		t.Error("the feed is not complete")
	}
	d.posts.partial = true
	if complete() {
		t.Error("the reader says that the feed is not complete, and the answer that it is")
	}
	d.posts.partial = false
	d.posts.posts[0].Author = 1 << 50 // whom the accounts view does not know yet
	if complete() {
		t.Error("a post was left out, and the answer says that the feed is complete")
	}
}
