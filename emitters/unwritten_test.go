package emitters_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"freshet"
	"freshet/emitters"
	"freshet/internal/feeds"
	"freshet/internal/posts"
)

// minted is an id of just now, of a post that the archive, which stands still, does not have.
func minted(n int) freshet.PostID { return freshet.FirstPostID(time.Now()) + freshet.PostID(n) }

// A post that Redis does not take, while the archive stands still, is known to the process that took it: it is edited
// and deleted as any other.
func TestPostsThatRedisDidNotTake(t *testing.T) {
	s := newStage(t)
	s.Unwritten = feeds.NewUnwritten()
	s.refuses = true
	one, two := s.publish(minted(1)), s.publish(minted(2))

	edited, at, found, err := s.Edit(t.Context(), one.ID, "two", anybody)
	if err != nil || !found || edited.Text != "two" || edited.Author != one.Author || at.Topic == "" {
		t.Fatalf("edit: %+v at %s, found %t: %v", edited, at, found, err)
	}
	if own, known := s.Unwritten.Find(one.ID); !known || own.Text != "two" || own.Offset != at.Offset ||
		own.Partition != at.Partition || own.Rank != at.Offset {
		t.Errorf("readers are told of %+v", own)
	}
	refused := errors.New("refused")
	if _, _, found, err := s.Edit(t.Context(), one.ID, "three", func(p freshet.Post) error {
		if p.Author != one.Author || p.Visibility != one.Visibility {
			t.Errorf("asked about %+v", p)
		}
		return refused
	}); !errors.Is(err, refused) || !found {
		t.Errorf("by somebody else: found %t: %v", found, err)
	}

	if _, found, err := s.Delete(t.Context(), two.ID, anybody); !found || !errors.Is(err, emitters.ErrUnavailable) {
		t.Errorf("delete, whose tombstone Redis does not take: found %t: %v", found, err)
	}
	if own, known := s.Unwritten.Find(two.ID); !known || own.DeletedAt.IsZero() {
		t.Errorf("a delete that is in the log: readers are told of %+v", own)
	}
	if _, _, found, err := s.Edit(t.Context(), two.ID, "x", anybody); found || err != nil {
		t.Errorf("edit after the delete: found %t: %v", found, err)
	}
	s.refuses = false
	if _, found, err := s.Delete(t.Context(), two.ID, anybody); !found || err != nil {
		t.Errorf("the delete again: found %t: %v", found, err)
	}
	if _, read := s.body(two.ID); !read.Deleted {
		t.Error("it was answered, and Redis has no tombstone")
	}
	// What fan-out has written meanwhile is older than the edit, and the next one is written over it.
	if err := s.Do(t.Context(), &feeds.PutBody{Post: one.ID, Token: "1-a", Offset: 0, Body: []byte{}}); err != nil {
		t.Fatal(err)
	}
	if _, at, found, err := s.Edit(t.Context(), one.ID, "four", anybody); err != nil || !found {
		t.Error(found, err)
	} else if text, read := s.body(one.ID); text != "four" || read.Offset != at.Offset {
		t.Errorf("redis has %q of %d", text, read.Offset)
	}
}

// A zone that has got another token takes no body under one that is kept for a moment: such a post is remembered, too.
func TestPostUnderATokenOfBefore(t *testing.T) {
	s := newStage(t)
	s.Unwritten = feeds.NewUnwritten()
	s.publish(minted(1))
	s.recover(&feeds.Recover{Old: "1-a", New: "2-b", Counter: 1})
	post := s.publish(minted(2))
	if _, read := s.body(post.ID); read.Body != nil {
		t.Fatal("redis has taken it: the test shows nothing")
	}
	if _, _, found, err := s.Edit(t.Context(), post.ID, "two", anybody); err != nil || !found {
		t.Errorf("edit: found %t: %v", found, err)
	}
	if _, found, err := s.Delete(t.Context(), post.ID, anybody); err != nil || !found {
		t.Errorf("delete: found %t: %v", found, err)
	}
}

// Of a post that another process may have taken nobody knows, as long as the archive has not come so far: it is not
// said that there is none. Its id is not one of the future.
func TestPostsThatMayYetCome(t *testing.T) {
	s := newStage(t)
	edit := func(id freshet.PostID) error {
		_, at, found, err := s.Edit(t.Context(), id, "x", anybody)
		if found || at.Topic != "" {
			t.Errorf("edit of %s: found %t, at %s", id, found, at)
		}
		return err
	}
	remove := func(id freshet.PostID) error {
		at, found, err := s.Delete(t.Context(), id, anybody)
		if found || at.Topic != "" {
			t.Errorf("delete of %s: found %t, at %s", id, found, at)
		}
		return err
	}
	both := func(what string, id freshet.PostID, want error) {
		t.Helper()
		for _, err := range []error{edit(id), remove(id)} {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
	}
	both("just now", minted(1), freshet.ErrUnsettled)
	both("below what is stored", 101, nil)
	both("a time that is still to come", freshet.FirstPostID(time.Now().Add(time.Hour)), nil)
	partial := maps.Clone(s.at)
	delete(s.at, 0)
	both("a partition of which nothing is stored", 101, freshet.ErrUnsettled)
	s.at = partial

	// The archive comes to it between the two questions.
	stored := minted(2)
	s.asked = func() {
		for partition := range s.at {
			s.at[partition] = posts.Progress{Offset: 1000, Through: time.Now().Add(time.Minute)}
		}
		s.stored[stored] = freshet.Post{ID: stored, Author: 7, Visibility: freshet.Public}
	}
	if _, _, found, err := s.Edit(t.Context(), stored, "x", anybody); !found || err != nil {
		t.Errorf("a post that was stored meanwhile: found %t: %v", found, err)
	}
}
