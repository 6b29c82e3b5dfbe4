package fanout

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"freshet"
)

// population is accounts whose paths part early and some whose paths part late.
var population = slices.Concat(
	onBranches(8, 3, 1), onBranches(4, 3), onBranches(1, 0), onBranches(2, 5), onBranches(1, 6),
)

func drawNetwork(t *rapid.T) *network {
	return newNetwork(t, rapid.IntRange(1, 4).Draw(t, "page size"), rapid.Uint64().Draw(t, "seed"))
}

// history follows, unfollows and posts between moves of the network.
func (n *network) history(moves int, failures ...func(key string)) {
	for i := range moves {
		switch what := n.pick(0, 9); {
		case what < 2:
			f := population[n.pick(0, len(population)-1)]
			n.follow(State{Follower: f, Follows: n.pick(0, 2) > 0, Version: int64(i)})
		case what == 2:
			n.post(freshet.PostID(i + 1))
		default:
			n.move(failures...)
		}
	}
}

func (n *network) checkDeliveries(exactly bool) {
	for post := range n.decided {
		for _, f := range n.decided[post] {
			if count := n.got[post][f]; count == 0 || exactly && count > 1 {
				n.Fatalf("post %d came to %d %d times", post, f, count)
			}
		}
		if exactly && len(n.got[post]) != len(n.decided[post]) {
			n.Fatalf("post %d was for %v, came to %v", post, n.decided[post], n.got[post])
		}
	}
}

func (n *network) checkFollowers() {
	want := n.following(len(n.sites[root.Key()].inputs[fromFollows].messages))
	if got := n.reachable(root); !slices.Equal(got, want) {
		n.Fatalf("the tree holds %v, want %v", got, want)
	}
}

func TestMessagesInOrderMakeTheTreeExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawNetwork(t)
		n.history(rapid.IntRange(1, 1000).Draw(t, "moves"))
		n.settle()
		n.checkFollowers()
		n.checkDeliveries(true)
	})
}

func TestMessagesThatComeAgainChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawNetwork(t)
		n.history(rapid.IntRange(1, 1000).Draw(t, "moves"), n.again)
		n.settle()
		n.checkFollowers()
		n.checkDeliveries(false)
	})
}

// A crash keeps effects whose cause is forgotten, and loses effects whose cause is kept. Nobody who follows is missing
// or misses a post. A follower may be on two pages, or be left behind below a child that was reopened after it had
// unfollowed; saying again what is so puts the latter right, and that nobody follows empties the tree.
func TestCrashesLoseNoFollowerAndNoPost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawNetwork(t)
		n.history(rapid.IntRange(1, 1000).Draw(t, "moves"), n.crash, n.again)
		n.settle()
		n.checkDeliveries(false)
		want := n.following(len(n.sites[root.Key()].inputs[fromFollows].messages))
		found := slices.Compact(n.reachable(root))
		for _, f := range want {
			if !slices.Contains(found, f) {
				t.Fatalf("%d follows and is on no page that the root knows of: %v", f, found)
			}
		}
		for i, f := range population {
			n.follow(State{Follower: f, Follows: slices.Contains(want, f), Version: int64(1000 + i)})
		}
		n.settle()
		if got := slices.Compact(n.reachable(root)); !slices.Equal(got, want) {
			t.Fatalf("told again, the tree holds %v, want %v", got, want)
		}
		for i, f := range population {
			n.follow(no(f, int64(2000+i)))
		}
		n.settle()
		n.checkFollowers()
	})
}

// Told again that it follows, a follower stays on its page, although the child on its path is open by now. If the page
// let go of it and told the child, a crash could keep the page without it, lose the message to the child, and let a
// post come again between the two.
func TestFollowerThatIsToldAgainDoesNotMissAPost(t *testing.T) {
	n := newNetwork(t, 1, 0)
	line := onBranches(3, 3, 1)
	for i, f := range line {
		n.follow(yes(f, int64(i)))
	}
	n.settle()
	middle := n.sites["7/3"]
	if !middle.node.Holds(line[1]) || !middle.node.Opened(1) {
		t.Fatalf("want the second follower in the middle and the third below: %+v", middle.node)
	}
	middle.inputs[fromLoop].committed = middle.inputs[fromLoop].pos
	n.post(100)
	n.step("7", fromPosts)
	n.follow(yes(line[1], 1))
	n.step("7", fromFollows)
	n.send("7", "7/3", -1)
	n.step("7/3", fromLoop)
	n.step("7/3", fromLoop)
	// The row that the middle wrote last is kept, and what it sent is lost.
	middle.pending = nil
	middle.inputs[fromLoop].pos = middle.inputs[fromLoop].committed
	n.settle()
	n.checkDeliveries(false)
}
