package posts_test

import (
	"errors"
	"testing"

	"freshet"
	"freshet/internal/posts"
	"freshet/internal/posts/pebblestore"
)

func TestLate(t *testing.T) {
	late := &posts.Late{}
	event := posts.Event{Offset: 1, PostEvent: freshet.PostEvent{
		Kind: freshet.PostCreated, Post: freshet.Post{ID: 9, Author: 5, Visibility: freshet.Public},
	}}
	all := func() []error {
		_, byID := late.Posts(t.Context(), []freshet.PostID{9})
		_, byAuthor := late.ByAuthor(t.Context(), 5, 0, 10)
		_, followers := late.Followers(t.Context(), 5, 0, 10)
		_, progress := late.Progress(t.Context())
		_, marked := late.Marked(t.Context(), 0)
		_, saved := late.Saved(t.Context(), []freshet.PostID{10})
		_, sweeps := late.Sweeps(t.Context())
		return []error{
			late.Apply(t.Context(), []posts.Event{event}),
			late.ApplyFollowers(t.Context(), []posts.FollowerChange{{Followee: 5, Follower: 6, Follows: true, Version: 1}}),
			late.SetProgress(t.Context(), 0, posts.Progress{Offset: 2}), byID, byAuthor, followers, progress,
			late.Save(t.Context(), []freshet.Post{{ID: 10, Author: 5}}), late.Unmark(t.Context(), []freshet.PostID{10}),
			late.NoteSweeps(t.Context(), posts.Sweeps{First: 1}), marked, saved, sweeps,
		}
	}
	for i, err := range all() {
		if !errors.Is(err, posts.ErrNotOpen) {
			t.Errorf("call %d before it is open: %v", i, err)
		}
	}
	if err := (&posts.Late{}).Close(); err != nil {
		t.Errorf("close what was never open: %v", err)
	}
	store, err := pebblestore.Open(t.TempDir(), pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	late.Opened(store)
	for i, err := range all() {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	found, err := late.Posts(t.Context(), []freshet.PostID{9})
	if err != nil || found[9].Author != 5 {
		t.Errorf("got %+v, %v", found, err)
	}
	if err := late.Close(); err != nil {
		t.Error(err)
	}
}
