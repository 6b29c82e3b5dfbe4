package poststest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"freshet"
	"freshet/internal/posts"
)

var marksTests = []struct {
	name string
	run  func(t *testing.T, s posts.Database)
}{
	{"a saved post is shown to nobody before its creation is stored", savedIsNotShown},
	{"a save that comes late or again changes nothing of a post", savedLate},
	{"an edit or a delete without the creation of a saved post shows nothing", savedAndChanged},
	{"marked posts are found by their slot", marked},
	{"a mark that was taken off does not come back by an event", unmarked},
	{"which slots may have marked posts never goes down", sweeps},
	{"the first slot is decided once, whoever comes", firstSlot},
	{"concurrent saves, creations and unmarks agree", concurrentMarks},
	{"a context that has ended is an error for marks, too", marksEnded},
}

func save(t *testing.T, s posts.Database, saved ...freshet.Post) {
	t.Helper()
	if err := s.Save(t.Context(), saved); err != nil {
		t.Fatalf("save %v: %v", saved, err)
	}
}

func unmark(t *testing.T, s posts.Database, ids ...freshet.PostID) {
	t.Helper()
	if err := s.Unmark(t.Context(), ids); err != nil {
		t.Fatalf("unmark %v: %v", ids, err)
	}
}

// wantSaved wants these posts, of all that are asked for, to be saved and to wait.
func wantSaved(t *testing.T, s posts.Database, ids []freshet.PostID, want ...freshet.Post) {
	t.Helper()
	got, err := s.Saved(t.Context(), ids)
	if err != nil || len(got) != len(want) {
		t.Fatalf("saved of %v: got %v, %v, want %v", ids, got, err, want)
	}
	for _, p := range want {
		if got[p.ID] != p {
			t.Fatalf("saved post %s:\n got %+v\nwant %+v", p.ID, got[p.ID], p)
		}
	}
}

func wantMarked(t *testing.T, s posts.Database, slot posts.Slot, want ...freshet.PostID) {
	t.Helper()
	got, err := s.Marked(t.Context(), slot)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("marked in slot %d: got %v, %v, want %v", slot, got, err, want)
	}
}

// saved is a post with an id of that time, as the API makes them.
func saved(t time.Time, n freshet.PostID) freshet.Post {
	id := freshet.FirstPostID(t) + n
	return freshet.Post{
		ID: id, Author: 7, Text: "höi " + id.String(), Visibility: freshet.FollowersOnly, ReplyTo: 3,
		CreatedAt: id.Time().UTC(),
	}
}

func savedIsNotShown(t *testing.T, s posts.Database) {
	p := saved(at(1), 1)
	save(t, s, p)
	if got, ok := one(t, s, p.ID); ok {
		t.Fatalf("a post that is only saved is shown: %+v", got)
	}
	wantByAuthor(t, s, 7, 0, 10)
	wantSaved(t, s, []freshet.PostID{p.ID, p.ID + 1}, p)
	ranked := create(0, p)
	ranked.Saved = true
	apply(t, s, ranked)
	want(t, s, p)
	wantByAuthor(t, s, 7, 0, 10, p.ID)
	wantSaved(t, s, []freshet.PostID{p.ID})
	save(t, s) // nothing
	unmark(t, s)
}

func savedLate(t *testing.T, s posts.Database) {
	p := saved(at(1), 1)
	apply(t, s, create(0, p), edit(3, 7, p.ID, "second", at(3)))
	save(t, s, p)
	p.Text, p.EditedAt = "second", at(3)
	want(t, s, p)
	wantSaved(t, s, []freshet.PostID{p.ID})
	// A creation that comes again, as late as it likes, does not undo an edit: it ranks lowest.
	again := saved(at(1), 1)
	apply(t, s, create(0, again))
	want(t, s, p)
	apply(t, s, remove(5, 7, p.ID, at(5)), create(0, again))
	save(t, s, again)
	if got, ok := one(t, s, p.ID); !ok || !got.DeletedAt.Equal(at(5)) {
		t.Fatalf("got %+v (known: %t), want it deleted", got, ok)
	}
	wantByAuthor(t, s, 7, 0, 10)
	wantSaved(t, s, []freshet.PostID{p.ID})
}

func savedAndChanged(t *testing.T, s posts.Database) {
	p, q := saved(at(1), 1), saved(at(1), 2)
	save(t, s, p, q)
	apply(t, s, edit(4, 7, p.ID, "second", at(4)), remove(5, 7, q.ID, at(5)))
	if got, ok := one(t, s, p.ID); ok {
		t.Fatalf("shown: %+v", got)
	}
	if got, ok := one(t, s, q.ID); !ok || got.DeletedAt.IsZero() {
		t.Fatalf("got %+v (known: %t), want it deleted", got, ok)
	}
	wantByAuthor(t, s, 7, 0, 10)
	got, err := s.Saved(t.Context(), []freshet.PostID{p.ID, q.ID})
	if err != nil || len(got) != 1 || got[p.ID].ID != p.ID {
		t.Fatalf("saved: got %v, %v, want %s alone", got, err, p.ID)
	}
	apply(t, s, create(0, p), create(0, q))
	p.Text, p.EditedAt = "second", at(4)
	want(t, s, p)
	wantByAuthor(t, s, 7, 0, 10, p.ID)
}

