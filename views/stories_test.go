package views_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/feeds/feedstest"
	"freshet/internal/posts"
	"freshet/internal/posts/pebblestore"
	"freshet/views"
)

// The stories that made the rules of reading and recovery what they are, each told once. The simulator finds them, and
// others, by chance; here they are by name.

const (
	reader = freshet.Number(1)
	author = freshet.Number(70)
)

var begin = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// stage is a Redis that can be stopped before any operation, rows as one API process sees them, and a post store.
type stage struct {
	*testing.T
	now       time.Time
	layout    feeds.Layout
	model     *feedstest.Model
	undo      []func()
	before    func(feeds.Op) // called before each operation
	rows      map[freshet.Number]*freshet.Following
	pulled    views.Pulled
	kept      *views.KeptOutboxes
	unwritten *feeds.Unwritten
	away      bool // the post store
	store     *pebblestore.Store
	flusher   *feeds.Flusher
	tokens    int
	random    uint64
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{
		T: t, now: begin, layout: feeds.Layout{Zones: 8, FeedLength: 50},
		rows: map[freshet.Number]*freshet.Following{}, kept: views.NewKeptOutboxes(),
		unwritten: feeds.NewUnwritten(),
	}
	s.pulled.AsOf = s.now
	s.model = feedstest.NewModel(s.layout, func() time.Time { return s.now })
	var err error
	if s.store, err = pebblestore.Open(t.TempDir(), pebblestore.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
	})
	s.flusher = feeds.NewFlusher(s, s.layout, "writer", s.name)
	s.recover(0)
	return s
}

// Do implements feeds.Conn.
func (s *stage) Do(_ context.Context, ops ...feeds.Op) error {
	for _, op := range ops {
		if s.before != nil {
			s.before(op)
		}
		if undo := s.model.Apply(op); undo != nil {
			s.undo = append(s.undo, undo)
		}
	}
	return nil
}

// rollBack is a restart from the snapshot at which so many operations had been done.
func (s *stage) rollBack(to int) {
	for i := len(s.undo) - 1; i >= to; i-- {
		s.undo[i]()
	}
	s.undo = s.undo[:to]
}

func (s *stage) name() string {
	s.tokens++
	return "name" + strconv.Itoa(s.tokens)
}

var postsInput = feeds.Input{Topic: feeds.InputPosts, Partition: 0}

// recover is what the writer does after a loss, when posts end there.
func (s *stage) recover(end int64) feeds.Decision {
	s.Helper()
	d, err := s.flusher.Recover(s.Context(), 0, feeds.Positions{Committed: map[feeds.Input]int64{postsInput: -1}},
		func(context.Context) (map[feeds.Input]int64, error) {
			return map[feeds.Input]int64{postsInput: end}, nil
		})
	if err != nil {
		s.Fatal(err)
	}
	return d
}

// pass notes that posts are flushed up to an offset.
func (s *stage) pass(offset int64) {
	s.Helper()
	if _, err := s.flusher.Note(s.Context(), 1, map[feeds.Input]int64{postsInput: offset}); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) id(n int) freshet.PostID {
	return freshet.FirstPostID(begin.Add(-time.Hour)) + freshet.PostID(n)
}

// body is the body of a post of the author, as of an offset in posts.
func (s *stage) body(id freshet.PostID, text string, offset int64) *feeds.PutBody {
	s.Helper()
	body, err := proto.Marshal(&events.Body{Author: uint64(author), Text: text})
	if err != nil {
		s.Fatal(err)
	}
	return &feeds.PutBody{Post: id, Token: s.flusher.Token(s.layout.OfPost(id)), Offset: offset, Body: body}
}

// deliver flushes a post of the author, to followers.
func (s *stage) deliver(n int, followers ...freshet.Number) error {
	s.Helper()
	backlog := feeds.NewBacklog(s.layout, 0, 0)
	backlog.Add(s.Context(), feeds.Delivery{
		Kind: freshet.PostCreated, Author: author, Post: s.id(n), Followers: followers,
		Body: s.body(s.id(n), "post "+strconv.Itoa(n), int64(n)),
	}, func(error) {})
	for !backlog.Empty() {
		ready, next := backlog.Take()
		if _, err := s.flusher.Flush(s.Context(), ready, next); err != nil {
			return err
		}
		backlog.Flushed().Done(nil)
	}
	return nil
}

func (s *stage) mustDeliver(n int, followers ...freshet.Number) {
	s.Helper()
	if err := s.deliver(n, followers...); err != nil {
		s.Fatal(err)
	}
}

// Row implements views.Rows.
func (s *stage) Row(n freshet.Number) (*freshet.Following, error) { return s.rows[n], nil }

// Pulled implements views.PulledAuthors.
func (s *stage) Pulled() (views.Pulled, error) { return s.pulled, nil }

