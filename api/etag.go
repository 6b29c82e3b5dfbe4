package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// tagged sends an answer with an ETag, a strong validator of the page as it is sent, and 304 instead of a page that the
// client has. The page may be kept by clients that ask each time whether it still holds.
func tagged(handle func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		return handle(&tagWriter{ResponseWriter: w, known: r.Header["If-None-Match"]}, r)
	}
}

// tagWriter holds the status of a 200 back until its page is written, which is done at once.
type tagWriter struct {
	http.ResponseWriter
	known []string // If-None-Match
	held  bool     // a 200 that is not sent yet
	same  bool     // 304 was sent
}

func (w *tagWriter) WriteHeader(status int) {
	if status == http.StatusOK {
		w.held = true
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *tagWriter) Write(page []byte) (int, error) {
	if w.held {
		w.held = false
		h := w.Header()
		tag := tagOf(page)
		h["Etag"] = []string{tag}
		h.Set("Cache-Control", "private, no-cache")
		if w.same = matches(w.known, tag); w.same {
			h.Del("Content-Type")
			h.Del("Content-Length")
			w.ResponseWriter.WriteHeader(http.StatusNotModified)
		} else {
			w.ResponseWriter.WriteHeader(http.StatusOK)
		}
	}
	if w.same {
		return len(page), nil
	}
	return w.ResponseWriter.Write(page)
}

// Unwrap is for http.ResponseController.
func (w *tagWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// tagOf is 128 bits of a hash that nobody can collide with a page of their choice.
func tagOf(page []byte) string {
	sum := sha256.Sum256(page)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// matches is RFC 9110's weak comparison, which If-None-Match asks for: a proxy may have made the tag weak.
func matches(known []string, tag string) bool {
	for _, list := range known {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}
