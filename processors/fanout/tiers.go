package fanout

import (
	"sync"
	"time"

	"freshet"
)

// Tier is what the root keeps of how the author's posts come to its followers. Posts of an author with more than
// Tree.PullAbove followers go to its outbox only, and readers merge that: they are pulled. Fewer followers get them
// down the tree, from the root in one step as long as its page holds them all.
//
// Readers merge the outboxes of all authors that are or ever were pulled, because what was not delivered then is
// missing from their feeds for good. So an author who is stated to be pulled is merged for ever, and what matters is
// that no post is kept back before everybody merges: an author is pulled in two steps. First it is stated; posts are
// still delivered. When the statement has been acknowledged for freshet.PullSlack, every reader either knows of it or
// says that its pages are not complete (package views); from then on posts are not delivered.
type Tier struct {
	// Pull: the author is above the limit.
	Pull bool
	// Ever: it is, or was at some time, and this has been stated.
	Ever bool
	// Merged: every reader merges the author's outbox. It never ends.
	Merged bool
}

// pulls decides, at a post, whether the author is pulled from now on. Who is pulled stays so until a fifth of the limit
// is gone, so that nobody goes back and forth with each follower. Above a million, followers are counted to about 1%.
func (t Tree) pulls(n *Node) bool {
	followers, limit := n.Total(), t.PullAbove
	switch {
	case limit == 0:
		return false
	case n != nil && n.Tier.Pull:
		return followers > limit-limit/5-min(limit%5, 1)
	}
	return followers > limit
}

// tier is the rule for tiers at a post. push says whether the post is delivered. known is as in PostRecord.
func (t Tree) tier(author freshet.Number, n *Node, known bool) (next *Node, statement *freshet.Tier, push bool) {
	next = n
	if pull := t.pulls(n); n == nil && pull || n != nil && pull != n.Tier.Pull {
		next = n.clone()
		next.Tier.Pull = pull
		next.Tier.Ever = next.Tier.Ever || pull
	}
	next, statement = retold(author, next, known)
	return next, statement, next == nil || !next.Tier.Pull || !next.Tier.Merged
}

// retold states the tier of an author that was ever pulled, again and again, since the last statement may not have got
// out; and it notes that everybody knows.
func retold(author freshet.Number, n *Node, known bool) (*Node, *freshet.Tier) {
	if n == nil || !n.Tier.Ever {
		return n, nil
	}
	if known && !n.Tier.Merged {
		n = n.clone()
		n.Tier.Merged = true
	}
	return n, &freshet.Tier{Author: author, Pull: n.Tier.Pull, Ever: true}
}

// Announcements remembers since when it is acknowledged, to this process, that authors are pulled. Nothing that it says
// ever becomes wrong, so it needs no care when partitions move; what a process forgets when it ends costs further
// deliveries, until a statement has been acknowledged for long enough again. It keeps a few words for each author that
// was stated here and is not Merged yet. It is safe for concurrent use.
type Announcements struct {
	slack time.Duration
	now   func() time.Time
	mu    sync.Mutex
	since map[freshet.Number]time.Time
}

// NewAnnouncements needs freshet.PullSlack and time.Now; a simulation has its own.
func NewAnnouncements(slack time.Duration, now func() time.Time) *Announcements {
	return &Announcements{slack: slack, now: now, since: map[freshet.Number]time.Time{}}
}

// Acknowledged notes that a statement about the author is in the log.
func (a *Announcements) Acknowledged(author freshet.Number) {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.since[author]; !ok {
		a.since[author] = now
	}
}

// Known says that a statement about the author was acknowledged so long ago that every reader knows of it.
func (a *Announcements) Known(author freshet.Number) bool {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	since, ok := a.since[author]
	return ok && now.Sub(since) >= a.slack
}

// Forget drops an author that is Merged.
func (a *Announcements) Forget(author freshet.Number) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.since, author)
}
