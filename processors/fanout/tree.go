// Package fanout keeps the followers of every author and brings the author's posts to them.
//
// An author's followers are a tree of pages, so that no row grows with the audience and a large one spreads over all
// partitions. Everything that concerns an author enters at the root and goes down the same edges, so every node sees
// follows and posts in the order that the root decided:
//
//	follower yes/no ─▶ root "A" ─▶ "A/3" ─▶ "A/3/5"   down, towards the follower's page
//	post            ─▶ root "A" ─▶ every open child     down, to every page
//	subtotals          root "A" ◀─ "A/3" ◀─ "A/3/5"   up, after each change
//
// The files:
//
//	address.go  which node: keys, and the path of a follower
//	node.go     the row of a node
//	tree.go     the rules: a node and a message in, a node and effects out
//	tiers.go    which authors' posts are pulled by their readers instead of delivered
//
// What is easy to get wrong:
//
//   - A follower that a page holds stays on that page until it is removed, even when the child on its path is opened
//     later. Were it moved, a crash between the page that let go and the child that takes could lose it a post.
//   - A removal goes down to the end of the follower's path, also past a page that held the follower: after a crash a
//     follower can be on two pages of its path (the child was told, but the parent's row that says so was lost, and
//     when the message came again there was room in the parent). One delivery too many does no harm; a follower that
//     could never be removed would.
//   - Every message may come again and must have its effects again, since the first ones may not have got out.
package fanout

import (
	"slices"

	"freshet"
)

// DefaultPageSize is how many followers a page holds before it opens a child: a few kilobytes, delivered in one step.
const DefaultPageSize = 1024

// Above exactTotal a subtotal is only told when it has moved by 1/subtotalSteps.
const (
	exactTotal    = 1_000_000
	subtotalSteps = 100
)

// Tree is the rules of follower trees: pure functions of a node and a message, safe for concurrent use. None keeps or
// changes what it is given. A node that a message leaves as it was is returned itself, and Effects.Changed is false.
type Tree struct {
	// PageSize is how many followers a page takes before it opens children; DefaultPageSize if it isn't positive. It may
	// change between runs: fuller pages stay as they are.
	PageSize int
	// PullAbove is how many followers an author may have before its posts are no longer delivered but pulled; 0: they are
	// always delivered. It may change between runs: each author is judged anew at its next post.
	PullAbove uint64
}

// State says whether the follower follows the author now. Version is the offset in the follows topic of the event that
// made it so.
type State struct {
	Follower freshet.Number
	Follows  bool
	Version  int64
}

// LoopKind says which fields of a LoopMessage are set.
type LoopKind byte

// The kinds of LoopMessage.
const (
	LoopFollower LoopKind = iota + 1 // State
	LoopDeliver                      // Post
	LoopSubtotal                     // Child, Subtotal
)

// LoopMessage is from a node to its parent or to a child of it.
type LoopMessage struct {
	To       Address
	Kind     LoopKind
	State    State
	Post     freshet.PostID
	Child    byte   // the child that speaks
	Subtotal uint64 // followers in the child's subtree
}

// Report tells the follower's row what the followee's tree holds after the State with this Version.
type Report struct {
	Follower, Followee freshet.Number
	Held               bool
	Version            int64
}

// Delivery is a post for the feeds of a page's followers.
type Delivery struct {
	Author    freshet.Number
	Post      freshet.PostID
	Followers []freshet.Number
}

// Stats is what the root knows of an author. Up to a million followers are counted exactly, more to about 1%; after a
// crash a follower can be counted twice until it unfollows.
type Stats struct {
	Author           freshet.Number
	Followers, Posts uint64
}

// Effects is what has to happen besides writing the node.
type Effects struct {
	// Changed: the node differs from the one given and has to be written.
	Changed bool
	// Loop is to be sent in this order.
	Loop []LoopMessage
	// Opening: Loop is to be sent only once all that was handed to the writer before is in Redis. It is set where a child
	// is opened: posts of before do not go there, so a follower that is sent down would be reported as held by a child
	// that knows nothing of them, while they are in neither outbox nor feed.
	Opening bool
	// Report is set where a State ends. It is to be sent once the node is written and all that was handed to the writer
	// before is in Redis.
	Report *Report
	// Deliver is set by deliveries to a page that isn't empty.
	Deliver *Delivery
	// Stats is set at the root when it may have changed.
	Stats *Stats
	// Tier is what readers have to be told of the author, set at the root; see tiers.go.
	Tier *freshet.Tier
}

// Loop handles a message of the loop at m.To. A kind that isn't known does nothing.
func (t Tree) Loop(n *Node, m LoopMessage) (*Node, Effects) {
	switch m.Kind {
	case LoopFollower:
		return t.Follower(m.To, n, m.State)
	case LoopDeliver:
		return n, t.Deliver(m.To, n, m.Post)
	case LoopSubtotal:
		return t.Subtotal(m.To, n, m.Child, m.Subtotal)
	}
	return n, Effects{}
}

// Follower makes the subtree hold the follower or not, as the State says. Where it isn't passed on it ends: with a
// report, and with the subtotal told to the parent whether or not it has changed.
func (t Tree) Follower(at Address, n *Node, s State) (*Node, Effects) {
	child, deeper := at.Branch(s.Follower)
	passOn := deeper && n.Opened(child)
	here := n.Holds(s.Follower)
	switch {
	case s.Follows && here, !s.Follows && !here && !passOn: // as it should be already
		return end(at, n, n, s)
	case here && !passOn:
		return end(at, n, n.without(s.Follower), s)
	case here: // to be gone from this page, and from those below
		next, e := restate(at, n, n.without(s.Follower))
		e.Loop = append(e.Loop, down(at, child, s))
		return next, e
	case passOn:
		return n, Effects{Loop: []LoopMessage{down(at, child, s)}}
	case !deeper || n.size() < t.pageSize():
		return end(at, n, n.with(s.Follower), s)
	}
	return n.opening(child), Effects{Changed: true, Opening: true, Loop: []LoopMessage{down(at, child, s)}}
}

