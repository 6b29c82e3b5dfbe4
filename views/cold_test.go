package views_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/posts"
	"freshet/views"
)

// Feeds that are cold: for whom they are built, and by whom.

const coldAfter = feeds.DefaultColdAfter

// compact is what the writer does with a long log.
func (s *stage) compact() feeds.Compacted {
	s.Helper()
	oldest := feeds.DayOf(s.now) - coldAfter
	found, err := s.layout.CompactBlock(s.Context(), s, reader.Block(), oldest, s.name())
	if err != nil || found.Corrupt != nil {
		s.Fatal(found, err)
	}
	return found
}

// keptInRedis is what Redis keeps for the reader: the value of its slot, if any, and the bytes of the block's log.
func (s *stage) keptInRedis() (value []byte, log int) {
	s.Helper()
	read := &feeds.ReadBlock{Block: reader.Block(), Slot: feeds.AllSlots}
	if err := s.Do(s.Context(), read); err != nil {
		s.Fatal(err)
	}
	return read.Feeds[reader.Slot()], len(read.Log)
}

// days lets days go by in which the writer and the archive are well.
func (s *stage) days(n int) {
	for range n {
		s.later(24 * time.Hour)
		if _, err := s.flusher.Note(s.Context(), 1, nil); err != nil {
			s.Fatal(err)
		}
	}
	s.archived()
}

// post delivers and archives a post.
func (s *stage) post(n int) {
	s.Helper()
	s.mustDeliver(n, reader)
	event := freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
		ID: s.id(n), Author: author, Text: "post", Visibility: freshet.Public, CreatedAt: begin,
	}}
	if err := s.store.Apply(s.Context(), []posts.Event{{PostEvent: event, Offset: int64(n)}}); err != nil {
		s.Fatal(err)
	}
}

// An account that does not read costs nothing: its feed goes, and what is delivered goes with the next compaction. When
// it comes back its feed is complete, and kept again.
func TestInactiveReader(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.post(1)
	s.want(s.feed(), true, 1)
	s.days(coldAfter)
	s.compact()
	if value, log := s.keptInRedis(); value == nil || log != 0 {
		t.Errorf("after %d days: feed %v, log %d", coldAfter, value != nil, log)
	}
	s.days(1)
	s.post(2)
	s.compact()
	s.post(3)
	if found := s.compact(); found.Dropped != 1 {
		t.Errorf("%+v, want the entry of somebody who does not read dropped", found)
	}
	if value, log := s.keptInRedis(); value != nil || log != 0 {
		t.Errorf("kept for who does not read: a feed %v, a log of %d", value != nil, log)
	}
	s.post(4) // in the log
	s.want(s.feed(), true, 4, 3, 2, 1)
	s.post(5)
	s.compact()
	s.want(s.feed(), true, 5, 4, 3, 2, 1)
	if value, _ := s.keptInRedis(); value == nil {
		t.Error("the feed of who reads again is not kept")
	}
}

// A reader that reads now and then keeps its feed: each day's first read notes the day.
func TestReaderOnceInAWhile(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	s.want(s.feed(), true)
	for n := range 3 {
		s.post(n + 1)
		s.days(coldAfter)
		s.compact()
		if value, _ := s.keptInRedis(); value == nil {
			t.Fatalf("made cold %d days after a read", coldAfter)
		}
		s.feed()
	}
	s.want(s.feed(), true, 3, 2, 1)
}

// A reader that died while it built a feed does not keep it warm: what is delivered after its mark is kept for some
// days, and then no more.
func TestBuilderThatDied(t *testing.T) {
	s := newStage(t)
	s.rows[reader] = follows(1, true, 1)
	marked := false
	s.before = func(op feeds.Op) {
		switch op.(type) {
		case *feeds.SwapFeed:
			marked = true
		case *feeds.ReadOutbox:
			if marked {
				panic("the process dies")
			}
		}
	}
	func() {
		defer func() { _ = recover() }()
		s.feed()
		t.Error("the feed was built without a look at outboxes")
	}()
	s.before = nil
	s.post(1)
	s.days(1)
	s.compact()
	if value, log := s.keptInRedis(); value == nil || log != 0 {
		t.Errorf("a day later: feed %v, log %d; want what is delivered to stay", value != nil, log)
	}
	s.days(coldAfter)
	s.compact()
	s.post(2)
	s.compact()
	if value, log := s.keptInRedis(); value != nil || log != 0 {
		t.Errorf("%d days later: feed %v, log %d; want nothing", coldAfter, value != nil, log)
	}
	s.want(s.feed(), true, 2, 1)
}

// slowStage is a stage for several readers at a time. The first one that has marked the feed as its own stops until
// the other ones are let go.
type slowStage struct {
	*stage
	mu     sync.Mutex
	marks  int           // how many builds began
	marked chan struct{} // closed when the first has begun
	goOn   chan struct{} // lets it go on
}

// Do implements feeds.Conn.
func (s *slowStage) Do(ctx context.Context, ops ...feeds.Op) error {
	s.mu.Lock()
	err := s.stage.Do(ctx, ops...)
	first := false
	for _, op := range ops {
		swap, ok := op.(*feeds.SwapFeed)
		if !ok || !swap.OK {
			continue
		}
		if feed, err := feeds.DecodeFeed(swap.Value); err == nil && feed.Building {
			s.marks++
			first = s.marks == 1
		}
	}
	s.mu.Unlock()
	if first {
		close(s.marked)
		<-s.goOn
	}
	return err
}

func (s *slowStage) reader(pause func()) *views.Feeds {
	return &views.Feeds{
		Conn: s, Layout: s.layout, Store: s.store, Rows: s.stage, Accounts: s.stage, Partitions: 1,
		ProduceTimeout: time.Second, Tiers: s.stage, Kept: s.kept, PullSlack: time.Minute,
		Now: func() time.Time { return begin }, Pause: func(context.Context, time.Duration) { pause() },
		Random: func() uint64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.random++
			return s.random
		},
	}
}

// Of two readers of one cold feed at the same time one builds it. The other waits for it, as long as a request may
// take, and has it then; or it says that what it has is not complete.
func TestTwoReadersOfAColdFeed(t *testing.T) {
	for name, ends := range map[string]bool{"the build ends in time": true, "the build takes long": false} {
		t.Run(name, func(t *testing.T) {
			s := &slowStage{stage: newStage(t), marked: make(chan struct{}), goOn: make(chan struct{})}
			s.rows[reader] = follows(1, true, 1)
			s.mustDeliver(1)
			letGo := sync.OnceFunc(func() { close(s.goOn) })
			defer letGo()
			type answer struct {
				page views.Page
				err  error
			}
			first := make(chan answer, 1)
			go func() {
				page, err := s.reader(func() {}).Feed(s.Context(), reader, 0, 20)
				first <- answer{page, err}
			}()
			<-s.marked
			built := make(chan struct{})
			pauses := 0
			second, err := s.reader(func() {
				if pauses++; pauses == 2 && ends {
					letGo()
					a := <-first
					first <- a
					close(built)
				}
			}).Feed(s.Context(), reader, 0, 20)
			if err != nil {
				t.Fatal(err)
			}
			if pauses == 0 {
				t.Error("the second reader did not wait")
			}
			if ends {
				<-built
				s.want(second, true, 1)
			} else if second.Complete {
				t.Error("complete, though the feed is being built")
			}
			letGo()
			a := <-first
			if a.err != nil {
				t.Fatal(a.err)
			}
			s.want(a.page, true, 1)
			if s.marks != 1 {
				t.Errorf("the feed was built %d times", s.marks)
			}
		})
	}
}
