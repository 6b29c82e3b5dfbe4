package emitters_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/feeds/feedstest"
	"freshet/internal/posts"
	"freshet/processors/processortest"
)

var layout = feeds.Layout{Zones: 1, FeedLength: 50}

// stage is a publisher on a real Kafka, a modelled Redis and a post store that does what the test says.
type stage struct {
	*testing.T
	*emitters.Publisher
	mu     sync.Mutex
	model  *feedstest.Model
	stored map[freshet.PostID]freshet.Post
	at     map[int32]posts.Progress
	asked  func() // before the store says how far it is
	forgot []freshet.PostID
	// refuses says that Redis answers reads and takes no writes.
	refuses bool
}

func newStage(t *testing.T) *stage {
	c := processortest.Start(t, partitions)
	s := &stage{
		T: t, model: feedstest.NewModel(layout, time.Now), stored: map[freshet.PostID]freshet.Post{},
		at: map[int32]posts.Progress{}, asked: func() {},
	}
	for partition := range int32(partitions) {
		s.at[partition] = posts.Progress{Through: time.Now()} // ids of these tests are older
	}
	s.Publisher = &emitters.Publisher{
		Emitters: open(t, c), Conn: s, Layout: layout, Store: s, Log: c.Logger(),
		Partitions: partitions, Slowest: emitters.ProduceTimeout,
		Forget: func(id freshet.PostID) { s.forgot = append(s.forgot, id) },
	}
	s.recover(&feeds.Recover{New: "1-a"})
	return s
}

// Do implements feeds.Conn.
func (s *stage) Do(ctx context.Context, ops ...feeds.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		switch op.(type) {
		case *feeds.PutBody, *feeds.AppendOutbox, *feeds.PutTombstone:
			if s.refuses {
				return feeds.ErrAway
			}
		}
	}
	return s.model.Do(ctx, ops...)
}

// Posts implements emitters.PostStore.
func (s *stage) Posts(context.Context, []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	return s.stored, nil
}

// Progress implements emitters.PostStore.
func (s *stage) Progress(context.Context) (map[int32]posts.Progress, error) {
	s.asked()
	return maps.Clone(s.at), nil
}

func (s *stage) recover(op *feeds.Recover) {
	s.Helper()
	if err := s.Do(s.Context(), op); err != nil || !op.OK {
		s.Fatal(err, op)
	}
}

// body is what Redis has of a post: its text, whether it is deleted, and the offset of the text.
func (s *stage) body(id freshet.PostID) (text string, read *feeds.ReadBody) {
	s.Helper()
	read = &feeds.ReadBody{Post: id}
	var body events.Body
	if err := errors.Join(s.Do(s.Context(), read), proto.Unmarshal(read.Body, &body)); err != nil {
		s.Fatal(err)
	}
	return body.GetText(), read
}

func (s *stage) publish(id freshet.PostID) freshet.Post {
	s.Helper()
	post := freshet.Post{
		ID: id, Author: 7, Text: "one", ReplyTo: 3, Visibility: freshet.FollowersOnly, CreatedAt: id.Time().UTC(),
	}
	if _, err := s.Publish(s.Context(), post); err != nil {
		s.Fatal(err)
	}
	return post
}

func anybody(freshet.Post) error { return nil }

func TestEditOfAPostInRedis(t *testing.T) {
	s := newStage(t)
	post := s.publish(100)
	begun := time.Now()
	edited, at, found, err := s.Edit(t.Context(), 100, "two", anybody)
	if err != nil || !found || at.Topic != freshet.Posts || edited.EditedAt.Before(begun) {
		t.Fatalf("%+v at %s, found %v: %v", edited, at, found, err)
	}
	want := post
	want.Text, want.EditedAt = "two", edited.EditedAt
	if edited != want {
		t.Errorf("edited: %+v, want %+v", edited, want)
	}
	text, read := s.body(100)
	var body events.Body
	_ = proto.Unmarshal(read.Body, &body) // it was, above
	if kept := body.Post(100); text != "two" || read.Offset != at.Offset || kept.ReplyTo != 3 ||
		kept.Visibility != freshet.FollowersOnly || kept.Author != 7 {
		t.Errorf("redis has %+v of offset %d, want that of %d", kept, read.Offset, at.Offset)
	}
	if len(s.forgot) != 1 {
		t.Errorf("forgot %v, want the post once", s.forgot)
	}

	refused := errors.New("refused")
	refuse := func(freshet.Post) error { return refused }
	if _, at, found, err := s.Edit(t.Context(), 100, "three", func(asked freshet.Post) error {
		if asked.Author != 7 || asked.Visibility != freshet.FollowersOnly {
			t.Errorf("asked about %+v", asked)
		}
		return refused
	}); !errors.Is(err, refused) || !found || at.Topic != "" {
		t.Errorf("refused: at %s, found %v: %v", at, found, err)
	}
	if _, found, err := s.Delete(t.Context(), 100, refuse); !errors.Is(err, refused) || !found {
		t.Errorf("refused: found %v: %v", found, err)
	}
	if text, read := s.body(100); text != "two" || read.Deleted {
		t.Errorf("redis has %q, deleted %v, of what was refused", text, read.Deleted)
	}

	if at, found, err := s.Delete(t.Context(), 100, anybody); err != nil || !found || at.Topic == "" {
		t.Fatalf("delete: at %s in the log, found %v: %v", at, found, err)
	}
	for _, id := range []freshet.PostID{100, 101} { // deleted, unknown
		if _, at, found, err := s.Edit(t.Context(), id, "x", anybody); err != nil || found || at.Topic != "" {
			t.Errorf("edit of %d: at %s, found %v: %v", id, at, found, err)
		}
	}
}

