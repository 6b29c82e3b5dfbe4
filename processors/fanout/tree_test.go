package fanout

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"freshet"
)

const author = freshet.Number(7)

var root = Address{Author: author}

func yes(f freshet.Number, version int64) State {
	return State{Follower: f, Follows: true, Version: version}
}
func no(f freshet.Number, version int64) State { return State{Follower: f, Version: version} }

// onBranches finds count numbers whose paths begin with these branches.
func onBranches(count int, branches ...byte) []freshet.Number {
	var found []freshet.Number
	for n := freshet.Number(0); len(found) < count; n++ {
		at, fits := root, true
		for _, branch := range branches {
			b, _ := at.Branch(n)
			fits = fits && b == branch
			at = at.Child(branch)
		}
		if fits {
			found = append(found, n)
		}
	}
	return found
}

func page(followers ...freshet.Number) *Node {
	slices.Sort(followers)
	return &Node{Followers: followers}
}

func TestFollowerTakesPassesOnAndOpens(t *testing.T) {
	tree := Tree{PageSize: 2}
	a, b, c := onBranches(3, 1)[0], onBranches(3, 1)[1], onBranches(3, 1)[2]
	other := onBranches(1, 5)[0]
	full := page(a, b)
	opened := page(a, b)
	opened.Open = 1 << 1
	roomy := page(a)
	roomy.Open = 1 << 1
	passed := func(s State) []LoopMessage {
		return []LoopMessage{{To: root.Child(1), Kind: LoopFollower, State: s}}
	}
	for _, test := range []struct {
		name    string
		node    *Node
		state   State
		page    []freshet.Number
		open    byte
		changed bool
		loop    []LoopMessage
		ends    bool
	}{
		{"an empty tree takes", nil, yes(a, 3), []freshet.Number{a}, 0, true, nil, true},
		{"room is taken", page(a), yes(b, 3), page(a, b).Followers, 0, true, nil, true},
		{"a member ends", full, yes(a, 3), full.Followers, 0, false, nil, true},
		{"a member ends though its child is open", opened, yes(a, 3), full.Followers, 2, false, nil, true},
		{"a full page opens", full, yes(c, 3), full.Followers, 2, true, passed(yes(c, 3)), false},
		{"an open child is passed to", opened, yes(c, 3), full.Followers, 2, false, passed(yes(c, 3)), false},
		{"also when there is room", roomy, yes(c, 3), []freshet.Number{a}, 2, false, passed(yes(c, 3)), false},
		{"room is for branches that are closed", roomy, yes(other, 3), page(a, other).Followers, 2, true, nil, true},
		{"a member is removed", full, no(a, 4), []freshet.Number{b}, 0, true, nil, true},
		{"a member is removed below too", opened, no(a, 4), []freshet.Number{b}, 2, true, passed(no(a, 4)), false},
		{"others are removed below", opened, no(c, 4), full.Followers, 2, false, passed(no(c, 4)), false},
		{"who is nowhere is gone already", full, no(c, 4), full.Followers, 0, false, nil, true},
		{"nobody is gone from nothing", nil, no(c, 4), nil, 0, false, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.node.clone()
			next, e := tree.Follower(root, test.node, test.state)
			if test.node != nil && !reflect.DeepEqual(before, test.node) {
				t.Fatalf("the node given was changed: %+v", test.node)
			}
			if e.Changed != test.changed || e.Changed == (next == test.node) {
				t.Errorf("changed: %v, same node: %v; want changed %v", e.Changed, next == test.node, test.changed)
			}
			got := next.clone()
			if !slices.Equal(got.Followers, test.page) || got.Open != test.open {
				t.Errorf("page %v, open %b; want %v, %b", got.Followers, got.Open, test.page, test.open)
			}
			if !reflect.DeepEqual(e.Loop, test.loop) {
				t.Errorf("loop %+v, want %+v", e.Loop, test.loop)
			}
			want := Report{test.state.Follower, author, test.state.Follows, test.state.Version}
			if (e.Report != nil) != test.ends || test.ends && *e.Report != want {
				t.Errorf("report %+v, want one: %v", e.Report, test.ends)
			}
			if test.ends && (e.Stats == nil || *e.Stats != Stats{author, uint64(len(test.page)), 0}) {
				t.Errorf("stats %+v, want %d followers", e.Stats, len(test.page))
			}
		})
	}
}

