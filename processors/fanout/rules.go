package fanout

import (
	"freshet"
	"freshet/internal/feeds"
)

// PostRecord is a record of posts, or a copy of one in replays.
type PostRecord struct {
	Event freshet.PostEvent
	// Offset is that of the record in posts, also of a copy.
	Offset int64
	// Replayed: a copy. It is delivered again, but was counted before.
	Replayed bool
	// Body is what Redis keeps of the post until the post store has it; Token is the zone's token at the moment.
	Body  []byte
	Token string
	// Stored: the post store has the post, as it was after this record.
	Stored bool
	// Late: a creation that was saved first and came so late that its author may have edited it, and Redis lost the edit,
	// since it was published for the first time. Its body is left to the post store, which knows what ranks higher.
	Late bool
	// Known: it was acknowledged so long ago that the author is or was pulled that every reader knows; see Announcements.
	Known bool
}

// Outcome is what a message has to do, in this order: the node is written if it changed; Loop is sent; Delivery goes to
// the writer. The message is finished when the table, the loop and Redis have acknowledged; with a Report, also all
// that was handed to the writer before. Then Report, Stats and Tier are sent, and when they are acknowledged the
// message is released.
type Outcome struct {
	Effects
	Delivery *feeds.Delivery
}

// OnPost is the rule for posts and replays at the root: judge the author's tier, count, deliver. A post that comes
// again is delivered as the author's tier is now; one that is pulled goes to the outbox only.
func (t Tree) OnPost(author freshet.Number, n *Node, r PostRecord) (*Node, Outcome) {
	root, before := Address{Author: author}, n
	out := Outcome{Delivery: &feeds.Delivery{Kind: r.Event.Kind, Author: author, Post: r.Event.Post.ID}}
	var tier *freshet.Tier
	if r.Event.Kind == freshet.PostCreated {
		var push bool
		if n, tier, push = t.tier(author, n, r.Known); push {
			out.Effects = t.Deliver(root, n, r.Event.Post.ID)
			out.deliver(author, r.Event.Post.ID)
		}
	}
	out.Tier = tier
	if r.Event.Kind != freshet.PostDeleted && !r.Late && (!r.Stored || r.Event.Kind == freshet.PostEdited) {
		// The store has the rest. A body written after the store has passed the post could bring a deleted one back: its
		// tombstone may have expired. But an edit replaces the text that is still in Redis.
		out.Delivery.Body = &feeds.PutBody{
			Post: r.Event.Post.ID, Token: r.Token, Offset: r.Event.Rank(r.Offset), Body: r.Body, Replace: r.Stored,
		}
	}
	if !r.Replayed {
		var effects Effects
		n, effects = t.Post(author, n, r.Event, r.Offset)
		out.Stats = effects.Stats
	}
	out.Changed = n != before
	return n, out
}

// OnFollower is the rule for followers: the state enters at the root.
func (t Tree) OnFollower(author freshet.Number, n *Node, s State) (*Node, Outcome) {
	n, effects := t.Follower(Address{Author: author}, n, s)
	return n, Outcome{Effects: effects}
}

// OnLoop is the rule for the loop. A delivery writes the author's outbox also where the page is empty: a follower that
// this node reports next relies on the outbox for every post that the node saw before.
func (t Tree) OnLoop(n *Node, m LoopMessage) (*Node, Outcome) {
	n, effects := t.Loop(n, m)
	out := Outcome{Effects: effects}
	if m.Kind == LoopDeliver {
		out.deliver(m.To.Author, m.Post)
		out.Delivery.Large = true
	}
	return n, out
}

func (o *Outcome) deliver(author freshet.Number, post freshet.PostID) {
	if o.Delivery == nil {
		o.Delivery = &feeds.Delivery{Kind: freshet.PostCreated, Author: author, Post: post}
	}
	if o.Deliver != nil {
		o.Delivery.Followers = o.Deliver.Followers
	}
}
