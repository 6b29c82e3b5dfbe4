package accept

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"freshet"
	"freshet/emitters"
	"freshet/internal/feeds"
	"freshet/internal/posts"
)

// A post is saved, published and unmarked; nothing that readers ask tells of it before it is in the log.
func TestPublish(t *testing.T) {
	s := newStage(t)
	d := s.open()
	post := s.post("one")
	if err := d.Marks.Save(t.Context(), []freshet.Post{post}); err != nil {
		t.Fatal(err)
	}
	read := &feeds.ReadBody{Post: post.ID}
	found, err := s.store.Posts(t.Context(), []freshet.PostID{post.ID})
	if err := errors.Join(err, s.Do(t.Context(), read)); err != nil || len(found) != 0 || read.Body != nil {
		t.Fatalf("saved: the store tells of %v, Redis has %q: %v", found, read.Body, err)
	}
	at, err := d.Publish(t.Context(), post)
	if err != nil || at.Topic != freshet.Posts {
		t.Fatalf("at %s: %v", at, err)
	}
	if err := s.Do(t.Context(), read); err != nil || read.Body == nil {
		t.Errorf("published: Redis has %q: %v", read.Body, err)
	}
	log := s.log()
	if len(log) != 1 || !log[0].Saved || log[0].Post != post {
		t.Fatalf("the log has %+v", log)
	}
	if s.marked() != 1 {
		t.Errorf("%d posts are marked before marks are taken off", s.marked())
	}
	s.set(&s.storeAway, true)
	if err := d.unmarker.flush(t.Context(), d.Marks); err == nil {
		t.Error("marks were taken off a store that is away")
	}
	s.set(&s.storeAway, false)
	if err := d.unmarker.flush(t.Context(), d.Marks); err != nil || s.marked() != 0 {
		t.Errorf("%d posts are marked: %v", s.marked(), err)
	}
	s.archive()
	if got := s.stored(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("stored: %q", got)
	}
}

// Where posts are not saved first, the store has no part in it.
func TestPublishAtOnce(t *testing.T) {
	s := newStage(t)
	d := s.open()
	d.SaveFirst = false
	s.set(&s.storeAway, true)
	if _, err := d.Publish(t.Context(), s.post("one")); err != nil {
		t.Fatal(err)
	}
	if o := d.PublishAll(t.Context(), []freshet.Post{s.post("two"), s.post("three")}); o[0].Err != nil || o[1].Err != nil {
		t.Fatal(o)
	}
	if log := s.log(); len(log) != 3 || log[0].Saved || log[2].Saved {
		t.Errorf("the log has %+v", log)
	}
}

// Nothing is published that could not be saved.
func TestTheStoreIsAway(t *testing.T) {
	s := newStage(t)
	d := s.open()
	s.set(&s.storeAway, true)
	_, err := d.Publish(t.Context(), s.post("one"))
	if !errors.Is(err, freshet.ErrStoreAway) || errors.Is(err, emitters.ErrSaved) {
		t.Errorf("got %v", err)
	}
	for _, o := range d.PublishAll(t.Context(), []freshet.Post{s.post("two"), s.post("three")}) {
		if !errors.Is(o.Err, freshet.ErrStoreAway) {
			t.Errorf("in a batch: got %v", o.Err)
		}
	}
	s.set(&s.storeAway, false)
	if log := s.log(); len(log) != 0 || s.marked() != 0 {
		t.Errorf("the log has %+v, %d are marked", log, s.marked())
	}
}

