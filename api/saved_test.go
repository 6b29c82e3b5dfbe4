package api_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"freshet"
	"freshet/api"
	"freshet/emitters"
)

// savingPosts saves posts whose text begins with "saved", and publishes the others.
type savingPosts struct {
	*memoryPosts
	saved []freshet.Post
}

func (s *savingPosts) Publish(ctx context.Context, p freshet.Post) (emitters.Position, error) {
	o := s.PublishAll(ctx, []freshet.Post{p})[0]
	return o.Position, o.Err
}

func (s *savingPosts) PublishAll(ctx context.Context, posts []freshet.Post) []emitters.Outcome {
	outcomes := make([]emitters.Outcome, len(posts))
	for i, p := range posts {
		if !strings.HasPrefix(p.Text, "saved") {
			outcomes[i].Position, outcomes[i].Err = s.memoryPosts.Publish(ctx, p)
			continue
		}
		s.saved = append(s.saved, p)
		outcomes[i].Err = fmt.Errorf("a test: %w: %w", emitters.ErrSaved, emitters.ErrUnavailable)
	}
	return outcomes
}

// A post that is saved and not known to be published is accepted, and the answer says no more than that: it has no
// position, and a request with a name is not done again.
func TestSavedPosts(t *testing.T) {
	d := deploy(t)
	writer := &savingPosts{memoryPosts: d.posts}
	p := d.start(t).with(func(c *api.Config) { c.Publisher = writer })
	p.register("ada")
	const body = `{"author":"ada","text":"saved"}`
	a := p.do(http.MethodPost, "/v1/posts", body, "Idempotency-Key", "one").want(http.StatusAccepted)
	var made post
	a.json(&made)
	if made.Text != "saved" || a.header.Get("Location") != "/v1/posts/"+made.ID || a.header.Get("Freshet-Position") != "" {
		t.Errorf("%v: %s", a.header, a.body)
	}
	again := p.do(http.MethodPost, "/v1/posts", body, "Idempotency-Key", "one").want(http.StatusAccepted)
	if !bytes.Equal(again.body, a.body) || len(writer.saved) != 1 {
		t.Errorf("again: %s, and there are %d posts", again.body, len(writer.saved))
	}
	p.do(http.MethodGet, "/v1/posts/"+made.ID, "").want(http.StatusNotFound)

	answer, results := p.batch(body + "\n" + `{"author":"ada","text":"at once"}` + "\n" + body + "\n" + `{"author":"ada"}`)
	if got := statuses(results); !slices.Equal(got, []int{202, 201, 202, 400}) {
		t.Errorf("a batch: %v", got)
	}
	if answer.header.Get("Retry-After") != "" || answer.header.Get("Freshet-Position") == "" {
		t.Errorf("a batch: %v", answer.header)
	}
}
