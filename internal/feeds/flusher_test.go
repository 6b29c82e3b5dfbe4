package feeds

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"

	"freshet"
)

// acknowledging is a Conn that fails one time in three, after some of the operations or all, and notes which heads it
// has acknowledged.
type acknowledging struct {
	t        *testing.T
	rng      *rand.Rand
	outboxes map[freshet.PostID]bool
	logs     map[freshet.PostID]int // entries of flushes that were acknowledged
	fails    bool
}

var errCut = errors.New("cut")

func (c *acknowledging) Do(_ context.Context, ops ...Op) error {
	failed := c.fails && c.rng.IntN(3) == 0
	for _, op := range ops {
		switch op := op.(type) {
		case *Open:
			op.Token, op.Counter = "t", 0
		case *Advance:
			op.OK = true
		case *AppendLog:
			_ = decodeLog(op.Entries, func(_ byte, post freshet.PostID) {
				if !c.outboxes[post] {
					c.t.Fatalf("an entry of post %d was sent before Redis had acknowledged its outbox", post)
				}
				if !failed {
					c.logs[post]++
				}
			})
		}
	}
	if failed {
		return errCut
	}
	for _, op := range ops {
		if outbox, ok := op.(*AppendOutbox); ok {
			ids, err := decodeIDs(outbox.IDs)
			if err != nil {
				c.t.Fatal(err)
			}
			for _, id := range ids {
				c.outboxes[id] = true
			}
		}
	}
	return nil
}

// No entry is sent before the heads of its post are acknowledged, whatever fails in between, and every entry is
// acknowledged in the end.
func TestFlushSendsEntriesBehindTheirHeads(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	layout := Layout{Zones: 4, FeedLength: 5}
	conn := &acknowledging{t: t, rng: rng, outboxes: map[freshet.PostID]bool{}, logs: map[freshet.PostID]int{}}
	names := 0
	flusher := NewFlusher(conn, layout, "writer", func() string { names++; return strconv.Itoa(names) })
	if _, err := flusher.Recover(t.Context(), 0, Positions{}, nil); err != nil {
		t.Fatal(err)
	}
	conn.fails = true
	l := NewBacklog(layout, 10, 5)
	want := map[freshet.PostID]int{}
	var id freshet.PostID
	for step := 0; step < 500 || !l.Empty(); step++ {
		if step < 500 && rng.IntN(2) == 0 {
			id++
			followers := drawFollowers(rng, rng.IntN(20))
			want[id] = len(followers)
			l.Add(t.Context(), Delivery{Kind: freshet.PostCreated, Author: 1, Post: id, Followers: followers}, noted)
		}
		ready, next := l.Take()
		if _, err := flusher.Flush(t.Context(), ready, next); err == nil {
			l.Flushed()
		}
	}
	for post, n := range want {
		if conn.logs[post] != n || !conn.outboxes[post] {
			t.Errorf("post %d: %d of %d entries, in the outbox: %t", post, conn.logs[post], n, conn.outboxes[post])
		}
	}
}