func marked(t *testing.T, s posts.Database) {
	first := posts.SlotAt(at(0)) // 12:00:00.007 is in a slot that begins at 12:00:00
	begin := first.Begin()
	in := []freshet.Post{
		saved(begin, 0), saved(begin.Add(time.Millisecond), 5), saved(begin.Add(65*time.Millisecond), 1),
		saved(begin.Add(posts.SlotLength-time.Millisecond), 1<<22-1),
	}
	before, after := saved(begin.Add(-time.Millisecond), 1<<22-1), saved(begin.Add(posts.SlotLength), 0)
	apply(t, s, create(3, saved(begin, 9))) // of which nobody has saved anything
	save(t, s, in[2], after, in[0], before)
	save(t, s, in[3], in[1])
	wantMarked(t, s, first, in[0].ID, in[1].ID, in[2].ID, in[3].ID)
	wantMarked(t, s, first-1, before.ID)
	wantMarked(t, s, first+1, after.ID)
	wantMarked(t, s, first+2)
	apply(t, s, create(4, in[1]))
	unmark(t, s, in[0].ID, in[3].ID, after.ID, saved(begin, 77).ID)
	wantMarked(t, s, first, in[1].ID, in[2].ID)
	wantMarked(t, s, first+1)
	wantSaved(t, s, []freshet.PostID{in[0].ID, in[1].ID, in[2].ID, in[3].ID, after.ID}, in[2])
}

func unmarked(t *testing.T, s posts.Database) {
	p := saved(at(1), 1)
	save(t, s, p)
	unmark(t, s, p.ID)
	apply(t, s, create(0, p), edit(4, 7, p.ID, "second", at(4)))
	wantMarked(t, s, posts.SlotOf(p.ID))
	never := saved(at(1), 2)
	unmark(t, s, never.ID)
	if got, ok := one(t, s, never.ID); ok {
		t.Fatalf("a post that nobody wrote: %+v", got)
	}
}

func sweeps(t *testing.T, s posts.Database) {
	check := func(want posts.Sweeps) {
		t.Helper()
		if got, err := s.Sweeps(t.Context()); err != nil || got != want {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	}
	note := func(noted posts.Sweeps) {
		t.Helper()
		if err := s.NoteSweeps(t.Context(), noted); err != nil {
			t.Fatal(err)
		}
	}
	check(posts.Sweeps{})
	note(posts.Sweeps{First: 100, Opened: 101})
	check(posts.Sweeps{First: 100, Opened: 101})
	note(posts.Sweeps{First: 50, Opened: 90, Closed: 100})
	check(posts.Sweeps{First: 100, Opened: 101, Closed: 100})
	note(posts.Sweeps{Opened: 110, Closed: 99, Swept: 99})
	note(posts.Sweeps{Swept: 98})
	check(posts.Sweeps{First: 100, Opened: 110, Closed: 100, Swept: 99})
	note(posts.Sweeps{})
	check(posts.Sweeps{First: 100, Opened: 110, Closed: 100, Swept: 99})
}

func firstSlot(t *testing.T, s posts.Database) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if err := s.NoteSweeps(t.Context(), posts.Sweeps{First: posts.Slot(100 + i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	decided, err := s.Sweeps(t.Context())
	if err != nil || decided.First < 100 || decided.First > 103 {
		t.Fatalf("got %+v, %v", decided, err)
	}
	if err := s.NoteSweeps(t.Context(), posts.Sweeps{First: 7}); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Sweeps(t.Context()); err != nil || again != decided {
		t.Fatalf("got %+v, %v, want %+v", again, err, decided)
	}
}

// concurrentMarks: whatever the order, a post that was created is shown and no longer waits, and the others wait.
func concurrentMarks(t *testing.T, s posts.Database) {
	const n = 40
	all := make([]freshet.Post, n)
	ids := make([]freshet.PostID, n)
	for i := range all {
		all[i] = saved(at(1).Add(time.Duration(i)*time.Millisecond), freshet.PostID(i))
		ids[i] = all[i].ID
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	var steps []func() error
	for i := range all {
		steps = append(steps, func() error { return s.Save(t.Context(), all[i:i+1]) })
		if i%2 == 0 {
			steps = append(steps, func() error {
				if err := s.Apply(t.Context(), []posts.Event{create(0, all[i])}); err != nil {
					return err
				}
				return s.Unmark(t.Context(), ids[i:i+1])
			})
		}
	}
	rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < len(steps); i += 4 {
				if err := steps[i](); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var waiting []freshet.Post
	for i := range all {
		if i%2 == 1 {
			waiting = append(waiting, all[i])
			continue
		}
		want(t, s, all[i])
	}
	t.Log(fmt.Sprint("seed ", seed))
	wantSaved(t, s, ids, waiting...)
}

func marksEnded(t *testing.T, s posts.Database) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, markedErr := s.Marked(ctx, 1)
	_, savedErr := s.Saved(ctx, []freshet.PostID{1})
	_, sweepsErr := s.Sweeps(ctx)
	for name, err := range map[string]error{
		"Marked": markedErr, "Saved": savedErr, "Sweeps": sweepsErr,
		"Save": s.Save(ctx, []freshet.Post{saved(at(1), 1)}), "Unmark": s.Unmark(ctx, []freshet.PostID{1}),
		"NoteSweeps": s.NoteSweeps(ctx, posts.Sweeps{First: 1, Opened: 1}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
		}
	}
}