// tier states the author's tier, and everybody knows.
func (s *stage) tier(pull bool) {
	s.pulled = s.pulled.With(freshet.Tier{Author: author, Pull: pull, Ever: true})
}

// later lets time go by, in which the view of tiers stays current.
func (s *stage) later(d time.Duration) {
	s.now = s.now.Add(d)
	s.pulled.AsOf = s.now
}

// ByNumber implements views.Directory.
func (s *stage) ByNumber(n freshet.Number) (freshet.Account, bool, error) {
	return freshet.Account{Number: n}, true, nil
}

// leaving is the post store, as long as it is there.
type leaving struct {
	posts.Store
	*stage
}

func (l leaving) Posts(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	if l.away {
		return nil, freshet.ErrStoreAway
	}
	return l.Store.Posts(ctx, ids)
}

func (l leaving) ByAuthor(
	ctx context.Context, author freshet.Number, before freshet.PostID, limit int,
) ([]freshet.Post, error) {
	if l.away {
		return nil, freshet.ErrStoreAway
	}
	return l.Store.ByAuthor(ctx, author, before, limit)
}

func (s *stage) feed() views.Page {
	s.Helper()
	return s.feedBefore(0)
}

// feedBefore is the page of what lies below a post.
func (s *stage) feedBefore(n int) views.Page {
	s.Helper()
	before := freshet.PostID(0)
	if n > 0 {
		before = s.id(n)
	}
	f := &views.Feeds{
		Conn: s, Layout: s.layout, Store: leaving{s.store, s}, Rows: s, Accounts: s,
		Partitions: 1, ProduceTimeout: time.Second,
		Tiers: s, Kept: s.kept, PullSlack: freshet.PullSlack, Unwritten: s.unwritten,
		Now: func() time.Time { return s.now }, Pause: func(context.Context, time.Duration) {},
		Random: func() uint64 { s.random++; return s.random },
	}
	page, err := f.Feed(s.Context(), reader, before, 20)
	if err != nil {
		s.Fatal(err)
	}
	return page
}

// want compares a page with posts by their numbers.
func (s *stage) want(page views.Page, complete bool, numbers ...int) {
	s.Helper()
	var got, want []freshet.PostID
	for _, p := range page.Posts {
		got = append(got, p.ID)
	}
	for _, n := range numbers {
		want = append(want, s.id(n))
	}
	if !slices.Equal(got, want) || page.Complete != complete {
		s.Errorf("got %v, complete %v; want %v, complete %v", got, page.Complete, want, complete)
	}
}

// archived says that the post store has everything up to now.
func (s *stage) archived() {
	s.Helper()
	if err := s.store.SetProgress(s.Context(), 0, posts.Progress{Offset: 1000, Through: s.now}); err != nil {
		s.Fatal(err)
	}
}

func follows(version uint64, applied bool, at uint64) *freshet.Following {
	return &freshet.Following{Version: version, Next: int64(version), Relations: []freshet.Relation{
		{Account: author, Follows: true, Applied: applied, AppliedAt: at},
	}}
}

func TestStoryAHeaderNewerThanItsBuildersViewOfTheFollows(t *testing.T) {
	s := newStage(t)
	s.mustDeliver(1) // before the tree has the reader
	s.want(s.feed(), true)
	// The feed was built from a row without the follow. By the time that the process sees it, the tree has reported.
	s.rows[reader] = follows(2, true, 2)
	s.want(s.feed(), true, 1)
	s.want(s.feed(), true, 1) // written back, and still there
}

func TestStoryASecondReaderFurtherBehindThanTheBuilder(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(3, true, 3)
	s.mustDeliver(1)
	s.want(s.feed(), true, 1)
	s.rows[reader] = nil // another process, which has not seen the row yet
	s.want(s.feed(), false)
}

func TestStoryAnIdleTopicTakenForEverythingIsApplied(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, false, 0)
	s.want(s.feed(), true)
	s.later(24 * time.Hour) // nothing has come of the follow in a day, and that means nothing
	s.mustDeliver(1)
	s.want(s.feed(), true, 1)
}

func TestStoryAnOwnPostThatRedisRefused(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.mustDeliver(1, reader)
	for _, feed := range []string{"cold", "warm"} {
		s.unwritten.Note(reader, s.id(2)) // Redis answers reads, and took no write
		if page := s.feed(); page.Complete {
			t.Errorf("a %s feed without the reader's own post says that it is complete", feed)
		}
	}
	if err := s.Do(t.Context(), &feeds.AppendOutbox{Author: reader, IDs: feeds.AppendID(nil, s.id(2))}); err != nil {
		t.Fatal(err)
	}
	s.feed() // sees that it is there
	s.archived()
	s.want(s.feed(), true, 1) // the body of 2 is nowhere: it never was
}

