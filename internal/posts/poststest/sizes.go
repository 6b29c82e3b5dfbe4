package poststest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet"
	"freshet/internal/posts"
)

// The tests of this file have more posts, longer lists, larger batches or higher numbers than others do. A store that
// cuts any of them into parts shows here whether it puts them together again.

// postAt is a post of account 7 with an id of that time.
func postAt(t time.Time) freshet.Post { return post(freshet.FirstPostID(t)) }

func byAuthorOverYears(t *testing.T, s posts.Store) {
	first := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	var ids []freshet.PostID // newest first
	var events []posts.Event
	add := func(p freshet.Post) {
		ids = append(ids, p.ID)
		events = append(events, create(int64(len(ids)), p))
	}
	add(post(1))
	// Gaps from milliseconds to years, and many posts on the turns of days and months.
	for _, gap := range []time.Duration{
		0, time.Millisecond, time.Hour, 24 * time.Hour, 30 * 24 * time.Hour, 400 * 24 * time.Hour, 3000 * 24 * time.Hour,
	} {
		first = first.Add(gap)
		for days := range 31 {
			turn := first.AddDate(0, 0, days)
			add(postAt(turn.Add(time.Millisecond)))
			below := postAt(turn.Add(2 * time.Millisecond))
			below.ID--
			add(below)
		}
		first = first.AddDate(0, 0, 31)
	}
	add(post(1<<63 - 1))
	slices.Sort(ids)
	ids = slices.Compact(ids)
	slices.Reverse(ids)
	apply(t, s, events...)
	for _, size := range []int{1, 7, 100, 1000} {
		var got []freshet.PostID
		var before freshet.PostID
		for {
			page, err := s.ByAuthor(t.Context(), 7, before, size)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page {
				got = append(got, p.ID)
			}
			if len(page) < size {
				break
			}
			before = page[len(page)-1].ID
		}
		if !slices.Equal(got, ids) {
			t.Fatalf("pages of %d: got %d posts, want %d\n got %v\nwant %v", size, len(got), len(ids), got, ids)
		}
	}
	for i, id := range ids {
		wantByAuthor(t, s, 7, id, 1, ids[i+1:min(i+2, len(ids))]...)
	}
}

func byAuthorMostlyDeleted(t *testing.T, s posts.Store) {
	first := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var events []posts.Event
	var kept []freshet.PostID
	const all, every = 2500, 800
	for i := range all {
		p := postAt(first.Add(time.Duration(i) * time.Minute * 61))
		events = append(events, create(int64(2*i), p))
		if i%every == 0 {
			kept = append(kept, p.ID)
		} else {
			events = append(events, remove(int64(2*i+1), 7, p.ID, at(9)))
		}
	}
	apply(t, s, events...)
	slices.Reverse(kept)
	wantByAuthor(t, s, 7, 0, 2, kept[:2]...)
	wantByAuthor(t, s, 7, kept[1], 2, kept[2:]...)
	wantByAuthor(t, s, 7, 0, 100, kept...)
}

func followersOfAllNumbers(t *testing.T, s posts.Store) {
	var all []freshet.Number
	var changes []posts.FollowerChange
	for _, partition := range []int32{0, 1, 2, 63, 64, 1<<23 - 1} {
		for _, offset := range []int64{0, 1, 31, 32, 1<<16 - 1, 1 << 16, 1<<20 - 1, 1 << 20, 1 << 32, 1<<40 - 1} {
			all = append(all, freshet.NumberAt(partition, offset))
			changes = append(changes, follows(7, freshet.NumberAt(partition, offset), 1))
		}
	}
	slices.Reverse(changes)
	applyFollowers(t, s, changes...)
	for _, size := range []int{1, 7, 100} {
		var got []freshet.Number
		var from freshet.Number
		for {
			page, err := s.Followers(t.Context(), 7, from, size)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page...)
			if len(page) < size {
				break
			}
			from = page[len(page)-1] + 1
		}
		if !slices.Equal(got, all) {
			t.Fatalf("pages of %d: got %v, want %v", size, got, all)
		}
	}
	wantFollowers(t, s, 7, 1<<63, 10)
}

func followersMostlyGone(t *testing.T, s posts.Store) {
	var changes []posts.FollowerChange
	var kept []freshet.Number
	for i := range int64(2500) {
		f := freshet.NumberAt(int32(i%2), i/2)
		changes = append(changes, follows(7, f, 1))
		if i%1000 == 0 {
			kept = append(kept, f)
		} else {
			changes = append(changes, posts.FollowerChange{Followee: 7, Follower: f, Version: 2})
		}
	}
	applyFollowers(t, s, changes...)
	wantFollowers(t, s, 7, 0, 2, kept[:2]...)
	wantFollowers(t, s, 7, kept[1]+1, 2, kept[2:]...)
	wantFollowers(t, s, 7, 0, 100, kept...)
}

