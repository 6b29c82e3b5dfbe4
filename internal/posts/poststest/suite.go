// Package poststest is the suite that every posts.Database passes. An implementation runs it with
//
//	poststest.Run(t, func(t *testing.T) posts.Database { … })
package poststest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"freshet"
	"freshet/internal/posts"
)

// Run runs the suite. open returns an empty store; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) posts.Database) {
	tests := []struct {
		name string
		run  func(t *testing.T, s posts.Store)
	}{
		{"a post comes back as it was created", created},
		{"edits replace the text", edited},
		{"a deleted post stays deleted", deleted},
		{"a delete without its creation is never shown", deleteAlone},
		{"a delete without a time is a delete", deleteWithoutTime},
		{"an edit without its creation is not shown", editAlone},
		{"an unknown kind of event is refused", unknownKind},
		{"posts of an author are paged, newest first", byAuthor},
		{"followers are paged, ascending", followers},
		{"of a follower row the highest version stays", followerVersions},
		{"progress never goes down", progress},
		{"a context that has ended is an error", ended},
		{"concurrent writers of the same rows agree", concurrent},
		{"posts of an author are paged over years", byAuthorOverYears},
		{"deleted posts are passed over, however many", byAuthorMostlyDeleted},
		{"followers are paged over all numbers", followersOfAllNumbers},
		{"those who left are passed over, however many", followersMostlyGone},
		{"a large batch is stored whole", largeBatch},
		{"all of a post's events may come at once", wholeLifeAtOnce},
		{"offsets and versions may be as high as they get", highOffsets},
		{"what one writer has stored every reader sees", readersBesideWriters},
		{"any order and repetition of a history gives the same posts", historyOfPosts},
		{"any order and repetition of a history gives the same followers", historyOfFollowers},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { with(t, open, func(s posts.Database) { test.run(t, s) }) })
	}
	for _, test := range marksTests {
		t.Run(test.name, func(t *testing.T) { with(t, open, func(s posts.Database) { test.run(t, s) }) })
	}
}

func with(t *testing.T, open func(t *testing.T) posts.Database, run func(s posts.Database)) {
	s := open(t)
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	run(s)
}

// at is a time of whole milliseconds, which is what stores keep.
func at(second int) time.Time { return time.Date(2026, 3, 1, 12, 0, second, 7e6, time.UTC) }

func create(offset int64, p freshet.Post) posts.Event {
	return posts.Event{PostEvent: freshet.PostEvent{Kind: freshet.PostCreated, Post: p}, Offset: offset}
}

func edit(offset int64, author freshet.Number, id freshet.PostID, text string, t time.Time) posts.Event {
	p := freshet.Post{ID: id, Author: author, Text: text, EditedAt: t}
	return posts.Event{PostEvent: freshet.PostEvent{Kind: freshet.PostEdited, Post: p}, Offset: offset}
}

func remove(offset int64, author freshet.Number, id freshet.PostID, t time.Time) posts.Event {
	p := freshet.Post{ID: id, Author: author, DeletedAt: t}
	return posts.Event{PostEvent: freshet.PostEvent{Kind: freshet.PostDeleted, Post: p}, Offset: offset}
}

func apply(t rapid.TB, s posts.Store, events ...posts.Event) {
	t.Helper()
	if err := s.Apply(context.Background(), events); err != nil {
		t.Fatalf("apply %v: %v", events, err)
	}
}

// one returns the post and whether the store knows it.
func one(t rapid.TB, s posts.Store, id freshet.PostID) (freshet.Post, bool) {
	t.Helper()
	found, err := s.Posts(context.Background(), []freshet.PostID{id})
	if err != nil {
		t.Fatalf("post %s: %v", id, err)
	}
	p, ok := found[id]
	return p, ok
}

func want(t rapid.TB, s posts.Store, post freshet.Post) {
	t.Helper()
	if got, ok := one(t, s, post.ID); !ok || got != post {
		t.Fatalf("post %s:\n got %+v (known: %t)\nwant %+v", post.ID, got, ok, post)
	}
}