func TestLastLevelTakesWithoutLimit(t *testing.T) {
	tree, at := Tree{PageSize: 1}, Address{Author: author, Path: make([]byte, MaxDepth)}
	var n *Node
	for f := freshet.Number(0); f < 10; f++ {
		var e Effects
		n, e = tree.Follower(at, n, yes(f, 1))
		if e.Report == nil || !e.Report.Held || n.Total() != uint64(f)+1 {
			t.Fatalf("follower %d: effects %+v, total %d", f, e, n.Total())
		}
	}
	if next, e := tree.Subtotal(at, n, 3, 5); next != n || !reflect.DeepEqual(e, Effects{}) {
		t.Errorf("a subtotal of a child that cannot be: %+v", e)
	}
}

func TestDeliverGoesToThePageAndEveryOpenChild(t *testing.T) {
	tree := Tree{}
	if e := tree.Deliver(root, nil, 9); !reflect.DeepEqual(e, Effects{}) {
		t.Errorf("nobody follows: %+v", e)
	}
	n := page(1, 2, 3)
	n.Open = math.MaxUint8
	e := tree.Deliver(root, n, 9)
	if len(e.Loop) != Children {
		t.Fatalf("%d messages, want %d", len(e.Loop), Children)
	}
	for branch, m := range e.Loop {
		if !reflect.DeepEqual(m, LoopMessage{To: root.Child(byte(branch)), Kind: LoopDeliver, Post: 9}) {
			t.Errorf("message %d: %+v", branch, m)
		}
	}
	if want := (Delivery{author, 9, []freshet.Number{1, 2, 3}}); !reflect.DeepEqual(*e.Deliver, want) {
		t.Errorf("delivery %+v, want %+v", *e.Deliver, want)
	}
	e.Deliver.Followers[0] = 99
	if n.Followers[0] != 1 {
		t.Error("the delivery shares the node's page")
	}
}

func TestPostsAreCountedOnceAnOffset(t *testing.T) {
	tree := Tree{}
	var n *Node
	for i, step := range []struct {
		kind   freshet.PostEventKind
		post   freshet.PostID
		offset int64
		posts  uint64
	}{
		{freshet.PostCreated, 1, 4, 1}, {freshet.PostCreated, 1, 4, 1}, {freshet.PostCreated, 2, 9, 2},
		{freshet.PostCreated, 1, 4, 2}, {freshet.PostEdited, 1, 10, 2}, {freshet.PostDeleted, 1, 11, 1},
		{freshet.PostDeleted, 1, 11, 1}, {freshet.PostDeleted, 2, 12, 0}, {freshet.PostDeleted, 3, 13, 0},
	} {
		next, e := tree.Post(author, n, event(step.kind, step.post), step.offset)
		if next.Posts != step.posts || e.Changed != (next != n) {
			t.Fatalf("step %d: %+v, effects %+v", i, next, e)
		}
		if step.kind != freshet.PostEdited && *e.Stats != (Stats{author, 0, step.posts}) {
			t.Fatalf("step %d: stats %+v", i, *e.Stats)
		}
		n = next
	}
}

func event(kind freshet.PostEventKind, post freshet.PostID) freshet.PostEvent {
	return freshet.PostEvent{Kind: kind, Post: freshet.Post{ID: post, Author: author}}
}

