package feeds

import (
	"context"
	"slices"

	"freshet"
)

// Backlog is what waits to be written into Redis, and who waits for that. Take gives out what is flushed next, Flushed
// says who has waited long enough. It is not safe for concurrent use, and does the same whenever it is told the same.
//
// What is taken goes through two flushes: its heads (bodies, tombstones, outboxes) are written by the first, and when
// they are in Redis, its entries by the second, together with the heads of what was taken next. So each flush is one
// round trip, and Redis has work while the next one is being prepared.
//
// What costs Redis most is to find a block, so the entries of a block should wait for one another. But whoever wants to
// write all blocks at once lets a post that has just come wait for all that came before it, and then for all that came
// with it. So entries wait in a ring of shares, each with the blocks of some zones, and a flush takes the next share,
// or as many as are worth a flush: each is written once a round, a round is as long as there is work for, and an entry
// waits for one round at most. What is small (few entries altogether) does not wait in the ring, but goes with the next
// flush, so that posts to few followers are not held up by one to a million.
type Backlog struct {
	layout        Layout
	share, prompt int
	heads         heads
	small         []entry // goes with the next flush
	smallWaiters  Waiters
	crowded       bool // small has been given up until the next turn
	ring          []ringShare
	entries       int // in small and ring
	next          int // the share of the ring whose turn it is
	turn          uint64
	ready, behind *taken // ready's heads are in Redis, its entries are what the next flush writes
	flushing      bool   // Take has answered, and Flushed has not been called
	later         []turnWaiter
}

// taken is what Take gave out together.
type taken struct {
	*Batch
	waiters Waiters // of this and nothing more
	since   uint64  // the turn before which the first of its entries came; 0 if there are none
}

// ringShare is what waits for the blocks of some zones.
type ringShare struct {
	entries []entry
	since   uint64 // the turn before which the first of entries came
}

// turnWaiter waits for everything that came before a turn.
type turnWaiter struct {
	waiter
	turn uint64
}

// Defaults of a Backlog.
const (
	// DefaultShare is from how many entries on a flush is worth its round trip: shares with fewer are flushed together.
	DefaultShare = 16 << 10
	// DefaultPrompt is how many entries may go past the ring in a flush. Each can cost as much as a block of the ring.
	DefaultPrompt = 2 << 10
	// mostShares is how many shares the ring has, where there are as many zones.
	mostShares = 64
)

// NewBacklog makes an empty one. share and prompt are 0 for their defaults.
func NewBacklog(layout Layout, share, prompt int) *Backlog {
	setDefault(&share, DefaultShare)
	setDefault(&prompt, DefaultPrompt)
	return &Backlog{
		layout: layout, share: share, prompt: prompt, heads: newHeads(),
		ring: make([]ringShare, min(layout.Zones, mostShares)), turn: 1,
		ready: &taken{Batch: NewBatch()}, behind: &taken{Batch: NewBatch()},
	}
}

// Add takes a delivery in, and lets done wait until it is in Redis. It keeps nothing of d.Followers.
func (l *Backlog) Add(ctx context.Context, d Delivery, done func(error)) {
	l.heads.add(&d)
	if d.Kind != freshet.PostCreated || len(d.Followers) == 0 {
		l.smallWaiters.Add(ctx, done)
		return
	}
	l.entries += len(d.Followers)
	if !d.Large && !l.crowded {
		if len(l.small)+len(d.Followers) <= l.prompt {
			for _, follower := range d.Followers {
				l.small = append(l.small, entry{follower, d.Post})
			}
			l.smallWaiters.Add(ctx, done)
			return
		}
		l.crowd()
	}
	for _, follower := range d.Followers {
		l.put(entry{follower, d.Post})
	}
	l.wait(waiter{ctx, done})
}

// crowd sends everything into the ring until the next turn: too much has come since the last.
func (l *Backlog) crowd() {
	l.crowded = true
	for _, e := range l.small {
		l.put(e)
	}
	l.small = l.small[:0]
	for _, w := range l.smallWaiters.waiting {
		l.wait(w)
	}
	l.smallWaiters.clear()
}