func wantByAuthor(
	t rapid.TB, s posts.Store, author freshet.Number, before freshet.PostID, limit int, ids ...freshet.PostID,
) {
	t.Helper()
	page, err := s.ByAuthor(context.Background(), author, before, limit)
	if err != nil {
		t.Fatalf("posts of %d: %v", author, err)
	}
	var got []freshet.PostID
	for _, p := range page {
		got = append(got, p.ID)
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("posts of %d before %d, at most %d: got %v, want %v", author, before, limit, got, ids)
	}
	if before > 0 {
		return
	}
	if got, err := s.IDsByAuthor(context.Background(), author, limit); err != nil || !slices.Equal(got, ids) {
		t.Fatalf("ids of the posts of %d, at most %d: got %v (%v), want %v", author, limit, got, err, ids)
	}
}

func wantFollowers(t rapid.TB, s posts.Store, followee, from freshet.Number, limit int, want ...freshet.Number) {
	t.Helper()
	got, err := s.Followers(context.Background(), followee, from, limit)
	if err != nil {
		t.Fatalf("followers of %d: %v", followee, err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("followers of %d from %d, at most %d: got %v, want %v", followee, from, limit, got, want)
	}
}

func post(id freshet.PostID) freshet.Post {
	return freshet.Post{
		ID: id, Author: 7, Text: "höi " + id.String(), Visibility: freshet.FollowersOnly, CreatedAt: at(1), ReplyTo: 3,
	}
}

func created(t *testing.T, s posts.Store) {
	largest := freshet.Post{ID: 1<<63 - 1, Author: 1<<63 - 1, Visibility: freshet.Public, CreatedAt: at(2)}
	smallest := freshet.Post{ID: 1, Author: 0, Text: "account 0, offset 0", Visibility: freshet.Public, CreatedAt: at(3)}
	apply(t, s, create(4, post(10)), create(5, largest), create(0, smallest))
	want(t, s, post(10))
	want(t, s, largest)
	want(t, s, smallest)
	wantByAuthor(t, s, 1<<63-1, 0, 10, 1<<63-1)
	wantByAuthor(t, s, 0, 0, 10, 1)
	if p, ok := one(t, s, 11); ok {
		t.Fatalf("a post that nobody wrote: %+v", p)
	}
	if found, err := s.Posts(t.Context(), nil); err != nil || len(found) != 0 {
		t.Fatalf("no ids: got %v, %v", found, err)
	}
	apply(t, s) // no events
}

func edited(t *testing.T, s posts.Store) {
	apply(t, s, create(4, post(10)), edit(6, 7, 10, "second", at(6)))
	apply(t, s, edit(8, 7, 10, "third", at(8)))
	p := post(10)
	p.Text, p.EditedAt = "third", at(8)
	want(t, s, p)
	apply(t, s, edit(6, 7, 10, "second", at(6)), create(4, post(10)))
	want(t, s, p)
	apply(t, s, edit(9, 7, 10, "", at(9)))
	p.Text, p.EditedAt = "", at(9)
	want(t, s, p)
}

func deleted(t *testing.T, s posts.Store) {
	apply(t, s, create(4, post(10)))
	wantByAuthor(t, s, 7, 0, 10, 10)
	apply(t, s, remove(5, 7, 10, at(5)))
	for _, replay := range [][]posts.Event{
		{}, {create(4, post(10))}, {edit(4, 7, 10, "x", at(4))}, {create(9, post(10))},
	} {
		apply(t, s, replay...)
		if p, ok := one(t, s, 10); !ok || !p.DeletedAt.Equal(at(5)) || p.Author != 7 {
			t.Fatalf("after a replay of %v: got %+v (known: %t), want it deleted at %s", replay, p, ok, at(5))
		}
		wantByAuthor(t, s, 7, 0, 10)
	}
}

func deleteAlone(t *testing.T, s posts.Store) {
	apply(t, s, remove(5, 7, 10, at(5)))
	if p, ok := one(t, s, 10); ok && p.DeletedAt.IsZero() {
		t.Fatalf("shown: %+v", p)
	}
	wantByAuthor(t, s, 7, 0, 10)
	apply(t, s, create(4, post(10)))
	p := post(10)
	p.DeletedAt = at(5)
	want(t, s, p)
	wantByAuthor(t, s, 7, 0, 10)
}

func deleteWithoutTime(t *testing.T, s posts.Store) {
	id := freshet.FirstPostID(at(1))
	apply(t, s, create(4, post(id)), remove(5, 7, id, time.Time{}))
	if p, ok := one(t, s, id); !ok || p.DeletedAt.IsZero() {
		t.Fatalf("got %+v (known: %t), want it deleted", p, ok)
	}
	wantByAuthor(t, s, 7, 0, 10)
}

func editAlone(t *testing.T, s posts.Store) {
	apply(t, s, edit(5, 7, 10, "early", at(5)))
	if p, ok := one(t, s, 10); ok {
		t.Fatalf("shown: %+v", p)
	}
	wantByAuthor(t, s, 7, 0, 10)
	apply(t, s, create(4, post(10)))
	p := post(10)
	p.Text, p.EditedAt = "early", at(5)
	want(t, s, p)
	wantByAuthor(t, s, 7, 0, 10, 10)
}

func unknownKind(t *testing.T, s posts.Store) {
	bad := create(4, post(10))
	bad.Kind = 99
	if err := s.Apply(t.Context(), []posts.Event{bad}); err == nil {
		t.Fatal("applied")
	}
	if p, ok := one(t, s, 10); ok {
		t.Fatalf("stored: %+v", p)
	}
}

func byAuthor(t *testing.T, s posts.Store) {
	var events []posts.Event
	for i := freshet.PostID(1); i <= 9; i++ {
		events = append(events, create(int64(i), post(i)))
	}
	neighbour := post(100)
	neighbour.Author = 8
	below := post(101)
	below.Author = 6
	events = append(events, create(10, neighbour), create(11, below), remove(12, 7, 6, at(9)))
	apply(t, s, events...)
	wantByAuthor(t, s, 7, 0, 3, 9, 8, 7)
	wantByAuthor(t, s, 7, 7, 3, 5, 4, 3)
	wantByAuthor(t, s, 7, 3, 3, 2, 1)
	wantByAuthor(t, s, 7, 1, 3)
	wantByAuthor(t, s, 7, 1<<63-1, 1, 9)
	wantByAuthor(t, s, 7, 0, 0)
	wantByAuthor(t, s, 9, 0, 3)
	page, err := s.ByAuthor(t.Context(), 7, 2, 1)
	if err != nil || len(page) != 1 || page[0] != post(1) {
		t.Fatalf("the whole post is in the page: got %+v, %v", page, err)
	}
}

func follows(followee, follower freshet.Number, version int64) posts.FollowerChange {
	return posts.FollowerChange{Followee: followee, Follower: follower, Follows: true, Version: version}
}

func applyFollowers(t rapid.TB, s posts.Store, changes ...posts.FollowerChange) {
	t.Helper()
	if err := s.ApplyFollowers(context.Background(), changes); err != nil {
		t.Fatalf("apply %v: %v", changes, err)
	}
}

func followers(t *testing.T, s posts.Store) {
	for _, follower := range []freshet.Number{5, 0, 1<<63 - 1, 1, 4} {
		applyFollowers(t, s, follows(7, follower, 0))
	}
	applyFollowers(t, s, follows(6, 2, 1), follows(8, 3, 1), follows(0, 0, 1), follows(1<<63-1, 9, 1))
	wantFollowers(t, s, 7, 0, 2, 0, 1)
	wantFollowers(t, s, 7, 2, 2, 4, 5)
	wantFollowers(t, s, 7, 6, 2, 1<<63-1)
	wantFollowers(t, s, 7, 0, 10, 0, 1, 4, 5, 1<<63-1)
	wantFollowers(t, s, 7, 0, 0)
	wantFollowers(t, s, 0, 0, 10, 0)
	wantFollowers(t, s, 1<<63-1, 0, 10, 9)
	wantFollowers(t, s, 9, 0, 10)
}

func followerVersions(t *testing.T, s posts.Store) {
	gone := posts.FollowerChange{Followee: 7, Follower: 3, Version: 5}
	applyFollowers(t, s, follows(7, 3, 4), gone)
	wantFollowers(t, s, 7, 0, 10)
	applyFollowers(t, s, follows(7, 3, 4))
	wantFollowers(t, s, 7, 0, 10)
	applyFollowers(t, s, follows(7, 3, 6))
	wantFollowers(t, s, 7, 0, 10, 3)
	applyFollowers(t, s, gone)
	wantFollowers(t, s, 7, 0, 10, 3)
}

func progress(t *testing.T, s posts.Store) {
	check := func(want map[int32]posts.Progress) {
		t.Helper()
		got, err := s.Progress(t.Context())
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %v, %v, want %v", got, err, want)
		}
	}
	set := func(partition int32, offset int64, through time.Time) {
		t.Helper()
		if err := s.SetProgress(t.Context(), partition, posts.Progress{Offset: offset, Through: through}); err != nil {
			t.Fatal(err)
		}
	}
	check(map[int32]posts.Progress{})
	set(0, 10, at(10))
	set(127, 3, time.Time{})
	check(map[int32]posts.Progress{0: {Offset: 10, Through: at(10)}, 127: {Offset: 3}})
	set(0, 9, at(9))
	check(map[int32]posts.Progress{0: {Offset: 10, Through: at(10)}, 127: {Offset: 3}})
	set(0, 11, at(9))
	set(127, 2, at(1))
	check(map[int32]posts.Progress{0: {Offset: 11, Through: at(10)}, 127: {Offset: 3, Through: at(1)}})
}

