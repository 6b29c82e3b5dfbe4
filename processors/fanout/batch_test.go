package fanout_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
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