// What is saved while Kafka is away is accepted, and published by a sweep, whichever process makes it; the same post
// that comes again, as a request with a name does, is still one.
func TestKafkaIsAwayAfterSaving(t *testing.T) {
	s := newStage(t)
	d := s.open()
	one, two := s.post("one"), s.post("two")
	s.set(&s.kafkaAway, true)
	if _, err := d.Publish(t.Context(), one); !errors.Is(err, emitters.ErrSaved) {
		t.Fatalf("got %v", err)
	}
	if o := d.PublishAll(t.Context(), []freshet.Post{one, two}); !errors.Is(o[0].Err, emitters.ErrSaved) ||
		!errors.Is(o[1].Err, emitters.ErrSaved) {
		t.Fatal(o)
	}
	sweeper := s.later()
	if err := sweeper.sweep(t.Context()); !errors.Is(err, emitters.ErrUnavailable) {
		t.Errorf("a sweep while Kafka is away: %v", err)
	}
	if c := sweeper.Counts(); c.Waiting != 2 || c.Swept != 0 || c.Behind < posts.SlotLength || s.marked() != 2 {
		t.Errorf("counts %+v, %d are marked", c, s.marked())
	}
	s.set(&s.kafkaAway, false)
	s.sweep(sweeper)
	if c := sweeper.Counts(); c.Waiting != 0 || c.Swept != 2 || c.Behind > time.Minute || s.marked() != 0 {
		t.Errorf("counts %+v, %d are marked", c, s.marked())
	}
	s.sweep(s.later())
	if log := s.log(); len(log) != 2 {
		t.Errorf("the log has %+v", log)
	}
	s.archive()
	if got := s.stored(); !slices.Equal(got, []string{"two", "one"}) {
		t.Errorf("stored: %q", got)
	}
	if c := d.Counts(); c.Saved != 3 || c.Unknown != 3 {
		t.Errorf("counts of who saved: %+v", c)
	}
}

