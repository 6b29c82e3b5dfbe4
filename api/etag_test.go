package api_test

import (
	"bytes"
	"net/http"
	"testing"
)

func TestFeedTags(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	p.register("ada")
	get := func(method, query, tags string) answer {
		t.Helper()
		a := p.do(method, "/v1/accounts/ada/feed"+query, "", "If-None-Match", tags)
		if a.header.Get("Cache-Control") != "private, no-cache" {
			t.Errorf("Cache-Control: %q", a.header.Get("Cache-Control"))
		}
		return a
	}
	p.do(http.MethodPost, "/v1/posts", hello).want(http.StatusCreated)
	p.do(http.MethodPost, "/v1/posts", hello).want(http.StatusCreated)
	first := get(http.MethodGet, "", "").want(http.StatusOK)
	tag := first.header.Get("ETag")
	if len(tag) < 20 || tag[0] != '"' {
		t.Fatalf("ETag: %q", tag)
	}
	for _, tags := range []string{tag, `"x", ` + tag, "W/" + tag, "*"} {
		same := get(http.MethodGet, "", tags).want(http.StatusNotModified)
		if len(same.body) != 0 || same.header.Get("ETag") != tag || same.header.Get("Content-Type") != "" {
			t.Errorf("304 with %v and %q", same.header, same.body)
		}
		get(http.MethodHead, "", tags).want(http.StatusNotModified)
	}
	for _, tags := range []string{`"x"`, tag[1 : len(tag)-1], `W/"x"`} {
		if a := get(http.MethodGet, "", tags).want(http.StatusOK); !bytes.Equal(a.body, first.body) {
			t.Errorf("%s, want %s", a.body, first.body)
		}
	}
	if a := get(http.MethodHead, "", "").want(http.StatusOK); a.header.Get("ETag") != tag {
		t.Errorf("the ETag of a HEAD: %q, want %q", a.header.Get("ETag"), tag)
	}
	page := get(http.MethodGet, "?limit=1", tag).want(http.StatusOK)
	again := get(http.MethodGet, "?limit=1", page.header.Get("ETag")).want(http.StatusNotModified)
	if want := page.header.Get("Link"); again.header.Get("Link") != want || want == "" {
		t.Errorf("Link: %q, want %q", again.header.Get("Link"), want)
	}

	d.posts.partial = true // the same posts, and not complete
	if a := get(http.MethodGet, "", tag).want(http.StatusOK); a.header.Get("ETag") == tag {
		t.Error("pages that differ have the same tag")
	}
	d.posts.partial = false
	get(http.MethodGet, "", tag).want(http.StatusNotModified)
	p.do(http.MethodPost, "/v1/posts", hello).want(http.StatusCreated)
	if a := get(http.MethodGet, "", tag).want(http.StatusOK); a.header.Get("ETag") == tag {
		t.Error("pages that differ have the same tag")
	}
	missing := p.do(http.MethodGet, "/v1/accounts/bob/feed", "", "If-None-Match", "*").want(http.StatusNotFound)
	if missing.header.Get("ETag") != "" {
		t.Error("an error has a tag")
	}
}
