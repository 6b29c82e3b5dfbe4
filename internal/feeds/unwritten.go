package feeds

import (
	"slices"
	"sync"

	"freshet"
)

// Unwritten remembers what this process has put into the log and Redis did not take: which authors' outboxes lack a
// post, and the posts whose bodies are missing. A Redis that refuses writes may go on answering reads, and what it says
// of these must not count as complete, nor as "there is no such post". It is safe for concurrent use; nil remembers
// nothing.
//
// An author is forgotten when its outbox is seen to have the post. Those who never look again stay, at some 50 bytes
// each. Of posts the latest 8 MiB, at least, are remembered, and not more than twice as much.
type Unwritten struct {
	mu     sync.RWMutex
	newest map[freshet.Number]freshet.PostID
	newer  map[freshet.PostID]Logged
	older  map[freshet.PostID]Logged // what newer was when it was full
	bytes  int                       // of newer
}

const (
	// mostUnwritten bounds the bytes of posts in a generation.
	mostUnwritten = 8 << 20
	// unwrittenSize is what a post takes beside its text.
	unwrittenSize = 320
)

// Logged is a post as the log has it, after an event of this process.
type Logged struct {
	freshet.Post
	// Partition and Offset are where the event lies, and Rank is what it counts for beside others about the post; see
	// freshet.PostEvent.
	Partition    int32
	Offset, Rank int64
}

// NewUnwritten makes an empty one.
func NewUnwritten() *Unwritten {
	return &Unwritten{newest: map[freshet.Number]freshet.PostID{}, newer: map[freshet.PostID]Logged{}}
}

// Note is called, before the post is answered, when the author's outbox may lack it. An author's posts come to Redis
// again in the order of their ids, so the newest one stands for those before it.
func (u *Unwritten) Note(author freshet.Number, post freshet.PostID) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.newest[author] = max(u.newest[author], post)
}

// Lacks says whether the author's outbox does not have what it should.
func (u *Unwritten) Lacks(author freshet.Number, outbox Outbox) bool {
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

// Keep is called, before a new post is answered, when Redis may lack its body.
func (u *Unwritten) Keep(post Logged) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.put(post)
}

func (u *Unwritten) put(post Logged) {
	u.drop(post.ID)
	size := unwrittenSize + len(post.Text)
	if u.bytes+size > mostUnwritten {
		u.older, u.newer, u.bytes = u.newer, map[freshet.PostID]Logged{}, 0
	}
	u.newer[post.ID] = post
	u.bytes += size
}

func (u *Unwritten) drop(id freshet.PostID) {
	if post, ok := u.newer[id]; ok {
		u.bytes -= unwrittenSize + len(post.Text)
		delete(u.newer, id)
	}
	delete(u.older, id)
}

// Change notes a later event about a post that is remembered, and says whether it is. A deleted post stays deleted.
func (u *Unwritten) Change(post Logged) bool {
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	known, ok := u.find(post.ID)
	if !ok {
		return false
	}
	if known.DeletedAt.IsZero() && known.Offset < post.Offset || !post.DeletedAt.IsZero() {
		u.put(post)
	}
	return true
}

// Find looks a post up. One that is deleted has DeletedAt set.
func (u *Unwritten) Find(id freshet.PostID) (Logged, bool) {
	if u == nil {
		return Logged{}, false
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.find(id)
}

func (u *Unwritten) find(id freshet.PostID) (Logged, bool) {
	post, ok := u.newer[id]
	if !ok {
		post, ok = u.older[id]
	}
	return post, ok
}

// Forget is called when the post store has everything below an offset of the post's partition: others find the post as
// it is there.
func (u *Unwritten) Forget(id freshet.PostID, below int64) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if post, ok := u.find(id); ok && post.Offset < below {
		u.drop(id)
	}
}
