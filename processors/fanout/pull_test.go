package fanout_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/processors/fanout"
)

// tiers are the statements of the author's tier so far, one for each time that it changed.
func (f *fixture) tiers(author freshet.Number) (pull []bool) {
	f.Helper()
	for _, r := range f.Read(f.Names.Topic(freshet.Tiers), 1) {
		var tier events.Tier
		if err := proto.Unmarshal(r.Value, &tier); err != nil || string(r.Key) != author.Key() || !tier.GetEver() {
			f.Fatalf("a tier of %s: %v, %v", r.Key, &tier, err)
		}
		pull = append(pull, tier.GetPull())
	}
	return slices.Compact(pull)
}

// inOutbox says whether the author's outbox has the post.
func (f *fixture) inOutbox(author freshet.Number, post freshet.PostID) bool {
	f.Helper()
	read := &feeds.ReadOutbox{Author: author}
	if err := f.conn.Do(f.Context(), read); err != nil {
		f.Fatal(err)
	}
	for ids := read.Value; len(ids) >= 8; ids = ids[8:] {
		if bytes.Equal(ids[:8], feeds.AppendID(nil, post)) {
			return true
		}
	}
	return false
}

// An author crosses the limit upwards and downwards, the process is restarted, and the limit is changed. Each post is
// in the outbox; it is delivered while not every reader knows that the author is pulled, and when it is not pulled.
func TestFanoutPullsAuthorsAboveTheLimit(t *testing.T) {
	const author = freshet.Number(7)
	f := newFixture(t)
	f.tree.PullAbove, f.slack = 10, 100*time.Millisecond
	f.start()
	last := freshet.PostID(9000)
	// posted says how many of these accounts a new post is delivered to, once it is committed.
	posted := func(to ...freshet.Number) int {
		t.Helper()
		last++
		f.committed(f.post(author, last))
		if !f.inOutbox(author, last) {
			t.Fatalf("post %d is not in the outbox", last)
		}
		delivered := 0
		for _, follower := range to {
			delivered += min(f.logged(follower)[last], 1)
		}
		return delivered
	}
	reached := func(to ...freshet.Number) {
		t.Helper()
		posted()
		f.Until("the post is delivered to all followers", func() bool {
			for _, follower := range to {
				if f.logged(follower)[last] == 0 {
					return false
				}
			}
			return true
		})
	}

	f.follow(author, true, 1, numbers(100, 110)...)
	f.reports(10)
	reached(numbers(100, 110)...)
	f.follow(author, true, 2, 110)
	f.reports(11)
	f.Until("the author is pulled", func() bool { return posted(numbers(100, 111)...) == 0 })
	if got := f.tiers(author); !slices.Equal(got, []bool{true}) {
		t.Errorf("the tier was stated as %v, want pull", got)
	}

	f.follow(author, false, 3, 100, 101) // 9 are left, and it stays so
	f.reports(13)
	if n := posted(numbers(102, 111)...); n != 0 {
		t.Errorf("pulled, with 9 followers of 10, and delivered to %d", n)
	}
	f.stopped()
	f.start()
	if n := posted(numbers(102, 111)...); n != 0 {
		t.Errorf("delivered to %d after a restart", n)
	}
	f.follow(author, false, 4, 102)
	f.reports(14)
	reached(numbers(103, 111)...)
	f.Until("the end of it is stated", func() bool { return slices.Equal(f.tiers(author), []bool{true, false}) })

	f.stopped()
	f.tree.PullAbove = 3
	f.start()
	if n := posted(numbers(103, 111)...); n != 0 {
		t.Errorf("above another limit, with readers who know, and delivered to %d", n)
	}
	f.Until("it is stated anew", func() bool { return slices.Equal(f.tiers(author), []bool{true, false, true}) })
	f.stopped()
	f.tree = fanout.Tree{PageSize: 2}
	f.start()
	reached(numbers(103, 111)...)
}

// Until the statement has been acknowledged for the slack, posts are delivered.
func TestFanoutDeliversWhileReadersMayNotKnow(t *testing.T) {
	const author = freshet.Number(7)
	f := newFixture(t)
	f.tree.PullAbove, f.slack = 2, time.Hour
	f.start()
	f.follow(author, true, 1, 100, 101, 102)
	f.reports(3)
	for post := range freshet.PostID(5) {
		f.committed(f.post(author, 9001+post))
	}
	if got := f.tiers(author); !slices.Equal(got, []bool{true}) {
		t.Errorf("the tier was stated as %v, want pull", got)
	}
	f.Until("all posts are delivered", func() bool { return len(f.logged(100)) == 5 && len(f.logged(102)) == 5 })
}
