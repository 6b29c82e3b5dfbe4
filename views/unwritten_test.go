package views_test

import (
	"errors"
	"testing"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/posts"
	"freshet/views"
)

// own is a post of this process that Redis did not take.
func (s *stage) own(id freshet.PostID, text string, offset int64) feeds.Logged {
	return feeds.Logged{
		Post:   freshet.Post{ID: id, Author: author, Text: text, Visibility: freshet.Public, CreatedAt: id.Time()},
		Offset: offset, Rank: offset,
	}
}

// single reads one post.
func (s *stage) single(id freshet.PostID) (text string, found bool, err error) {
	s.Helper()
	f := &views.Feeds{
		Conn: s, Layout: s.layout, Store: leaving{s.store, s}, Rows: s, Accounts: s, Partitions: 1,
		ProduceTimeout: time.Second, Unwritten: s.unwritten, Now: func() time.Time { return s.now },
	}
	post, found, err := f.Post(s.Context(), id)
	return post.Text, found, err
}

// shows wants that a post is shown with a text.
func (s *stage) shows(when string, id freshet.PostID, want string) {
	s.Helper()
	if text, found, err := s.single(id); err != nil || !found || text != want {
		s.Errorf("%s: %q, found %t, %v; want %q", when, text, found, err, want)
	}
}

// denies wants that a post is not shown: with an error, or as one that is not there.
func (s *stage) denies(when string, id freshet.PostID, want error) {
	s.Helper()
	if text, found, err := s.single(id); found || !errors.Is(err, want) || (err == nil) != (want == nil) {
		s.Errorf("%s: %q, found %t, %v; want %v", when, text, found, err, want)
	}
}

func (s *stage) apply(kind freshet.PostEventKind, id freshet.PostID, text string, offset int64) {
	s.Helper()
	post := freshet.Post{ID: id, Author: author, Text: text, Visibility: freshet.Public, CreatedAt: id.Time()}
	if kind == freshet.PostDeleted {
		post.DeletedAt = s.now
	}
	if err := s.store.Apply(s.Context(), []posts.Event{
		{Offset: offset, PostEvent: freshet.PostEvent{Kind: kind, Post: post}},
	}); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) stored(offset int64, through time.Time) {
	s.Helper()
	if err := s.store.SetProgress(s.Context(), 0, posts.Progress{Offset: offset, Through: through}); err != nil {
		s.Fatal(err)
	}
}

// A post that Redis did not take is shown by the process that took it, as it was left, until others know better.
func TestPostThatRedisDidNotTake(t *testing.T) {
	s := newStage(t)
	id := freshet.FirstPostID(s.now)
	body := func(offset int64, text string) *feeds.PutBody {
		return s.body(id, text, offset)
	}
	s.unwritten.Keep(s.own(id, "one", 5))
	s.shows("the archive stands still", id, "one")
	s.unwritten.Change(s.own(id, "two", 7))
	s.shows("edited", id, "two")
	s.unwritten.Change(s.own(id, "one again", 6)) // its answer came later
	s.shows("edited twice at once", id, "two")
	s.model.Apply(body(5, "one")) // by fan-out, which has come to the creation
	s.shows("redis has it as it was before the edit", id, "two")
	s.apply(freshet.PostCreated, id, "one", 5)
	s.stored(6, time.Time{})
	s.shows("so has the store", id, "two")
	s.model.Apply(body(9, "three"))
	s.shows("redis has a later edit", id, "three")
	s.model.Apply(&feeds.PutTombstone{Post: id})
	s.denies("redis has the tombstone", id, nil)
}

// What the store has come to is the store's to tell.
func TestPostThatRedisDidNotTakeAndTheStoreHas(t *testing.T) {
	s := newStage(t)
	id := freshet.FirstPostID(s.now)
	s.unwritten.Keep(s.own(id, "one", 5))
	s.apply(freshet.PostCreated, id, "one", 5)
	s.apply(freshet.PostEdited, id, "two", 7)
	s.stored(8, s.now)
	s.shows("edited by another process", id, "two")
	if _, known := s.unwritten.Find(id); known {
		t.Error("it is still remembered")
	}
	s.unwritten.Keep(s.own(id, "one", 5))
	s.apply(freshet.PostDeleted, id, "", 9)
	s.denies("deleted by another process", id, nil)
	s.unwritten.Keep(s.own(id, "one", 50)) // which the store has not come to
	s.denies("deleted in the store", id, nil)

	other := freshet.FirstPostID(s.now) + 1
	s.unwritten.Keep(s.own(other, "one", 50))
	s.away = true // and may know of a delete
	s.denies("the store is away", other, feeds.ErrAway)
	s.away = false
	s.shows("the store is back", other, "one")
	deleted := s.own(other, "", 51)
	deleted.DeletedAt = s.now
	s.unwritten.Change(deleted)
	s.unwritten.Change(s.own(other, "edited at the same time", 52))
	s.denies("deleted here", other, nil)
}

// While a zone is being recovered the tombstone of what this process remembers may be lost.
func TestPostThatRedisDidNotTakeInAZoneThatIsBeingRecovered(t *testing.T) {
	s := newStage(t)
	id := freshet.FirstPostID(s.now)
	s.unwritten.Keep(s.own(id, "one", 5))
	s.rollBack(0)
	s.denies("the loss is not noticed", id, feeds.ErrAway)
	s.recover(100)
	s.denies("a delete may be on its way", id, feeds.ErrAway)
	s.stored(100, s.now)
	s.denies("the store has come to it, and does not have it", id, feeds.ErrAway)
	s.unwritten.Keep(s.own(id, "one", 200))
	s.shows("it was written after the loss", id, "one")
}

// Nobody says that there is no post as long as there may be one: its id is younger than what the archive has stored.
func TestPostThatMayYetCome(t *testing.T) {
	s := newStage(t)
	young, old := freshet.FirstPostID(s.now), freshet.FirstPostID(s.now.Add(-time.Hour))
	s.denies("nothing is stored", young, freshet.ErrUnsettled)
	s.denies("nothing is stored", old, freshet.ErrUnsettled)
	s.denies("a time that is still to come", freshet.FirstPostID(s.now.Add(time.Hour)), nil)
	s.stored(10, s.now)
	s.denies("stored", old, nil)
	s.denies("it may take a second into the log", young, freshet.ErrUnsettled)
	s.stored(10, s.now.Add(2*time.Second))
	s.denies("stored", young, nil)
	s.away = true
	s.denies("the store is away", young, feeds.ErrAway)
}

// A page has a post that this process alone knows.
func TestPageWithAPostThatRedisDidNotTake(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.mustDeliver(1, reader)
	id := s.id(2)
	if err := s.Do(t.Context(), &feeds.AppendOutbox{Author: author, IDs: feeds.AppendID(nil, id)}); err != nil {
		t.Fatal(err)
	}
	s.want(s.feed(), false) // the outbox names it, and nobody knows what it says
	s.unwritten.Keep(s.own(id, "two", 5))
	page := s.feed()
	s.want(page, true, 2, 1)
	if len(page.Posts) == 2 && page.Posts[0].Text != "two" {
		t.Errorf("it shows %+v", page.Posts[0])
	}
}
