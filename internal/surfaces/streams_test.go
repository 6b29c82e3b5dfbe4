package surfaces

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
)

// told is an event of a stream.
type told struct {
	kind string
	shown
}

// stream is the stream of an account.
type stream struct {
	account *Account
	events  guarded[told]
	checked int // of events
	end     func()
	gone    chan struct{}
	last    atomic.Pointer[string]
}

// happening is what an operation has done to a post.
type happening struct {
	kind string
	post *Post
}

// open opens a stream, from an id on if that is not empty.
func (p *process) open(account *Account, from string) *stream {
	p.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{account: account, gone: make(chan struct{}), end: cancel}
	s.last.Store(&from)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet,
		p.APIURL()+"/v1/accounts/"+account.ID+"/feed/stream", http.NoBody)
	if err != nil {
		p.Fatal(err)
	}
	if from != "" {
		r.Header.Set("Last-Event-ID", from)
	}
	response, err := p.client.Do(r) //nolint:bodyclose // read closes it
	if err != nil {
		p.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		p.Fatalf("the stream of %s at %s: %s", account.ID, p.name, response.Status)
	}
	go s.read(response.Body)
	p.Cleanup(s.close)
	until(p, "a stream tells where it is", func() string {
		if *s.last.Load() == "" {
			return "no id"
		}
		return ""
	})
	return s
}

func (s *stream) close() {
	s.end()
	<-s.gone
}

func (s *stream) read(body io.ReadCloser) {
	defer close(s.gone)
	defer body.Close() //nolint:errcheck // it is over
	var e told
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
		case "event":
			e.kind = value
		case "data":
			if json.Unmarshal([]byte(value), &e.shown) != nil {
				e.kind = "no JSON: " + value
			}
		case "id":
			s.last.Store(&value)
		case "":
			if e.kind != "" {
				s.events.add(e)
			}
			e = told{}
		}
	}
}

// lacks is what the stream has to tell of what has happened, as the world is now, and has not told.
func (s *stream) lacks(w *World, happened []happening) string {
	events := s.events.from(s.checked)
	has := func(id string, text string, kinds ...string) bool {
		for _, e := range events {
			for _, kind := range kinds {
				if e.kind == kind && e.ID == id && (kind == "delete" || e.Text == text) {
					return true
				}
			}
		}
		return false
	}
	for _, h := range happened {
		p := h.post
		if !w.Hears(s.account, p.Author) {
			continue
		}
		told := true
		switch {
		case h.kind == "delete":
			told = has(p.ID, "", "delete")
		case w.Sees(s.account, p):
			told = has(p.ID, p.Text, "post", "edit")
		}
		if !told {
			return fmt.Sprintf("%s is not told of the %s of %s (%q) by %s; it has %v", s.account.ID, h.kind, p.ID, p.Text,
				p.Author.ID, events)
		}
	}
	return ""
}

// leaks is an event that should not have been told, neither before nor after what happened last. What is told of a
// post is its text of then.
func (s *stream) leaks(worlds ...*World) string {
	events := s.events.from(s.checked)
	s.checked += len(events)
	for _, e := range events {
		if e.kind == "reset" || !s.allowed(e, worlds) {
			return fmt.Sprintf("%s is told %v", s.account.ID, e)
		}
	}
	return ""
}

func (s *stream) allowed(e told, worlds []*World) bool {
	for _, w := range worlds {
		for _, p := range w.Posts {
			if p.ID != e.ID || !w.Hears(s.account, p.Author) {
				continue
			}
			if e.kind == "delete" && p.Deleted || e.kind != "delete" && w.Sees(s.account, p) && p.same(e.shown) {
				return true
			}
		}
	}
	return false
}