// largeBatch has posts of many authors and a few that are as long as posts get.
func largeBatch(t *testing.T, s posts.Store) {
	long := strings.Repeat("ö", freshet.MaxText)
	first := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var events []posts.Event
	var ids []freshet.PostID
	stored := map[freshet.PostID]freshet.Post{}
	for i := range 5000 {
		p := postAt(first.Add(time.Duration(i) * 500 * time.Millisecond))
		p.Author = freshet.Number(i % 700)
		if i%100 < 3 {
			p.Text = long
		}
		events = append(events, create(int64(i), p))
		stored[p.ID] = p
		ids = append(ids, p.ID, p.ID, p.ID+1) // twice, and one that nobody wrote
	}
	apply(t, s, events...)
	found, err := s.Posts(t.Context(), ids)
	if err != nil || len(found) != len(stored) {
		t.Fatalf("got %d posts, %v, want %d", len(found), err, len(stored))
	}
	for id, want := range stored {
		if found[id] != want {
			t.Fatalf("post %s:\n got %.300v\nwant %.300v", id, found[id], want)
		}
	}
	for author := range freshet.Number(700) {
		page, err := s.ByAuthor(t.Context(), author, 0, 100)
		if err != nil || len(page) < 7 || page[0] != stored[page[0].ID] || page[0].Author != author {
			t.Fatalf("posts of %d: got %d, %v", author, len(page), err)
		}
	}
}

func wholeLifeAtOnce(t *testing.T, s posts.Store) {
	dead, edited := post(11), post(12)
	apply(t, s,
		remove(9, 7, 11, at(9)), edit(8, 7, 11, "last words", at(8)), create(4, dead), edit(6, 7, 11, "first words", at(6)),
		edit(7, 7, 12, "second", at(7)), create(5, edited))
	dead.Text, dead.EditedAt, dead.DeletedAt = "last words", at(8), at(9)
	edited.Text, edited.EditedAt = "second", at(7)
	want(t, s, dead)
	want(t, s, edited)
	wantByAuthor(t, s, 7, 0, 10, 12)
	applyFollowers(t, s, follows(7, 3, 6), posts.FollowerChange{Followee: 7, Follower: 3, Version: 7}, follows(7, 3, 5))
	wantFollowers(t, s, 7, 0, 10)
}

func highOffsets(t *testing.T, s posts.Store) {
	const high = int64(1) << 40
	apply(t, s, edit(high+1, 7, 10, "last", at(2)), create(high, post(10)), edit(high-1, 7, 10, "early", at(1)))
	p := post(10)
	p.Text, p.EditedAt = "last", at(2)
	want(t, s, p)
	const version = high<<16 | 0xffff
	applyFollowers(t, s, follows(7, 3, version), posts.FollowerChange{Followee: 7, Follower: 3, Version: version - 1})
	wantFollowers(t, s, 7, 0, 10, 3)
	for _, offset := range []int64{high, high - 1, 0} {
		if err := s.SetProgress(t.Context(), 1023, posts.Progress{Offset: offset}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Progress(t.Context())
	if err != nil || len(got) != 1 || got[1023].Offset != high {
		t.Fatalf("got %v, %v", got, err)
	}
}

// readersBesideWriters: what Apply has answered for is in every page and every look-up that begins after that, while
// other posts of the same author, and deletes, are on their way.
func readersBesideWriters(t *testing.T, s posts.Store) {
	const writers, each = 4, 40
	first := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				p := postAt(first.Add(time.Duration(i*writers+w) * 11 * time.Hour))
				offset := int64(2 * (i*writers + w))
				if err := readBack(t.Context(), s, offset, p); err != nil {
					t.Errorf("writer %d, post %d: %v", w, i, err)
				}
			}
		})
	}
	wg.Wait()
}

func readBack(ctx context.Context, s posts.Store, offset int64, p freshet.Post) error {
	if err := s.Apply(ctx, []posts.Event{create(offset, p)}); err != nil {
		return err
	}
	page, err := s.ByAuthor(ctx, p.Author, p.ID+1, 1)
	if err != nil || len(page) != 1 || page[0] != p {
		return errors.Join(fmt.Errorf("created: the page is %v", page), err)
	}
	if err := s.Apply(ctx, []posts.Event{remove(offset+1, p.Author, p.ID, at(1))}); err != nil {
		return err
	}
	page, err = s.ByAuthor(ctx, p.Author, p.ID+1, 1)
	if err != nil || len(page) == 1 && page[0].ID == p.ID {
		return errors.Join(fmt.Errorf("deleted: the page is %v", page), err)
	}
	found, err := s.Posts(ctx, []freshet.PostID{p.ID})
	if err != nil || !found[p.ID].DeletedAt.Equal(at(1)) {
		return errors.Join(fmt.Errorf("deleted: the post is %v", found), err)
	}
	return nil
}
