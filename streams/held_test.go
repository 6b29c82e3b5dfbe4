package streams_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"freshet/internal/feeds"
	"freshet/streams"
)

// missing is in the text of posts that readers do not find while a failing Redis hides them.
const missing = "missing"

// hide takes the bodies of missing posts out of answers.
func (f *failing) hide(ops []feeds.Op) {
	for _, op := range ops {
		if read, ok := op.(*feeds.ReadBody); ok && bytes.Contains(read.Body, []byte(missing)) {
			read.Body = nil
		}
	}
}

// Do of a Redis that hides is that of one which works.
func (f *failing) Do(ctx context.Context, ops ...feeds.Op) error {
	if f.away.Load() {
		return feeds.ErrAway
	}
	err := f.Conn.Do(ctx, ops...)
	if f.hides.Load() {
		f.hide(ops)
	}
	return err
}

// holding is a hub whose Redis hides missing posts: ann follows bob, who writes them, and cid; dee follows cid alone.
func (d *deployment) holding(change func(*streams.Config)) (p *process, h *hub, ann, dee *follower) {
	d.Helper()
	p = d.api("one")
	h = d.hub(change)
	p.register("ann", "bob", "cid", "dee")
	p.follow("ann", "bob", "cid")
	p.follow("dee", "cid")
	h.redis.hides.Store(true)
	ann, dee = h.open("ann", nil, nil), h.open("dee", nil, nil)
	for _, f := range []*follower{ann, dee} {
		if err := f.take(time.Second); err != nil { // where it begins
			d.Fatal(err)
		}
	}
	return p, h, ann, dee
}

// A post that readers do not find holds up the streams that want it, and no others; each gets all of it in the order of
// the log, and so do those who come meanwhile, or come back.
func TestAMissingPostHoldsUpItsOwnStreams(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p, h, ann, dee := d.holding(nil)
	before := numbered(p, "cid", 0, 2)
	dee.want(before...)
	ann.want(before...)
	from := ann.mark
	p.post("bob", missing)
	others := numbered(p, "cid", 2, 6)
	dee.want(others...)
	if c := h.Counts(); c.Held != 1 {
		t.Errorf("%+v, want one that is held", c)
	}
	for range 3 {
		if err := ann.take(20 * time.Millisecond); err != nil || len(ann.waiting) > 0 {
			t.Fatalf("%q, %v: told before what comes first", ann.waiting, err)
		}
	}
	for i, at := range ann.mark {
		if at > from[i] {
			t.Errorf("the stream is at %v, behind what it has not told; it was at %v", ann.mark, from)
		}
	}
	later, back := h.open("ann", nil, nil), h.open("ann", ann.mark, nil)
	if err := back.take(20 * time.Millisecond); err != nil || len(back.waiting) > 0 {
		t.Fatalf("%q, %v: told before what comes first", back.waiting, err)
	}
	h.redis.hides.Store(false)
	all := append([]string{missing}, others...)
	ann.want(all...)
	back.want(all...)
	later.want(missing)
	last := numbered(p, "bob", 6, 8)
	ann.want(last...)
	later.want(last...)
	dee.want()
	if c := h.Counts(); c.Held != 0 || c.Resets != 0 {
		t.Errorf("%+v, want nothing held and nobody to begin anew", c)
	}
}

// A post that is deleted while it is held is not told, and does not hold up what comes after it any more.
func TestAHeldPostIsDeleted(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p, h, ann, _ := d.holding(nil)
	id := p.post("bob", missing)
	texts := numbered(p, "cid", 0, 2)
	d.until("it is held", func() bool { return h.Counts().Held == 1 })
	p.do(http.MethodDelete, "posts/"+id, "")
	ann.want(append(texts, "")...) // a delete has no text
}

// Whoever waits for a post for too long is told to read the feed anew, and goes on.
func TestAPostThatIsNotFoundIsGivenUp(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p, h, ann, dee := d.holding(func(c *streams.Config) { c.HeldFor = 300 * time.Millisecond })
	p.post("bob", missing)
	dee.want(numbered(p, "cid", 0, 1)...)
	d.until("the stream is told to begin anew", func() bool {
		if err := ann.take(10 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		return ann.resets == 1
	})
	ann.waiting = nil // whether what waited is told or found in the feed does not matter
	next := numbered(p, "bob", 1, 3)
	ann.want(next...)
	if c := h.Counts(); c.Held != 0 || c.Slow != 0 || c.Resets != 1 {
		t.Errorf("%+v, want one reset and nothing held", c)
	}
}

// What may be held is bounded: then the log waits, and with it everybody, until something is found.
func TestHeldIsBounded(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p, h, ann, dee := d.holding(func(c *streams.Config) { c.Held = 4 })
	var all []string
	for i := range 7 {
		all = append(all, fmt.Sprint(missing, " ", i))
		p.post("bob", all[i])
	}
	others := numbered(p, "cid", 0, 2)
	d.until("the hub waits", func() bool { return h.Counts().Waiting > 4 })
	if c := h.Counts(); c.Held > 4 {
		t.Errorf("%+v, want at most 4 held", c)
	}
	if err := dee.take(20 * time.Millisecond); err != nil || len(dee.waiting) > 0 {
		t.Errorf("%q, %v: told though the log waits", dee.waiting, err)
	}
	h.redis.hides.Store(false)
	ann.want(append(all, others...)...)
	dee.want(others...)
}

// A reader whose stream is full of what waits behind a post is not slow: it is told to read the feed anew.
func TestAFullStreamThatWaitsIsNotSlow(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p, h, ann, dee := d.holding(func(c *streams.Config) { c.Queue = 8 })
	p.post("bob", missing)
	for i := range 12 {
		dee.want(numbered(p, "cid", i, i+1)...)
	}
	err := ann.take(time.Second)
	if errors.Is(err, streams.ErrSlow) || ann.resets != 1 {
		t.Fatalf("%d resets, %v: want the reader to begin anew", ann.resets, err)
	}
	h.redis.hides.Store(false)
	d.until("it is told of what it waited for", func() bool {
		if err := ann.take(10 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		return h.Counts().Held == 0 && len(ann.waiting) > 0 && ann.waiting[0] == missing
	})
}
