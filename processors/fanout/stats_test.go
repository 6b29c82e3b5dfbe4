package fanout

import (
	"slices"
	"testing"
)

// TestStatsStatedLast: a post waits for Redis while a follower that came later does not. What the post stated is older
// than what was written meanwhile, and must not be written after it.
func TestStatsStatedLast(t *testing.T) {
	b := newBoard()
	ignore := func(error) {}
	const session, author = 1, 7
	take := func(want ...Stats) {
		t.Helper()
		taken, _ := b.take()
		if got := statsOf(taken); !slices.Equal(got, want) {
			t.Errorf("to be written: %v, want %v", got, want)
		}
	}

	b.state(session, nil, Stats{Author: author, Followers: 5, Posts: 1}) // the post
	b.state(session, nil, Stats{Author: author, Followers: 6, Posts: 1}) // the follower
	b.post(session, author, ignore)
	latest := Stats{Author: author, Followers: 6, Posts: 1}
	take(latest)
	take()
	b.post(session, author, ignore) // the post, at last
	take(latest)
	take()
	if len(b.authors) != 0 {
		t.Errorf("kept though nothing is in flight: %v", b.authors)
	}
}

func statsOf(taken []posting) (stats []Stats) {
	for _, p := range taken {
		stats = append(stats, p.Stats)
	}
	return stats
}

// TestStatsOfEndedSessions: messages of a session that has ended are never followed up, and do not stay in the board.
func TestStatsOfEndedSessions(t *testing.T) {
	b := newBoard()
	b.state(1, nil, Stats{Author: 1, Followers: 1})
	b.state(1, nil, Stats{Author: 2, Followers: 1})
	b.post(1, 2, func(error) {})
	b.state(2, nil, Stats{Author: 2, Followers: 2})
	if _, kept := b.authors[1]; kept {
		t.Error("an author whose messages come again is kept")
	}
	taken, waiters := b.take()
	latest := statsOf(taken)
	if want := []Stats{{Author: 2, Followers: 2}}; !slices.Equal(latest, want) || len(waiters) != 1 {
		t.Errorf("to be written: %v for %d, want %v for 1", latest, len(waiters), want)
	}
}