// Two clients delete a post at once, or one asks again when the first answer was lost: the log has two deletes of it.
// Read again from the beginning, as after a reset of the group's offsets, or by a root that has lost its row, it comes
// to the same count.
func TestPostThatIsDeletedTwiceCountsOnce(t *testing.T) {
	const posts = rememberedDeletes + 10
	var log []freshet.PostEvent
	for post := range freshet.PostID(posts) {
		log = append(log, event(freshet.PostCreated, post))
	}
	for post := range freshet.PostID(rememberedDeletes) {
		log = append(log, event(freshet.PostDeleted, post), event(freshet.PostDeleted, post))
	}
	for post := range freshet.PostID(rememberedDeletes) {
		log = append(log, event(freshet.PostDeleted, post))
	}
	tree := Tree{}
	read := func(n *Node) *Node {
		for offset, e := range log {
			before := slices.Clone(n.clone().Deleted)
			next, _ := tree.Post(author, n, e, int64(offset))
			if n != nil && !slices.Equal(n.Deleted, before) {
				t.Fatal("the node given was changed")
			}
			n = roundTrip(t, next)
		}
		return n
	}
	first := read(nil)
	if first.Posts != posts-rememberedDeletes {
		t.Errorf("%d posts are counted, want %d", first.Posts, posts-rememberedDeletes)
	}
	if again := read(first); !reflect.DeepEqual(again, first) {
		t.Errorf("the log read again makes %+v of %+v", again, first)
	}
	// The bound: one more delete, and the post deleted first is forgotten.
	log = append(log, event(freshet.PostDeleted, rememberedDeletes))
	last := read(first)
	if len(last.Deleted) != rememberedDeletes || slices.Contains(last.Deleted, 0) || last.Posts != first.Posts-1 {
		t.Errorf("%d posts are remembered, the first among them: %v; %d posts are counted", len(last.Deleted),
			slices.Contains(last.Deleted, 0), last.Posts)
	}
}

func TestSubtotalsAreExactToAMillionAndWithinAPercentAbove(t *testing.T) {
	tree, at := Tree{}, root.Child(6)
	var n *Node
	told := func(child byte, count uint64) (uint64, bool) {
		var e Effects
		n, e = tree.Subtotal(at, n, child, count)
		if len(e.Loop) == 0 {
			return 0, false
		}
		m := e.Loop[0]
		if m.To.Key() != root.Key() || m.Kind != LoopSubtotal || m.Child != 6 || m.Subtotal != n.Reported {
			t.Fatalf("told %+v, noted %d", m, n.Reported)
		}
		return m.Subtotal, true
	}
	for i, step := range []struct {
		count, told uint64
		silent      bool
	}{
		{count: 999_999, told: 999_999}, {count: 999_998, told: 999_998}, {count: 999_998, told: 999_998},
		{count: 1_000_000, told: 1_000_000},
		{count: 1_000_001, silent: true},
		{count: 1_000_001, told: 1_000_000}, // may be the redelivery of what told 1,000,000
		{count: 1_009_999, silent: true},
		{count: 1_010_000, told: 1_010_000},
		{count: 1_000_001, silent: true},
		{count: 1_010_000, told: 1_010_000},
		{count: 1_000_000, told: 1_000_000},
		{count: math.MaxUint64, told: math.MaxUint64},
		{count: 0, told: 0},
	} {
		got, ok := told(2, step.count)
		if ok == step.silent || got != step.told {
			t.Fatalf("step %d, %d followers: told %d (%v), want %d", i, step.count, got, ok, step.told)
		}
	}
	if !n.Opened(2) {
		t.Error("a child that spoke is not open")
	}
}

