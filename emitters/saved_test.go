package emitters_test

import (
	"testing"
	"time"

	"freshet"
)

// Posts that were saved first are shown at once like others, and never over an edit; those that are late are left to
// fan-out and the archive.
func TestPublishSaved(t *testing.T) {
	s := newStage(t)
	young := freshet.Post{ID: freshet.FirstPostID(time.Now()), Author: 7, Text: "one", Visibility: freshet.Public}
	late := young
	late.ID = freshet.FirstPostID(time.Now().Add(-freshet.SavedLate - time.Second))
	publish := func(posts ...freshet.Post) {
		t.Helper()
		outcomes := s.PublishSaved(t.Context(), posts)
		if len(outcomes) != len(posts) {
			t.Fatalf("%d outcomes of %d posts", len(outcomes), len(posts))
		}
		for _, o := range outcomes {
			if o.Err != nil || o.Position.Topic != freshet.Posts {
				t.Fatal(o)
			}
		}
	}
	publish(young, late)
	if text, _ := s.body(young.ID); text != "one" {
		t.Errorf("redis has %q of the young one", text)
	}
	if _, read := s.body(late.ID); read.Body != nil {
		t.Errorf("redis has %q of the late one", read.Body)
	}
	if _, _, found, err := s.Edit(t.Context(), young.ID, "two", anybody); err != nil || !found {
		t.Fatal(found, err)
	}
	publish(young)
	if text, _ := s.body(young.ID); text != "two" {
		t.Errorf("published again: redis has %q", text)
	}
	publish()
}
