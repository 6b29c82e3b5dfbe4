package views

import (
	"sync"
	"time"

	"freshet"
)

// Recent keeps posts for less than a second after they were found: what is new stands in many feeds, and is read for
// each of them. It is safe for concurrent use; nil keeps nothing.
//
// Other processes' deletes and edits show that much later. Those of this process are told by Forget, before they are
// answered.
type Recent struct {
	mu       sync.RWMutex
	now      func() time.Time
	newer    map[freshet.PostID]freshet.Post // found since turned
	older    map[freshet.PostID]freshet.Post // found in the turn before
	turned   time.Time
	forgets  int // calls of Forget so far
	capacity int // of a turn
}

// recentTurn is how long posts are collected. What was collected is dropped two turns after that at the latest.
const recentTurn = 300 * time.Millisecond

// maxRead is how long reading may take for what was read to be kept: with two turns and what they may overlap, a post
// is shown for less than a second after it was read.
const maxRead = 50 * time.Millisecond

// ticket says when somebody began to read, and how many calls of Forget there had been.
type ticket struct {
	forgets int
	at      time.Time
}

// maxRecent bounds the posts of a turn: at half a kilobyte each, some 20 MB.
const maxRecent = 20_000

// NewRecent makes an empty one; now is time.Now outside tests.
func NewRecent(now func() time.Time) *Recent {
	return &Recent{now: now, newer: map[freshet.PostID]freshet.Post{}, capacity: maxRecent}
}

// look puts the posts of ids that are kept into bodies, each in its place, and answers a ticket for keep, drawn before
// anything else is read.
func (r *Recent) look(ids []freshet.PostID, bodies []body) (drawn ticket) {
	if r == nil {
		return ticket{}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := r.now()
	age := now.Sub(r.turned)
	for i, id := range ids {
		post, ok := r.newer[id]
		if !ok || age >= 2*recentTurn {
			post, ok = r.older[id]
			ok = ok && age < recentTurn
		}
		if ok {
			bodies[i] = body{state: bodyFound, post: post, offset: -1}
		}
	}
	return ticket{r.forgets, now}
}

// keep keeps posts that were read after the ticket was drawn, unless that took long, or anything has been forgotten
// since: it may have been read before.
func (r *Recent) keep(found []freshet.Post, drawn ticket) {
	if r == nil || len(found) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); now.Sub(r.turned) >= recentTurn {
		r.older = r.newer
		if now.Sub(r.turned) >= 2*recentTurn {
			r.older = nil
		}
		r.newer, r.turned = map[freshet.PostID]freshet.Post{}, now
	}
	late := r.now().Sub(drawn.at) > maxRead
	if late || drawn.forgets != r.forgets || len(r.newer)+len(found) > r.capacity {
		return
	}
	for _, post := range found {
		r.newer[post.ID] = post
	}
}

// Forget makes the next reads look again.
func (r *Recent) Forget(id freshet.PostID) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgets++
	delete(r.newer, id)
	delete(r.older, id)
}