// Deliver hands the post to the followers of the page and on to every open child. It changes no node.
func (t Tree) Deliver(at Address, n *Node, post freshet.PostID) Effects {
	var e Effects
	if n == nil {
		return e
	}
	if len(n.Followers) > 0 {
		e.Deliver = &Delivery{Author: at.Author, Post: post, Followers: slices.Clone(n.Followers)}
	}
	if n.Open != 0 && len(at.Path) < MaxDepth {
		e.Loop = make([]LoopMessage, 0, Children)
		for child := byte(0); child < Children; child++ {
			if n.Opened(child) {
				e.Loop = append(e.Loop, LoopMessage{To: at.Child(child), Kind: LoopDeliver, Post: post})
			}
		}
	}
	return e
}

// Subtotal notes how many followers a child's subtree holds and tells the parent of this node. A child that speaks has
// been opened: if the row that said so was lost, it is opened again. Children that cannot be are ignored.
func (t Tree) Subtotal(at Address, n *Node, child byte, followers uint64) (*Node, Effects) {
	if child >= Children || len(at.Path) >= MaxDepth {
		return n, Effects{}
	}
	if n.Opened(child) && n.Subtotals[child] == followers {
		return restate(at, n, n)
	}
	next := n.opening(child)
	next.Subtotals[child] = followers
	return restate(at, n, next)
}

// rememberedDeletes is how many deleted posts a root remembers: a kilobyte. The API writes no delete of a post that
// Redis or the post store knows to be deleted, so a second one comes of requests at the same time, or within the time
// for which the post store is behind and Redis has lost the tombstone.
const rememberedDeletes = 128

// Post counts, at the root, an event of the posts topic: a post more, a post less, or an edit, which changes nothing.
// An offset counts once, so the log may be read again from any place. A post's deletes count once as long as
// fewer than rememberedDeletes other posts of the author are deleted between two of them; after that many, one more
// delete makes the count one too low. Replayed copies of events are not to be counted: their offsets are those of
// another topic.
func (t Tree) Post(author freshet.Number, n *Node, e freshet.PostEvent, offset int64) (*Node, Effects) {
	at := Address{Author: author}
	if e.Kind != freshet.PostCreated && e.Kind != freshet.PostDeleted {
		return n, Effects{}
	}
	if n != nil && (offset < n.NextPost || e.Kind == freshet.PostDeleted && slices.Contains(n.Deleted, e.Post.ID)) {
		return restate(at, n, n)
	}
	next := n.clone()
	next.NextPost = offset + 1
	if e.Kind == freshet.PostCreated {
		next.Posts++
		return restate(at, n, next)
	}
	if next.Posts > 0 {
		next.Posts--
	}
	kept := next.Deleted[max(0, len(next.Deleted)-rememberedDeletes+1):]
	next.Deleted = append(slices.Clone(kept), e.Post.ID)
	return restate(at, n, next)
}

// Restate tells the parent again what this subtree holds, for a pass in the background over all nodes: whatever the
// parent has lost of it, the child's being open included, is then put right. At the root it gives Stats, and Tier.
// known is as in PostRecord.
func (t Tree) Restate(at Address, n *Node, known bool) (*Node, Effects) {
	next, tier := n, (*freshet.Tier)(nil)
	if at.Root() {
		next, tier = retold(at.Author, n, known)
	}
	next, e := restate(at, n, next)
	e.Tier = tier
	return next, e
}

func (t Tree) pageSize() int {
	if t.PageSize > 0 {
		return t.PageSize
	}
	return DefaultPageSize
}

func down(at Address, child byte, s State) LoopMessage {
	return LoopMessage{To: at.Child(child), Kind: LoopFollower, State: s}
}

func end(at Address, before, after *Node, s State) (*Node, Effects) {
	next, e := restate(at, before, after)
	e.Report = &Report{Follower: s.Follower, Followee: at.Author, Held: s.Follows, Version: s.Version}
	return next, e
}

// restate tells the parent the total of after, a changed copy of before or before itself. A total above exactTotal that
// a message moved by less than 1% is kept back; a message that moved nothing may be one that comes again, so what was
// last told is told again.
func restate(at Address, before, after *Node) (*Node, Effects) {
	e := Effects{Changed: before != after}
	total := after.Total()
	parent, branch, ok := at.Parent()
	if !ok {
		e.Stats = &Stats{Author: at.Author, Followers: total}
		if after != nil {
			e.Stats.Posts = after.Posts
		}
		return after, e
	}
	reported := uint64(0)
	if after != nil {
		reported = after.Reported
	}
	if total != reported {
		moved := max(total, reported) - min(total, reported)
		switch {
		case total <= exactTotal || moved >= reported/subtotalSteps:
			if !e.Changed {
				after, e.Changed = after.clone(), true
			}
			after.Reported, reported = total, total
		case total != before.Total():
			return after, e
		}
	}
	e.Loop = []LoopMessage{{To: parent, Kind: LoopSubtotal, Child: branch, Subtotal: reported}}
	return after, e
}
