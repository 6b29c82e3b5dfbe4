package feeds

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"freshet"
)

// given is one delivery or barrier of TestBacklog.
type given struct {
	delivery Delivery
	left     int  // entries that are not flushed
	headed   bool // its outbox entry has been given out
	turn     int  // of Take, when it came
	prompt   bool // it has to go with the next flush
	done     bool
}

// Whatever comes in whatever order: every entry is flushed once, by a later flush than its head, within a round; who
// waits is told when what it waits for is flushed, not before and not later; and small deliveries are taken with the
// next flush, and so in Redis with the one after it, however much waits.
func TestBacklog(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const share, prompt, shares = 50, 8, 16
	l := NewBacklog(Layout{Zones: shares, FeedLength: 5}, share, prompt)
	var all []*given
	small, turn, crowded, id, closing := 0, 0, false, freshet.PostID(0), false
	add := func(d Delivery, prompt bool) {
		g := &given{delivery: d, left: len(d.Followers), headed: d.Kind == 0, turn: turn, prompt: prompt}
		all = append(all, g)
		done := func(err error) {
			if err != nil || g.done {
				t.Fatalf("told %v, before: %t", err, g.done)
			}
			g.done = true
		}
		if d.Kind == 0 {
			l.Barrier(t.Context(), done)
		} else {
			l.Add(t.Context(), d, done)
		}
	}
	fill := func() {
		for range rng.IntN(6) {
			id++
			d := Delivery{Kind: freshet.PostCreated, Author: freshet.Number(rng.IntN(3)), Post: id}
			switch rng.IntN(6) {
			case 0:
				add(Delivery{}, false)
			case 1:
				d.Kind = freshet.PostDeleted
				add(d, true)
			case 2:
				d.Large, d.Followers = true, drawFollowers(rng, rng.IntN(300))
				add(d, len(d.Followers) == 0)
			default:
				d.Followers = drawFollowers(rng, rng.IntN(4))
				if small += len(d.Followers); small > prompt && !crowded {
					crowded = true
					for _, g := range all { // too much for one flush: all of it waits in the ring
						g.prompt = g.prompt && g.turn != turn
					}
				}
				add(d, len(d.Followers) == 0 || !crowded)
			}
		}
	}
	flush := func() {
		ready, next := l.Take()
		turn, small, crowded = turn+1, 0, false
		entries := ready.Entries()
		flushed := map[freshet.PostID]int{}
		for _, e := range ready.entries {
			flushed[e.post]++
		}
		headed := map[freshet.PostID]bool{}
		for _, outbox := range next.outboxes {
			for ids := outbox.IDs; len(ids) > 0; ids = ids[idSize:] {
				id, _ := decodeIDs(ids[:idSize])
				headed[id[0]] = true
			}
		}
		for _, tombstone := range next.tombstones {
			headed[tombstone.Post] = true
		}
		if !closing && rng.IntN(2) == 0 {
			fill() // during the flush
		}
		waiters := l.Flushed()
		waiters.Done(nil)
		before := true // whatever came before is flushed
		for i, g := range all {
			if flushed[g.delivery.Post] > 0 && !g.headed {
				t.Fatalf("%d: flushed before its head, or with it", i)
			}
			g.headed = g.headed || headed[g.delivery.Post]
			g.left -= flushed[g.delivery.Post]
			entries -= flushed[g.delivery.Post]
			gone := g.left == 0 && g.headed
			before = before && gone
			if g.left < 0 {
				t.Fatalf("%d: %d entries left", i, g.left)
			}
			if want := gone && (g.delivery.Kind != 0 || before); g.done && !want {
				t.Fatalf("%d of %d: told too early: %+v", i, len(all), g)
			}
			if !g.done && g.turn < turn-1 && g.prompt {
				t.Fatalf("%d: small, and not with the flush after the next: %+v", i, g)
			}
			if !g.done && turn-g.turn > shares+1 {
				t.Fatalf("%d: waits for %d flushes: %+v", i, turn-g.turn, g)
			}
		}
		if entries != 0 {
			t.Fatalf("%d entries of nothing", entries)
		}
	}
	for range 300 {
		fill()
		if rng.IntN(3) > 0 {
			flush()
		}
		if n := len(all); n > 100 && all[n-100].done { // what is long gone
			for len(all) > 0 && all[0].done {
				all = all[1:]
			}
		}
	}
	closing = true
	for range shares + 2 {
		flush()
	}
	if !l.Empty() {
		t.Error("not empty after a round and a flush")
	}
	for i, g := range all {
		if !g.done {
			t.Fatalf("%d is still waiting: %+v", i, g)
		}
	}
	if l.Entries() != 0 || l.Bytes() != 0 {
		t.Errorf("empty, with %d entries and %d bytes", l.Entries(), l.Bytes())
	}
}

// Who waits for a session that has ended is let go, whatever it waits for; nobody else is.
func TestBacklogLetsEndedSessionsGo(t *testing.T) {
	l := NewBacklog(Layout{Zones: 4, FeedLength: 5}, 1, 2)
	session, end := context.WithCancel(t.Context())
	var ended, others int
	wait := func(ctx context.Context, n *int) {
		d := Delivery{Kind: freshet.PostCreated, Author: 1, Post: 1, Followers: []freshet.Number{1, 40, 80, 120}}
		count := func(error) { *n++ }
		l.Barrier(ctx, count)
		l.Add(ctx, Delivery{Kind: freshet.PostDeleted, Post: 2}, count)
		l.Add(ctx, Delivery{Kind: freshet.PostCreated, Author: 1, Post: 3, Followers: []freshet.Number{1}}, count)
		d.Large = true
		l.Add(ctx, d, count)
	}
	wait(session, &ended)
	wait(t.Context(), &others)
	l.Take()
	wait(session, &ended)
	wait(t.Context(), &others)
	end()
	l.Ended().Done(errors.New("ended"))
	if ended != 8 || others != 0 {
		t.Errorf("%d of 8 let go, and %d of others", ended, others)
	}
	l.All().Done(errors.New("over"))
	if ended != 8 || others != 8 {
		t.Errorf("%d and %d are told in all, of 8 and 8", ended, others)
	}
}
