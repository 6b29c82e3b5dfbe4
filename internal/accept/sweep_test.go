package accept

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/posts"
)

// crashSaved is what a process leaves that is killed after it has saved posts.
func (s *stage) crashSaved(all ...freshet.Post) {
	s.Helper()
	if err := s.open().Marks.Save(s.Context(), all); err != nil {
		s.Fatal(err)
	}
}

// A process is killed after it has saved posts: they are published later, in their order, and not before they are old
// enough.
func TestKilledAfterSaving(t *testing.T) {
	s := newStage(t)
	var all []freshet.Post
	var texts []string
	for i := range 2*SweepMost + 3 {
		all = append(all, s.post(fmt.Sprint("post ", i)))
		texts = append(texts, all[i].Text)
	}
	s.crashSaved(all...)
	s.sweep(s.desk(SweepAge / 2))
	if log := s.log(); len(log) != 0 {
		t.Fatalf("%d posts were published too soon", len(log))
	}
	d := s.later()
	s.sweep(d)
	var order []string
	for _, e := range s.log() {
		order = append(order, e.Post.Text)
	}
	if !slices.Equal(order, texts) || d.Counts().Swept != int64(len(all)) {
		t.Fatalf("published %d: %q", d.Counts().Swept, order)
	}
	sweeps, err := s.store.Sweeps(t.Context())
	if err != nil || sweeps.Swept < posts.SlotOf(all[len(all)-1].ID) || s.marked() != 0 {
		t.Errorf("swept %+v, %d are marked: %v", sweeps, s.marked(), err)
	}
	s.sweep(s.later())
	if n := len(s.log()); n != len(all) {
		t.Errorf("the log has %d records of %d posts", n, len(all))
	}
	s.archive()
	slices.Reverse(texts)
	if got := s.stored(); !slices.Equal(got, texts) {
		t.Errorf("stored: %q", got)
	}
}

// A process is killed after it has published a post: what is known of it, in Redis or in the store, keeps it from being
// published again.
func TestKilledAfterPublishing(t *testing.T) {
	for name, redisAway := range map[string]bool{"Redis knows": false, "the store knows": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			if _, err := s.open().Publish(t.Context(), s.post("one")); err != nil {
				t.Fatal(err)
			}
			if s.set(&s.redisAway, redisAway); redisAway {
				s.archive()
			}
			s.sweep(s.later())
			if log := s.log(); len(log) != 1 || s.marked() != 0 {
				t.Errorf("the log has %+v, %d are marked", log, s.marked())
			}
		})
	}
}

// Nobody knows that a post was published: it is published again, by all processes at once. An author who edits it
// meanwhile keeps the edit, and one who deletes it, the delete.
func TestPublishedAgain(t *testing.T) {
	s := newStage(t)
	d := s.open()
	one, two, three := s.post("one"), s.post("two"), s.post("three")
	for _, o := range d.PublishAll(t.Context(), []freshet.Post{one, two, three}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	var sweepers [3]*Desk
	var looked sync.WaitGroup // all look before any of them takes a mark off
	looked.Add(len(sweepers))
	s.beforeUnmark = func() {
		looked.Done()
		looked.Wait()
	}
	if _, _, found, err := d.Edit(t.Context(), two.ID, "edited", anybody); err != nil || !found {
		t.Fatal(found, err)
	}
	if _, found, err := d.Delete(t.Context(), three.ID, anybody); err != nil || !found {
		t.Fatal(found, err)
	}
	s.set(&s.redisAway, true)
	var wg sync.WaitGroup
	for i := range sweepers {
		sweepers[i] = s.later()
		wg.Go(func() {
			if err := sweepers[i].sweep(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.set(&s.redisAway, false)
	if log := s.log(); len(log) != 3+2+3*3 || s.marked() != 0 {
		t.Fatalf("the log has %d records, %d are marked", len(log), s.marked())
	}
	s.archive()
	s.archive()
	if got := s.stored(); !slices.Equal(got, []string{"edited", "one"}) {
		t.Errorf("stored: %q", got)
	}
	// The body in Redis is that of the edit, which a creation of a lower rank does not replace.
	put := func(offset int64, text string) {
		t.Helper()
		event := freshet.PostEvent{Kind: freshet.PostCreated, Saved: true}
		op := &feeds.PutBody{Post: two.ID, Token: "1-a", Offset: event.Rank(offset), Body: []byte(text)}
		if err := s.Do(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	read := &feeds.ReadBody{Post: two.ID}
	if err := s.Do(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	edited := string(read.Body)
	put(1<<40, "the text of before")
	if err := s.Do(t.Context(), read); err != nil || string(read.Body) != edited {
		t.Errorf("Redis has %q: %v", read.Body, err)
	}
}

// A save that is on its way when a slot is closed is found: who sweeps waits for it, and who saves later is not told
// that it will be found.
func TestSaveWhileASlotIsClosed(t *testing.T) {
	s := newStage(t)
	d := s.open()
	sweeper := s.later()
	early, late := s.post("early"), s.post("late")
	sweeper.settle = func(_ context.Context, wait time.Duration) error {
		if wait <= trustFor {
			t.Errorf("who sweeps waits %s, and who saves believes what it knows for %s", wait, trustFor)
		}
		// The slot is closed, and d does not know it yet.
		if err := d.Marks.Save(t.Context(), []freshet.Post{early}); err != nil {
			t.Error(err)
		}
		if !d.slots.covered([]freshet.Post{early})[0] {
			t.Error("a post in an open slot is not covered")
		}
		if err := d.slots.open(t.Context(), d.Marks, d.Now()); err != nil {
			t.Error(err)
		}
		if d.slots.covered([]freshet.Post{late})[0] {
			t.Error("a post in a closed slot is covered")
		}
		return nil
	}
	s.sweep(sweeper)
	if log := s.log(); len(log) != 1 || log[0].Post.Text != "early" {
		t.Errorf("the log has %+v", log)
	}
}

// A sweep goes on where another process has come to, and ends when it is told to.
func TestSweepsTogether(t *testing.T) {
	s := newStage(t)
	s.crashSaved(s.post("one"))
	first, second := s.later(), s.later()
	first.settle = func(context.Context, time.Duration) error {
		s.sweep(second)
		return nil
	}
	s.sweep(first)
	if a, b := first.Counts().Swept, second.Counts().Swept; a != 0 || b != 1 {
		t.Errorf("the first has swept %d, the second %d", a, b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.crashSaved(s.post("two"))
	if err := s.desk(SweepAge + 10*posts.SlotLength).sweep(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if log := s.log(); len(log) != 1 {
		t.Errorf("the log has %+v", log)
	}
}

// Run does all of it, and ends: the marks of what is published go, and nothing is swept where nothing was saved.
func TestRun(t *testing.T) {
	s := newStage(t)
	d := s.desk(0)
	stop := s.Cluster.Run("desk", d.Run)
	s.Until("slots are open", func() bool {
		return d.slots.covered([]freshet.Post{s.post("x")})[0]
	})
	if _, err := d.Publish(t.Context(), s.post("one")); err != nil {
		t.Fatal(err)
	}
	s.Until("the mark is taken off", func() bool { return s.marked() == 0 })
	if _, err := d.Publish(t.Context(), s.post("two")); err != nil {
		t.Fatal(err)
	}
	stop()
	if s.marked() != 0 {
		t.Error("the last mark was left")
	}
	if log := s.log(); len(log) != 2 {
		t.Errorf("the log has %+v", log)
	}
}