// A crash in between can leave a follower on two pages of its path: the full root opened a child and the child was
// told, but the root's row came back without the open child, and when the messages since the commit came again, in
// other circumstances, there was room. The follower gets its posts, and its removal reaches both pages.
func TestFollowerOnTwoPagesIsRemovedFromBoth(t *testing.T) {
	tree := Tree{PageSize: 2}
	f, g, d, y := onBranches(2, 1)[0], onBranches(1, 2)[0], onBranches(2, 1)[1], onBranches(1, 5)[0]
	apply := func(n *Node, states ...State) (*Node, []LoopMessage) {
		var loop []LoopMessage
		for _, s := range states {
			var e Effects
			n, e = tree.Follower(root, n, s)
			loop = append(loop, e.Loop...)
		}
		return n, loop
	}
	since := []State{yes(d, 2), no(d, 3), yes(g, 4), no(f, 5), yes(f, 6)}
	durable, _ := apply(page(f), since...)
	_, lost := apply(durable, yes(y, 7))
	if len(lost) != 1 || lost[0].To.Key() != "7/5" {
		t.Fatalf("the full root passed on %+v", lost)
	}
	child, told := tree.Loop(nil, lost[0])

	again, _ := apply(durable, append(since, yes(y, 7))...)
	if !again.Holds(y) || !child.Holds(y) || again.Opened(5) {
		t.Fatalf("want %d on both pages and a root that doesn't know: root %+v, child %+v", y, again, child)
	}
	again, e := tree.Loop(again, told.Loop[0])
	if !again.Opened(5) || e.Stats.Followers != again.Total() {
		t.Fatalf("the child spoke, but the root is %+v", again)
	}
	again, e = tree.Follower(root, again, no(y, 8))
	if again.Holds(y) || len(e.Loop) != 1 || e.Report != nil {
		t.Fatalf("removed from the root: %+v, %+v", again, e)
	}
	if child, e = tree.Loop(child, e.Loop[0]); child.Holds(y) || e.Report == nil || e.Report.Held {
		t.Fatalf("removed from the child: %+v, %+v", child, e)
	}
	if _, e = tree.Loop(again, e.Loop[0]); e.Stats.Followers != 1 { // g; nothing came from child 1, where f is
		t.Errorf("%d followers, want 1", e.Stats.Followers)
	}
}

func TestAddressKeys(t *testing.T) {
	for _, key := range []string{"0", "7", "7/0", "9223372036854775807/7/0/3"} {
		a, err := ParseAddress(key)
		if err != nil || a.Key() != key {
			t.Errorf("%q: %+v, %v", key, a, err)
		}
	}
	deepest := Address{Author: 7, Path: slices.Repeat([]byte{7}, MaxDepth)}
	if a, err := ParseAddress(deepest.Key()); err != nil || !reflect.DeepEqual(a, deepest) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, key := range []string{
		"", "/", "7/", "07", "+7", "-1", "7/8", "7/01", "7//1", "7/1/", "7/1 ", "7 ", "x", "9223372036854775808",
		"7/1\x00", "7/1/9", "7/11", deepest.Child(0).Key(),
	} {
		if a, err := ParseAddress(key); err == nil {
			t.Errorf("%q was read as %+v", key, a)
		}
	}
}

// Paths are where followers lie, so they must stay what they are; and neighbouring numbers must spread evenly.
func TestPathsAreFixedAndEven(t *testing.T) {
	if got, want := mix(0), uint64(0xe220a8397b1dcdaf); got != want {
		t.Errorf("mix(0) = %#x, want %#x", got, want)
	}
	at, want := root, []byte{7, 5, 6, 6, 4, 3, 7, 0, 3, 7, 5}
	for depth, branch := range want {
		b, ok := at.Branch(0)
		if !ok || b != branch {
			t.Fatalf("the path of 0 at depth %d: %d, want %d", depth, b, branch)
		}
		at = at.Child(b)
	}
	for depth := range MaxDepth {
		var counts [Children]int
		at := Address{Path: make([]byte, depth)}
		for n := range freshet.Number(80_000) {
			b, _ := at.Branch(n)
			counts[b]++
		}
		for branch, count := range counts {
			if count < 9_500 || count > 10_500 {
				t.Errorf("depth %d: %d of 80,000 neighbours take branch %d", depth, count, branch)
			}
		}
	}
}