func ended(t *testing.T, s posts.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, postsErr := s.Posts(ctx, []freshet.PostID{1})
	for name, err := range map[string]error{
		"Posts":          postsErr,
		"Apply":          s.Apply(ctx, []posts.Event{create(1, post(1))}),
		"ApplyFollowers": s.ApplyFollowers(ctx, []posts.FollowerChange{follows(1, 2, 3)}),
		"SetProgress":    s.SetProgress(ctx, 1, posts.Progress{Offset: 1}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
		}
	}
}

func concurrent(t *testing.T, s posts.Store) {
	const writers, edits = 4, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range edits {
				offset := int64(1 + i*writers + w)
				if err := s.Apply(t.Context(), []posts.Event{edit(offset, 7, 10, fmt.Sprint(offset), at(i))}); err != nil {
					t.Error(err)
				}
				if err := s.ApplyFollowers(t.Context(), []posts.FollowerChange{
					{Followee: 7, Follower: 3, Follows: offset%2 == 0, Version: offset},
				}); err != nil {
					t.Error(err)
				}
				p := posts.Progress{Offset: offset, Through: at(i)}
				if err := s.SetProgress(t.Context(), 0, p); err != nil {
					t.Error(err)
				}
				if _, err := s.ByAuthor(t.Context(), 7, 0, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	apply(t, s, create(0, post(10)))
	p := post(10)
	p.Text, p.EditedAt = fmt.Sprint(writers*edits), at(edits-1)
	want(t, s, p)
	wantFollowers(t, s, 7, 0, 1, 3)
	got, err := s.Progress(t.Context())
	if err != nil || got[0].Offset != writers*edits || !got[0].Through.Equal(at(edits-1)) {
		t.Fatalf("progress: got %v, %v", got, err)
	}
}
