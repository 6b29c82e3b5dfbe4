package fanout

import (
	"testing"
	"time"

	"freshet"
)

// withFollowers is a root that counts so many followers.
func withFollowers(n *Node, followers uint64) *Node {
	c := n.clone()
	c.Open, c.Subtotals = 1, [Children]uint64{followers}
	return c
}

func TestTierChangesAboveTheLimitAndAFifthBelow(t *testing.T) {
	for _, test := range []struct{ limit, enters, leaves uint64 }{
		{10_000, 10_001, 8_000}, {10, 11, 8}, {9, 10, 7}, {5, 6, 4}, {4, 5, 3}, {1, 2, 0}, {3_000_000, 3_000_001, 2_400_000},
	} {
		tree := Tree{PullAbove: test.limit}
		pulls := func(pulled bool, followers uint64) bool {
			n := withFollowers(nil, followers)
			n.Tier.Pull = pulled
			return tree.pulls(n)
		}
		if pulls(false, test.enters-1) || !pulls(false, test.enters) {
			t.Errorf("limit %d: want an author pulled from %d followers on", test.limit, test.enters)
		}
		if !pulls(true, test.leaves+1) || pulls(true, test.leaves) {
			t.Errorf("limit %d: want an author pulled down to %d followers", test.limit, test.leaves+1)
		}
	}
	if (Tree{}).pulls(withFollowers(&Node{Tier: Tier{Pull: true}}, 1<<40)) || (Tree{PullAbove: 1}).pulls(nil) {
		t.Error("without a limit, and without a follower, nobody is pulled")
	}
}

// created is the record of a new post.
func created(post freshet.PostID, known bool) PostRecord {
	return PostRecord{Event: event(freshet.PostCreated, post), Offset: int64(post), Known: known}
}

// The whole life of a tier: what is delivered, what is stated, and what the root keeps.
func TestTierOfAnAuthorAtEachPost(t *testing.T) {
	tree := Tree{PullAbove: 10}
	root := page(1, 2, 3)
	for i, step := range []struct {
		followers uint64 // beside the page
		limit     uint64
		known     bool
		push      bool
		tier      Tier
	}{
		{5, 10, false, true, Tier{}},
		{8, 10, false, true, Tier{Pull: true, Ever: true}}, // stated, and delivered still
		{8, 10, false, true, Tier{Pull: true, Ever: true}},
		{8, 10, true, false, Tier{Pull: true, Ever: true, Merged: true}},
		{8, 10, false, false, Tier{Pull: true, Ever: true, Merged: true}}, // also after a restart
		{6, 10, false, false, Tier{Pull: true, Ever: true, Merged: true}},
		{5, 10, false, true, Tier{Ever: true, Merged: true}}, // a fifth is gone
		{7, 10, false, true, Tier{Ever: true, Merged: true}},
		{9, 10, false, false, Tier{Pull: true, Ever: true, Merged: true}}, // they merge it already
		{9, 20, false, true, Tier{Ever: true, Merged: true}},              // another limit, from the next post on
		{9, 11, false, false, Tier{Pull: true, Ever: true, Merged: true}},
		{9, 0, false, true, Tier{Ever: true, Merged: true}}, // never
	} {
		tree.PullAbove = step.limit
		before := withFollowers(root, step.followers)
		kept := before.clone()
		next, out := tree.OnPost(author, before, created(freshet.PostID(i+1), step.known))
		if next.Tier != step.tier || before.Tier != kept.Tier || !out.Changed {
			t.Fatalf("step %d: tier %+v, want %+v; changed %v", i, next.Tier, step.tier, out.Changed)
		}
		want := freshet.Tier{Author: author, Pull: step.tier.Pull, Ever: true}
		if (out.Tier != nil) != step.tier.Ever || out.Tier != nil && *out.Tier != want {
			t.Fatalf("step %d: stated %+v, want %+v if ever pulled", i, out.Tier, want)
		}
		delivered := len(out.Delivery.Followers) == 3 && len(out.Loop) == 1
		if delivered != step.push || !step.push && len(out.Delivery.Followers)+len(out.Loop) > 0 {
			t.Fatalf("step %d: delivered to %v and %d children, want so: %v", i, out.Delivery.Followers, len(out.Loop),
				step.push)
		}
		if out.Delivery.Post != freshet.PostID(i+1) || out.Delivery.Body == nil {
			t.Fatalf("step %d: the outbox and the body are left out: %+v", i, out.Delivery)
		}
		// The same message again does the same again.
		repeated, again := tree.OnPost(author, next, created(freshet.PostID(i+1), false))
		if repeated.Tier != next.Tier || (again.Tier != nil) != step.tier.Ever ||
			(len(again.Loop) > 0) != step.push {
			t.Fatalf("step %d: redelivered: %+v, stated %v, loop %v", i, repeated.Tier, again.Tier, again.Loop)
		}
		root = next
		root.Open, root.Subtotals = 0, [Children]uint64{}
	}
}

// Deletes and edits are nobody's next post, and a replayed post comes as the tier is now.
func TestOnlyPostsAreJudged(t *testing.T) {
	tree := Tree{PullAbove: 1}
	n := page(1, 2, 3)
	for _, kind := range []freshet.PostEventKind{freshet.PostEdited, freshet.PostDeleted} {
		next, out := tree.OnPost(author, n, PostRecord{Event: event(kind, 1), Offset: 1})
		if next.Tier != (Tier{}) || out.Tier != nil {
			t.Errorf("kind %d: %+v", kind, next.Tier)
		}
	}
	n.Tier = Tier{Pull: true, Ever: true, Merged: true}
	replayed := created(1, false)
	replayed.Replayed = true
	next, out := tree.OnPost(author, n, replayed)
	if next != n || len(out.Delivery.Followers) > 0 || out.Tier == nil {
		t.Errorf("a replay of a pulled author's post: %+v, %+v", next.Tier, out)
	}
}

// A sweep states the tier again, and notes that everybody knows although the author does not post.
func TestSweepStatesTheTier(t *testing.T) {
	tree := Tree{PullAbove: 1}
	n := page(1, 2, 3)
	if next, e := tree.Restate(root, n, true); next != n || e.Tier != nil {
		t.Errorf("of an author who was never pulled: %+v", e.Tier)
	}
	n.Tier = Tier{Pull: true, Ever: true}
	next, e := tree.Restate(root, n, true)
	if !e.Changed || !next.Tier.Merged || n.Tier.Merged || e.Tier == nil || !e.Tier.Pull {
		t.Errorf("%+v, %+v", next.Tier, e)
	}
	if next, e := tree.Restate(root.Child(1), page(4), true); next.Tier != (Tier{}) || e.Tier != nil {
		t.Errorf("below the root: %+v", e.Tier)
	}
}

func TestAnnouncementsAreKnownAfterTheSlack(t *testing.T) {
	now := time.Now()
	a := NewAnnouncements(10*time.Second, func() time.Time { return now })
	if a.Known(author) {
		t.Error("known before it is acknowledged")
	}
	now = now.Add(time.Hour) // since the post that stated it
	a.Acknowledged(author)
	now = now.Add(10*time.Second - 1)
	a.Acknowledged(author) // a later statement begins nothing anew
	if a.Known(author) {
		t.Error("known too soon")
	}
	now = now.Add(1)
	if !a.Known(author) || a.Known(author+1) {
		t.Error("want this author known, and no other")
	}
	a.Forget(author)
	if a.Known(author) {
		t.Error("forgotten, and known")
	}
}