// Barrier lets done wait for everything that was added before.
func (l *Backlog) Barrier(ctx context.Context, done func(error)) { l.wait(waiter{ctx, done}) }

func (l *Backlog) wait(w waiter) { l.later = append(l.later, turnWaiter{w, l.turn}) }

func (l *Backlog) put(e entry) {
	s := &l.ring[int(l.layout.OfBlock(e.account.Block()))%len(l.ring)]
	if len(s.entries) == 0 {
		s.since = l.turn
	}
	s.entries = append(s.entries, e)
}

// Empty says that there is nothing to write and nobody waits.
func (l *Backlog) Empty() bool {
	return l.entries == 0 && l.heads.size == 0 && l.smallWaiters.Len() == 0 && len(l.later) == 0 &&
		l.ready.empty() && l.behind.empty()
}

func (t *taken) empty() bool { return t.Batch.Empty() && t.waiters.Len() == 0 }

// Entries is how many feed entries wait to be taken.
func (l *Backlog) Entries() int { return l.entries }

// Bytes is how much waits to be taken, about.
func (l *Backlog) Bytes() int { return l.heads.size + entrySize*l.entries }

// Take answers what the next flush writes: the entries of ready, and the heads of next, which is made of what waits.
// Both are the Backlog's, and until Flushed it answers the same again.
func (l *Backlog) Take() (ready, next *Batch) {
	t := l.behind
	if l.flushing {
		return l.ready.Batch, t.Batch
	}
	l.flushing = true
	t.heads, l.heads = l.heads, t.heads
	t.waiters, l.smallWaiters = l.smallWaiters, t.waiters
	if len(l.small) > 0 {
		t.since = l.turn
	}
	t.take(&l.small)
	before := len(t.entries)
	for range l.ring {
		s := &l.ring[l.next]
		if n := len(t.entries) - before; n > 0 && n+len(s.entries) > l.share {
			break
		}
		if len(s.entries) > 0 {
			t.since = earlier(t.since, s.since)
		}
		t.take(&s.entries)
		l.next = (l.next + 1) % len(l.ring)
	}
	l.entries -= len(t.entries)
	l.crowded = false
	l.turn++
	return l.ready.Batch, t.Batch
}

// earlier is the earlier of two turns, where 0 is none.
func earlier(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Flushed says that what Take answered last is in Redis, and gives out who waits no longer.
func (l *Backlog) Flushed() *Waiters {
	done := &Waiters{}
	l.flushing = false
	l.ready.waiters.moveTo(done)
	l.ready.Reset()
	l.ready.since = 0
	l.ready, l.behind = l.behind, l.ready
	oldest := l.turn
	if since := l.ready.since; since > 0 {
		oldest = since
	}
	for i := range l.ring {
		if s := &l.ring[i]; len(s.entries) > 0 {
			oldest = min(oldest, s.since)
		}
	}
	n := 0
	for n < len(l.later) && l.later[n].turn < oldest {
		done.waiting = append(done.waiting, l.later[n].waiter)
		n++
	}
	l.later = slices.Delete(l.later, 0, n)
	return done
}

// Ended gives out those whose sessions have ended: what such a session did not commit comes again.
func (l *Backlog) Ended() *Waiters {
	ended := l.smallWaiters.Ended()
	l.ready.waiters.Ended().moveTo(ended)
	l.behind.waiters.Ended().moveTo(ended)
	l.later = slices.DeleteFunc(l.later, func(w turnWaiter) bool {
		if w.ctx.Err() == nil {
			return false
		}
		ended.waiting = append(ended.waiting, w.waiter)
		return true
	})
	return ended
}

// All gives out everybody who waits.
func (l *Backlog) All() *Waiters {
	all := &Waiters{}
	l.ready.waiters.moveTo(all)
	l.behind.waiters.moveTo(all)
	l.smallWaiters.moveTo(all)
	for _, w := range l.later {
		all.waiting = append(all.waiting, w.waiter)
	}
	clear(l.later)
	l.later = l.later[:0]
	return all
}
