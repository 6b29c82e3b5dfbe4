package fanout_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// Followers that come together are put on their pages together; each is reported, and the last word about each counts.
func TestFollowersThatComeTogether(t *testing.T) {
	const author = freshet.Number(7)
	f := newFixture(t)
	followers := numbers(1000, 1600)
	gone := map[freshet.Number]bool{1000: true, 1300: true, 1599: true}
	f.follow(author, true, 5, followers...)
	f.follow(author, false, 6, 1000, 1300, 1599)
	f.start()
	reports := f.reports(len(followers) + len(gone))
	for _, follower := range followers {
		r, version := reports[follower], int64(5)
		if gone[follower] {
			version = 6
		}
		if r.GetFollowee() != uint64(author) || r.GetHeld() == gone[follower] || r.GetVersion() != version {
			t.Errorf("%d: reported %v", follower, r)
		}
	}
	f.Until("the root counts them", func() bool {
		var stats events.Stats
		all := f.Read(f.Names.Topic(freshet.Stats), 1)
		if err := proto.Unmarshal(all[len(all)-1].Value, &stats); err != nil {
			t.Fatal(err)
		}
		return stats.GetFollowers() == uint64(len(followers)-len(gone))
	})
}

// Posts of an author that wait together are each delivered, but the author's row is not written for each. One that
// cannot be processed is the only one that becomes a dead letter.
func TestPostsThatComeTogether(t *testing.T) {
	const author, posts = freshet.Number(7), 200
	f := newFixture(t)
	f.start()
	f.follow(author, true, 1, 100)
	f.reports(1)
	wait := func(from freshet.PostID, poison bool) {
		f.stopped()
		for id := from; id < from+posts; id++ {
			if poison && id == from+posts/2 {
				f.Put(f.record(freshet.Posts, author, []byte{8, 1, 16, 5, 24, 6})) // a post of account 6
			}
			f.post(author, id)
		}
		f.health = &kafka.Health{}
		f.start()
	}
	delivered := func(count int) {
		t.Helper()
		f.Until("the posts are delivered", func() bool { return len(f.logged(100)) == count })
		f.Until("the posts are counted, each once", func() bool {
			var stats events.Stats
			all := f.Read(f.Names.Topic(freshet.Stats), 1)
			if err := proto.Unmarshal(all[len(all)-1].Value, &stats); err != nil {
				t.Fatal(err)
			}
			return stats.GetPosts() == uint64(count)
		})
	}
	before := f.rows()
	wait(9000, false)
	delivered(posts)
	// One row would do, and fences; but a fetch may end anywhere.
	if written := f.rows() - before; written > posts/4 {
		t.Errorf("%d rows were written for %d posts", written, posts)
	}
	wait(9000+posts, true)
	delivered(2 * posts)
	if letters := f.Read(f.Names.Topic(freshet.DeadLetters), 1); len(letters) != 1 {
		t.Errorf("%d dead letters, want 1", len(letters))
	}
}

// rows is how often rows of the table were written.
func (f *fixture) rows() (rows int64) {
	f.Helper()
	lookup, err := kafka.NewLookup(f.Brokers)
	if err != nil {
		f.Fatal(err)
	}
	defer lookup.Close()
	ends, err := lookup.Ends(f.Context(), f.Names.Table(freshet.FanoutGroup))
	if err != nil {
		f.Fatal(err)
	}
	for _, end := range ends {
		rows += end
	}
	return rows
}
