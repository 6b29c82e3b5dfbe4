package views

import (
	"slices"
	"sync"

	"freshet"
	"freshet/internal/feeds"
)

// Unwritten remembers which authors have a post that this process has put into the log and that Redis did not take. A
// Redis that refuses writes may go on answering reads, and what it says of these authors must not count as complete.
// It is safe for concurrent use; nil remembers nothing.
//
// An author is forgotten when its outbox is seen to have the post. Those who never look again stay, at some 50 bytes
// each.
type Unwritten struct {
	mu     sync.RWMutex
	newest map[freshet.Number]freshet.PostID
}

// NewUnwritten makes an empty one.
func NewUnwritten() *Unwritten { return &Unwritten{newest: map[freshet.Number]freshet.PostID{}} }

// Note is called before the post is answered. An author's posts come to Redis again in the order of their ids, so the
// newest one stands for those before it.
func (u *Unwritten) Note(author freshet.Number, post freshet.PostID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.newest[author] = max(u.newest[author], post)
}

// lacks says whether the author's outbox does not have what it should.
func (u *Unwritten) lacks(author freshet.Number, outbox feeds.Outbox) bool {
	if u == nil {
		return false
	}
	u.mu.RLock()
	post, noted := u.newest[author]
	u.mu.RUnlock()
	if !noted {
		return false
	}
	if !slices.Contains(outbox.IDs, post) && post >= outbox.Floor {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.newest[author] == post {
		delete(u.newest, author)
	}
	return false
}
