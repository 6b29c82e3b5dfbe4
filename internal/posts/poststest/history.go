package poststest

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"freshet"
	"freshet/internal/posts"
)

// historyOfPosts draws a history of a few posts of one author, applies it shuffled, cut into batches and with records
// repeated, and compares the store with the history played once, in order, on a plain struct.
func historyOfPosts(t *testing.T, s posts.Store) {
	var round int // each round has an author and posts of its own, so that one store serves all
	rapid.Check(t, func(rt *rapid.T) {
		round++
		author := freshet.Number(round)
		id := func(i int) freshet.PostID { return freshet.PostID(round*10 + i) }
		var history []posts.Event
		for offset, kind := range rapid.SliceOfN(rapid.IntRange(1, 3), 1, 20).Draw(rt, "kinds") {
			i := rapid.IntRange(0, 3).Draw(rt, "post")
			text := fmt.Sprint("text ", offset)
			switch freshet.PostEventKind(kind) {
			case freshet.PostCreated:
				history = append(history, create(int64(offset), freshet.Post{
					ID: id(i), Author: author, Text: text, Visibility: freshet.Public, CreatedAt: at(offset),
				}))
			case freshet.PostEdited:
				history = append(history, edit(int64(offset), author, id(i), text, at(offset)))
			case freshet.PostDeleted:
				history = append(history, remove(int64(offset), author, id(i), at(offset)))
			}
		}
		for _, batch := range disorder(rt, history) {
			apply(rt, s, batch...)
		}
		checkHistory(rt, s, author, history)
	})
}

func checkHistory(rt *rapid.T, s posts.Store, author freshet.Number, history []posts.Event) {
	model, created := map[freshet.PostID]*freshet.Post{}, map[freshet.PostID]bool{}
	for _, e := range history {
		p := model[e.Post.ID]
		if p == nil {
			p = &freshet.Post{ID: e.Post.ID, Author: author}
			model[e.Post.ID] = p
		}
		switch e.Kind {
		case freshet.PostCreated:
			created[p.ID] = true
			p.Text, p.Visibility, p.CreatedAt = e.Post.Text, e.Post.Visibility, e.Post.CreatedAt
		case freshet.PostEdited:
			p.Text, p.EditedAt = e.Post.Text, e.Post.EditedAt
		case freshet.PostDeleted:
			p.DeletedAt = e.Post.DeletedAt
		}
	}
	var listed []freshet.PostID
	for id, p := range model {
		got, known := one(rt, s, id)
		switch {
		case created[id] && got != *p:
			rt.Fatalf("post %s:\n got %+v (known: %t)\nwant %+v", id, got, known, *p)
		case !created[id] && known && got.DeletedAt.IsZero():
			rt.Fatalf("post %s was never created and is shown: %+v", id, got)
		}
		if created[id] && p.DeletedAt.IsZero() {
			listed = append(listed, id)
		}
	}
	slices.SortFunc(listed, func(a, b freshet.PostID) int { return cmp.Compare(b, a) })
	wantByAuthor(rt, s, author, 0, 100, listed...)
}

// historyOfFollowers does the same with follower rows.
func historyOfFollowers(t *testing.T, s posts.Store) {
	var round int
	rapid.Check(t, func(rt *rapid.T) {
		round++
		followee := freshet.Number(round)
		var history []posts.FollowerChange
		last := map[freshet.Number]bool{}
		for version, follows := range rapid.SliceOfN(rapid.Bool(), 1, 20).Draw(rt, "follows") {
			f := freshet.Number(rapid.Uint64Range(0, 3).Draw(rt, "follower"))
			last[f] = follows
			history = append(history, posts.FollowerChange{
				Followee: followee, Follower: f, Follows: follows, Version: int64(version),
			})
		}
		for _, batch := range disorder(rt, history) {
			applyFollowers(rt, s, batch...)
		}
		var want []freshet.Number
		for f := range freshet.Number(4) {
			if last[f] {
				want = append(want, f)
			}
		}
		wantFollowers(rt, s, followee, 0, 10, want...)
	})
}

// disorder shuffles a history, repeats some of it, and cuts it into batches.
func disorder[E any](rt *rapid.T, history []E) [][]E {
	repeated := rapid.SliceOfN(rapid.SampledFrom(history), 0, len(history)).Draw(rt, "repeated")
	shuffled := rapid.Permutation(slices.Concat(history, repeated)).Draw(rt, "order")
	size := rapid.IntRange(1, len(shuffled)).Draw(rt, "batch")
	return slices.Collect(slices.Chunk(shuffled, size))
}