// A large batch is saved and published part by part, in its order, and what is not reached in time is left alone.
func TestLargeBatch(t *testing.T) {
	s := newStage(t)
	d := s.open()
	var all []freshet.Post
	for range saveMost + 3 {
		all = append(all, s.post("one of many"))
	}
	for i, o := range d.PublishAll(t.Context(), all) {
		if o.Err != nil {
			t.Fatalf("post %d: %v", i, o.Err)
		}
	}
	log := s.log()
	if len(log) != len(all) {
		t.Fatalf("the log has %d records of %d posts", len(log), len(all))
	}
	for i := range log {
		if log[i].Post.ID != all[i].ID {
			t.Fatalf("record %d is of post %s, want %s", i, log[i].Post.ID, all[i].ID)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if o := d.PublishAll(ended, []freshet.Post{s.post("too late")}); !errors.Is(o[0].Err, context.Canceled) {
		t.Error(o)
	}
	if n := len(s.log()); n != len(all) {
		t.Errorf("the log has %d records", n)
	}
}

// Nobody is told that a post will be published that a sweep may not look for: its slot is closed, was never opened, or
// nobody has said so lately.
func TestNotCovered(t *testing.T) {
	for name, change := range map[string]func(s *stage, d *Desk){
		"never asked": func(_ *stage, d *Desk) { d.slots.asked = time.Time{} },
		"asked too long ago": func(_ *stage, d *Desk) {
			d.slots.asked = time.Now().Add(-trustFor - time.Second)
		},
		"closed": func(s *stage, d *Desk) {
			if err := s.store.NoteSweeps(s.Context(), posts.Sweeps{Closed: posts.SlotAt(time.Now()) + 1}); err != nil {
				s.Fatal(err)
			}
			if err := d.slots.open(s.Context(), d.Marks, d.Now()); err != nil {
				s.Fatal(err)
			}
		},
		"not opened":       func(_ *stage, d *Desk) { d.slots.sweeps.Opened = posts.SlotAt(time.Now()) - 1 },
		"before the first": func(_ *stage, d *Desk) { d.slots.sweeps.First = posts.SlotAt(time.Now()) + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			d := s.open()
			change(s, d)
			s.set(&s.kafkaAway, true)
			_, err := d.Publish(t.Context(), s.post("one"))
			if !errors.Is(err, emitters.ErrUnavailable) || errors.Is(err, emitters.ErrSaved) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A post that is saved and not published can be deleted, by who may, and is never announced after that: neither by a
// sweep, nor by a process that was about to publish it.
func TestDeleteBeforePublishing(t *testing.T) {
	s := newStage(t)
	d := s.open()
	post := s.post("one")
	s.set(&s.kafkaAway, true)
	if _, err := d.Publish(t.Context(), post); !errors.Is(err, emitters.ErrSaved) {
		t.Fatal(err)
	}
	if _, found, err := d.Delete(t.Context(), post.ID, anybody); !found || !errors.Is(err, emitters.ErrUnavailable) {
		t.Errorf("delete while Kafka is away: found %t, %v", found, err)
	}
	s.set(&s.kafkaAway, false)
	if _, found, err := d.Delete(t.Context(), post.ID, nobody); !found || !errors.Is(err, errNobody) {
		t.Errorf("delete by somebody else: found %t, %v", found, err)
	}
	other := s.later() // which has not saved it
	at, found, err := other.Delete(t.Context(), post.ID, anybody)
	if err != nil || !found || at.Topic != freshet.Posts {
		t.Fatalf("delete: at %s, found %t, %v", at, found, err)
	}
	if _, found, err := other.Delete(t.Context(), post.ID+1, anybody); found || !errors.Is(err, freshet.ErrUnsettled) {
		t.Errorf("delete of what may yet come: found %t, %v", found, err)
	}
	if _, found, err := other.Delete(t.Context(), 1, anybody); found || !errors.Is(err, freshet.ErrUnsettled) {
		t.Errorf("delete while nothing is known to be stored: found %t, %v", found, err)
	}
	for partition := range int32(partitions) {
		if err := s.store.SetProgress(t.Context(), partition, posts.Progress{Through: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, err := other.Delete(t.Context(), 1, anybody); found || err != nil {
		t.Errorf("delete of what never was: found %t, %v", found, err)
	}
	s.sweep(other) // the mark is still there
	if log := s.log(); len(log) != 1 || log[0].Kind != freshet.PostDeleted || s.marked() != 0 {
		t.Fatalf("the log has %+v, %d are marked", log, s.marked())
	}
	late := d.PublishSaved(t.Context(), []freshet.Post{post}) // it was on its way all the time
	if late[0].Err != nil {
		t.Fatal(late)
	}
	read := &feeds.ReadBody{Post: post.ID}
	if err := s.Do(t.Context(), read); err != nil || !read.Deleted {
		t.Errorf("Redis has %+v: %v", read, err)
	}
	s.archive()
	if got := s.stored(); len(got) != 0 {
		t.Errorf("stored: %q", got)
	}
}

// An edit of a post that is saved and not published is refused for now.
func TestEditBeforePublishing(t *testing.T) {
	s := newStage(t)
	d := s.open()
	post := s.post("one")
	s.set(&s.kafkaAway, true)
	if _, err := d.Publish(t.Context(), post); !errors.Is(err, emitters.ErrSaved) {
		t.Fatal(err)
	}
	s.set(&s.kafkaAway, false)
	_, _, found, err := d.Edit(t.Context(), post.ID, "two", anybody)
	if !found || !errors.Is(err, emitters.ErrUnavailable) {
		t.Errorf("found %t, %v", found, err)
	}
	if _, _, found, err := d.Edit(t.Context(), post.ID, "two", nobody); !found || !errors.Is(err, errNobody) {
		t.Errorf("by somebody else: found %t, %v", found, err)
	}
	_, _, found, err = d.Edit(t.Context(), post.ID+1, "two", anybody)
	if found || !errors.Is(err, freshet.ErrUnsettled) {
		t.Errorf("of what may yet come: found %t, %v", found, err)
	}
	if log := s.log(); len(log) != 0 {
		t.Errorf("the log has %+v", log)
	}
}