// A post that only the store has is shown with its new text when the store has that: the edit is not answered before.
func TestEditOfAPostInTheStore(t *testing.T) {
	s := newStage(t)
	s.stored[100] = freshet.Post{ID: 100, Author: 7, Text: "one", Visibility: freshet.Public}
	times := 0
	s.asked = func() {
		if times++; times == 3 {
			s.at = map[int32]posts.Progress{0: {Offset: 1}, 1: {Offset: 1}, 2: {Offset: 1}, 3: {Offset: 1}}
		}
	}
	edited, _, found, err := s.Edit(t.Context(), 100, "two", anybody)
	if err != nil || !found || edited.Text != "two" || times != 3 {
		t.Fatalf("%+v, found %v, the store was asked %d times: %v", edited, found, times, err)
	}
	if text, read := s.body(100); read.Body != nil {
		t.Errorf("redis has %q, where nothing was", text)
	}

	// The store stands still.
	s.asked = func() {}
	ctx, cancel := context.WithCancel(t.Context())
	s.asked = cancel
	if _, at, found, err := s.Edit(ctx, 100, "three", anybody); !errors.Is(err, emitters.ErrNotShown) || !found ||
		at.Offset == 0 {
		t.Errorf("at %s, found %v: %v", at, found, err)
	}
}

// While a zone is being recovered a body may be of a post whose tombstone is lost, and fan-out may yet write an older
// one.
func TestEditInAZoneThatIsBeingRecovered(t *testing.T) {
	s := newStage(t)
	s.publish(100)
	s.publish(300)
	s.recover(&feeds.Recover{
		Old: "1-a", New: "2-b", Counter: 1, Ends: map[feeds.Input]int64{{Topic: feeds.InputPosts}: 5},
	})
	if _, _, found, err := s.Edit(t.Context(), 100, "two", anybody); !errors.Is(err, emitters.ErrUnavailable) || found {
		t.Errorf("of a body that is not trusted: found %v: %v", found, err)
	}
	if _, found, err := s.Delete(t.Context(), 100, anybody); err != nil || !found {
		t.Errorf("delete: found %v: %v", found, err) // it may be deleted already, which does no harm
	}

	// Readers go to the store, also where Redis has taken the edit.
	s.stored[300] = freshet.Post{ID: 300, Author: 7, Text: "one", Visibility: freshet.Public}
	late, end := context.WithCancel(t.Context())
	s.asked = end
	if _, _, _, err := s.Edit(late, 300, "two", anybody); !errors.Is(err, emitters.ErrNotShown) {
		t.Errorf("before the store has it: %v", err)
	}
	if text, _ := s.body(300); text != "two" {
		t.Errorf("redis has %q", text)
	}
	s.asked = func() {
		for partition := range int32(partitions) {
			s.at[partition] = posts.Progress{Offset: 1000}
		}
	}
	if _, _, found, err := s.Edit(t.Context(), 300, "three", anybody); err != nil || !found {
		t.Errorf("when the store has it: found %v: %v", found, err)
	}

	s.stored[200] = freshet.Post{ID: 200, Author: 7, Text: "one", Visibility: freshet.Public}
	ctx, cancel := context.WithCancel(t.Context())
	s.asked = cancel
	if _, _, _, err := s.Edit(ctx, 200, "two", anybody); !errors.Is(err, emitters.ErrNotShown) {
		t.Errorf("before fan-out has passed what it may write again: %v", err)
	}
}

// TestRedisRefusesWrites: posts are accepted, and noted for who reads; a delete is answered only when nobody sees the
// post any more.
func TestRedisRefusesWrites(t *testing.T) {
	s := newStage(t)
	s.Unwritten = feeds.NewUnwritten()
	author := s.publish(100).Author
	if _, known := s.Unwritten.Find(100); known || s.Unwritten.Lacks(author, feeds.Outbox{}) {
		t.Error("what Redis took is noted")
	}
	s.refuses = true
	s.publish(200)
	if _, known := s.Unwritten.Find(200); !known || !s.Unwritten.Lacks(author, feeds.Outbox{}) {
		t.Error("the post that Redis refused is not noted")
	}
	if _, _, err := s.Delete(t.Context(), 100, anybody); !errors.Is(err, emitters.ErrUnavailable) {
		t.Errorf("a delete that Redis refuses: got %v, want ErrUnavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.asked = cancel // the store has nothing new
	if _, _, _, err := s.Edit(ctx, 100, "two", anybody); !errors.Is(err, emitters.ErrNotShown) {
		t.Errorf("an edit that Redis refuses, and readers do not see: got %v, want ErrNotShown", err)
	}
	s.stored[100] = freshet.Post{ID: 100, Author: author, DeletedAt: time.Now()} // the archive has it by now
	if _, _, err := s.Delete(t.Context(), 100, anybody); !errors.Is(err, emitters.ErrUnavailable) {
		t.Errorf("a delete that is stored, and not in Redis: got %v, want ErrUnavailable", err)
	}
	s.refuses = false
	if _, found, err := s.Delete(t.Context(), 100, anybody); err != nil || !found {
		t.Errorf("the delete again: %t, %v", found, err)
	}
	if _, read := s.body(100); !read.Deleted {
		t.Error("it was answered, and Redis has no tombstone")
	}
}