func TestStoryThePostStoreIsAway(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.mustDeliver(1, reader)
	s.away = true
	s.want(s.feed(), false, 1) // a cold feed: the older part of no outbox can be loaded
	s.away = false
	s.want(s.feed(), true, 1)
	s.away = true
	s.want(s.feed(), true, 1) // nothing is asked of the store
	s.mustDeliver(2, reader)
	s.model.Apply(&feeds.PutTombstone{Post: s.id(1)})
	s.want(s.feed(), true, 2)
}

func TestStoryRedisRestartsBetweenTheDataAndItsWatermark(t *testing.T) {
	s := newStage(t)
	snapshot := len(s.undo)
	s.mustDeliver(1, reader)
	s.rollBack(snapshot)
	if _, err := s.flusher.Note(t.Context(), 1, map[feeds.Input]int64{postsInput: 2}); !errors.Is(err, feeds.ErrLost) {
		t.Errorf("a watermark is noted over lost data: %v", err)
	}
}

func TestStoryACounterOfANewOwner(t *testing.T) {
	s := newStage(t)
	snapshot := len(s.undo)
	second := feeds.NewFlusher(s, s.layout, "second", s.name)
	s.flusher = second
	s.recover(0) // moves the counter, then reads the watermarks
	s.rollBack(snapshot)
	if err := s.deliver(1, reader); !errors.Is(err, feeds.ErrLost) {
		t.Errorf("the loss after the watermarks were read is not noticed: %v", err)
	}
}

func TestStoryADeleteOfBeforeTheLossIsStillOnItsWay(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.mustDeliver(1, reader)
	s.want(s.feed(), true, 1)
	snapshot := len(s.undo)
	if err := s.Do(t.Context(), &feeds.PutTombstone{Post: s.id(1)}); err != nil {
		t.Fatal(err)
	}
	s.want(s.feed(), true)
	// The tombstone is lost, the body is back. The delete lies at offset 8 of posts.
	s.rollBack(snapshot)
	if err := s.deliver(2, reader); !errors.Is(err, feeds.ErrLost) {
		// A zone that this flush does not touch may have lost nothing; the check of all zones sees it.
		if _, err := s.flusher.Note(t.Context(), 1, nil); err != nil && !errors.Is(err, feeds.ErrLost) {
			t.Fatal(err)
		}
	}
	s.model.Clear(s.layout.OfBlock(reader.Block())) // and a zone is lost for good, which everybody sees
	s.recover(9)
	for _, offset := range []int64{3, 8} {
		s.pass(offset)
		for _, p := range s.feed().Posts {
			if p.ID == s.id(1) {
				t.Fatalf("a deleted post is shown while the delete at 8 is ahead of %d", offset)
			}
		}
		if s.feed().Complete {
			t.Errorf("complete at %d, although the zones wait for 9", offset)
		}
	}
}

func TestStoryAColdBuildInAHealthyZoneFromAnOutboxInALostOne(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	home, outbox := s.layout.OfBlock(reader.Block()), s.layout.OfAuthor(author)
	if home == outbox {
		t.Fatalf("feed and outbox lie in one zone, %d: choose other accounts", home)
	}
	s.mustDeliver(1, reader)
	s.model.Clear(outbox)
	s.recover(2)
	s.want(s.feed(), false) // nothing of the author can be found, and the answer says so
	s.mustDeliver(1, reader)
	s.pass(2)
	s.want(s.feed(), true, 1)
}

func TestStoryABodyFromAZombiesBuffer(t *testing.T) {
	s := newStage(t)
	zone := s.layout.OfPost(s.id(1))
	buffered := &feeds.PutBody{Post: s.id(1), Token: s.flusher.Token(zone), Offset: 1, Body: []byte("old")}
	// The post is deleted, and Redis loses the tombstone. Only then does the zombie flush.
	s.model.Clear(zone)
	s.recover(2)
	if err := s.Do(t.Context(), buffered); err != nil {
		t.Fatal(err)
	}
	if buffered.OK {
		t.Error("a body that was buffered across a loss is written")
	}
}

func TestStoryACompactionThatStraddlesALoss(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.feed()
	s.mustDeliver(1, reader)
	s.before = func(op feeds.Op) {
		if _, ok := op.(*feeds.Compact); !ok {
			return
		}
		s.before = nil
		s.model.Clear(s.layout.OfBlock(reader.Block()))
		s.recover(2)
		s.mustDeliver(2, reader)
	}
	if _, err := s.layout.CompactBlock(t.Context(), s, reader.Block(), 0, "next"); err != nil {
		t.Fatal(err)
	}
	read := &feeds.ReadBlock{Block: reader.Block(), Slot: feeds.AllSlots}
	if err := s.Do(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	if len(read.Feeds) != 0 || len(read.Log) != 9 {
		t.Errorf("the block holds %d feeds and a log of %d bytes; want none, and the entry of after the loss",
			len(read.Feeds), len(read.Log))
	}
}

func TestStoryAnOutboxLoadThatStraddlesALoss(t *testing.T) {
	s := newStage(t)
	s.archived()
	s.before = func(op feeds.Op) {
		if _, ok := op.(*feeds.RewriteOutbox); !ok {
			return
		}
		s.before = nil
		s.model.Clear(s.layout.OfAuthor(author))
		s.recover(2)
	}
	if _, err := s.layout.ReadOutboxes(t.Context(), s, s.store, []freshet.Number{author}); err != nil {
		t.Fatal(err)
	}
	if s.before != nil {
		t.Fatal("no outbox was loaded")
	}
	read := &feeds.ReadOutbox{Author: author}
	if err := s.Do(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	if len(read.Value) != 0 {
		t.Errorf("the outbox is marked as loaded across a loss: %s", fmt.Sprintf("%x", read.Value))
	}
}

// While an author is pulled its posts are in no feed but those that were built meanwhile. When its posts are delivered
// again, those of before are still only in its outbox.
func TestStoryAnAuthorLeavingPullWhosePostsDropOutOfWarmFeeds(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.mustDeliver(1, reader)
	s.want(s.feed(), true, 1) // warm from here on
	s.tier(true)
	s.mustDeliver(2)
	s.mustDeliver(3)
	s.later(views.KeptFor)
	s.want(s.feed(), true, 3, 2, 1)
	s.tier(false)
	s.mustDeliver(4, reader)
	s.later(views.KeptFor)
	s.want(s.feed(), true, 4, 3, 2, 1)
	s.later(24 * time.Hour) // and for good
	s.want(s.feed(), true, 4, 3, 2, 1)
}

// A process whose view of tiers stands still does not know of an author who is pulled since; it must not say that a
// page without the author's posts is complete, from the moment on at which posts may not be delivered.
func TestStoryAViewOfTiersThatStandsStill(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.want(s.feed(), true)
	s.now = s.now.Add(freshet.PullSlack - 1) // stated at once, a post would still be delivered
	s.want(s.feed(), true)
	s.now = s.now.Add(1)
	s.mustDeliver(1) // not delivered: in the outbox alone
	s.want(s.feed(), false)
	s.tier(true)
	s.pulled.AsOf = s.now
	s.want(s.feed(), true, 1)
}

// Outboxes of pulled authors are read once a second in a process, whoever reads; what the reader itself or a new follow
// relies on is read each time.
func TestOutboxesOfPulledAuthorsAreKeptForASecond(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.want(s.feed(), true)
	s.tier(true)
	reads := 0
	s.before = func(op feeds.Op) {
		if read, ok := op.(*feeds.ReadOutbox); ok && read.Author == author {
			reads++
		}
	}
	s.want(s.feed(), true)
	s.mustDeliver(1)
	s.later(views.KeptFor - 1)
	s.want(s.feed(), true)
	if reads != 1 {
		t.Errorf("the outbox was read %d times within a second, want once", reads)
	}
	s.later(1)
	s.want(s.feed(), true, 1)
	s.mustDeliver(2)
	s.rows[reader] = follows(3, true, 3) // a follow anew: the feed is to keep what the outbox has now
	s.want(s.feed(), true, 2, 1)
	s.model.Clear(s.layout.OfAuthor(author))
	s.later(views.KeptFor)
	if s.feed().Complete {
		t.Error("complete without the zone of an outbox")
	}
	s.recover(0)
	s.mustDeliver(1)
	s.mustDeliver(2)
	s.mustDeliver(3)
	s.want(s.feed(), true, 3, 2, 1) // what a zone that is not well says is not kept
}

// A feed that is full is whole down to its lowest post only. One that comes late and lies below, as those of a replay
// do, is not shown from there: what lies between would be missing.
func TestStoryAPostBelowTheFloor(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	most := s.layout.FeedLength + 10
	s.feed() // warm
	for n := 1; n <= most; n++ {
		s.mustDeliver(n, reader)
		created := freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{ID: s.id(n), Author: author, Text: "post"}}
		if err := s.store.Apply(t.Context(), []posts.Event{{PostEvent: created, Offset: int64(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	s.archived()
	if _, err := s.layout.CompactBlock(t.Context(), s, reader.Block(), 0, "g"); err != nil {
		t.Fatal(err)
	}
	s.mustDeliver(3, reader)
	var numbers []int
	for n := 13; n > 0; n-- {
		numbers = append(numbers, n)
	}
	s.want(s.feedBefore(14), true, numbers...)
}
