package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/tables"
	"freshet/processors/following"
	"freshet/views"
)

func (w *world) clock() time.Time { return w.now }

// api is a process that takes posts and follows, and answers reads from its own copy of the following table.
type api struct {
	*proc
	conn     *conn
	view     *view
	accounts *accounts
	tiers    *tiersView
	node     int64
	minter   *freshet.Minter
	feeds    *views.Feeds
	busy     int
}

// view is a lagging copy of a table.
type view struct {
	w       *world
	at      []int64
	until   []int64 // what it has to reach before it answers
	rows    map[string]*freshet.Following
	fences  []tables.Fence // by partition
	stallTo int
}

func newAPI(w *world, i int) {
	a := &api{proc: w.newProc("api" + string(rune('0'+i)))}
	a.conn = &conn{c: w.redis, p: a.proc}
	a.onStart = func() {
		a.busy = 0
		if a.view == nil || w.chance(2) {
			a.view = &view{w: w, at: make([]int64, w.partitions), rows: map[string]*freshet.Following{},
				fences: slices.Repeat([]tables.Fence{tables.NewFence()}, w.partitions)}
		}
		a.view.until = nil
		for p := range w.partitions {
			a.view.until = append(a.view.until, w.followingTable.end(p))
		}
		a.startTiers()
		w.names++
		a.node = int64(w.names % freshet.Nodes)
		a.minter, _ = freshet.NewMinter(a.node, a.now)
		a.accounts = newAccounts(w)
		a.feeds = &views.Feeds{
			Conn: a.conn, Layout: w.layout, Store: w.store, Rows: a.view, Accounts: a.accounts,
			Partitions: int32(w.partitions),
			Tiers:      a.tiers, Kept: views.NewKeptOutboxes(), PullSlack: w.tiers.slack,
			ProduceTimeout: produceTimeout, Now: a.now, Random: w.rng.Uint64, Pause: w.pause,
		}
	}
	w.apis = append(w.apis, a)
	a.start()
}

// pause is a wait: the clock moves on by the steps of others, or, when everybody waits, by itself.
func (w *world) pause(_ context.Context, d time.Duration) {
	until := w.now.Add(d)
	w.current.until(func() bool {
		if w.quiet && w.now.Before(until) {
			w.now = until
		}
		return !w.now.Before(until)
	})
}

// Row implements views.Rows.
func (v *view) Row(n freshet.Number) (*freshet.Following, error) {
	for p, at := range v.at {
		if at < v.until[p] {
			return nil, views.ErrNotReady
		}
	}
	return v.rows[n.Key()], nil
}

func (v *view) step() bool {
	w := v.w
	if !w.quiet && (w.step < v.stallTo || !w.chance(w.pace.view)) {
		return false
	}
	start := w.rng.IntN(w.partitions)
	for i := range w.partitions {
		p := (start + i) % w.partitions
		if v.at[p] >= w.followingTable.end(p) {
			continue
		}
		for range 1 + w.rng.IntN(3) {
			if v.at[p] < w.followingTable.end(p) {
				r := w.followingTable.parts[p][v.at[p]]
				if w.isRow(&v.fences[p], r) {
					v.rows[r.key], _ = r.value.(*freshet.Following)
				}
				v.at[p]++
			}
		}
		return true
	}
	return false
}

// client starts a coro that does something on this process and counts as a request.
func (a *api) client(name string, body func(c *coro)) {
	if !a.runs() {
		return
	}
	a.busy++
	a.w.spawn(a.proc, name, func(c *coro) {
		defer func() { a.busy-- }()
		body(c)
	})
}

// produce waits for the acknowledgement.
func (a *api) produce(c *coro, t *topic, key string, value any, deadline time.Time) (*sent, error) {
	var failed error
	acknowledged := false
	s := a.producer.send(t, key, value, func(err error) { failed, acknowledged = err, true })
	s.deadline = deadline
	c.until(func() bool { return acknowledged })
	return s, failed
}

func encodeBody(e freshet.PostEvent) []byte {
	body := &events.Body{
		Author: uint64(e.Post.Author), Text: e.Post.Text, Visibility: events.VisibilityOf(e.Post.Visibility),
		EditedAt: events.Millis(e.Post.EditedAt),
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil {
		panic(err)
	}
	return b
}

// mint waits as the minter does while the clock is behind the last id.
func (a *api) mint(c *coro) freshet.PostID {
	over, cancel := context.WithCancel(background)
	cancel()
	for {
		id, err := a.minter.Mint(over)
		if err == nil {
			return id
		}
		a.w.count("clock: a step back is waited out")
		if a.w.mutated("a step back of the clock is not waited out") {
			a.minter, _ = freshet.NewMinter(a.node, a.now)
			continue
		}
		last := a.w.now
		c.until(func() bool { return a.w.now.After(last) })
	}
}

// publish is what POST does: the zone's token, the id, the log, then as a courtesy body and outbox.
func (a *api) publish(author freshet.Number) {
	w := a.w
	a.client("publish", func(c *coro) {
		// The zone of the body follows from the id, and the token has to be read before the post is in the log.
		id := a.mint(c)
		deadline := w.now.Add(produceTimeout)
		p := w.truth.minted(id, author)
		p.behind = a.setBack > 0
		zone := &feeds.ReadZone{Zone: w.layout.OfPost(id)}
		away := a.conn.Do(background, zone)
		e := freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
			ID: id, Author: author, Text: fmt.Sprintf("p%d",
				p.number), Visibility: freshet.Public, CreatedAt: id.Time(),
		}}
		if w.chance(3) {
			e.Post.Visibility = freshet.FollowersOnly
		}
		s, err := a.produce(c, w.posts, author.Key(), e, deadline)
		if err != nil || away != nil {
			return
		}
		w.count("client: posts")
		a.courtesy(e, s.offset, zone.State.Token, true)
	})
}

func (a *api) courtesy(e freshet.PostEvent, offset int64, token string, outbox bool) {
	if n := a.w.pace.courtesy; n == 0 || !a.w.chance(n) {
		return
	}
	ops := []feeds.Op{&feeds.PutBody{Post: e.Post.ID, Token: token, Offset: offset, Body: encodeBody(e)}}
	if outbox {
		ops = append(ops, &feeds.AppendOutbox{Author: e.Post.Author, IDs: feeds.AppendID(nil, e.Post.ID)})
	}
	_ = a.conn.Do(background, ops...) // fan-out does it again
}

func (a *api) edit(p *postTruth) {
	w := a.w
	a.client("edit", func(c *coro) {
		zone := &feeds.ReadZone{Zone: w.layout.OfPost(p.id)}
		away := a.conn.Do(background, zone)
		e := freshet.PostEvent{Kind: freshet.PostEdited, Post: freshet.Post{
			ID: p.id, Author: p.author, Text: w.fresh(fmt.Sprintf("p%d edited ", p.number)), Visibility: freshet.Public,
			EditedAt: w.now,
		}}
		s, err := a.produce(c, w.posts, p.author.Key(), e, w.now.Add(produceTimeout))
		if err != nil {
			return
		}
		w.count("client: edits")
		if away == nil && w.chance(2) {
			a.courtesy(e, s.offset, zone.State.Token, false)
		}
	})
}

// remove is what DELETE does: the log, the tombstone, the answer. Without the tombstone there is no good answer.
func (a *api) remove(p *postTruth) {
	w := a.w
	a.client("delete", func(c *coro) {
		if w.mutated("tombstone before the log") {
			_ = a.conn.Do(background, &feeds.PutTombstone{Post: p.id})
		}
		e := freshet.PostEvent{Kind: freshet.PostDeleted, Post: freshet.Post{ID: p.id, Author: p.author,
			DeletedAt: w.now}}
		if _, err := a.produce(c, w.posts, p.author.Key(), e, w.now.Add(produceTimeout)); err != nil {
			return
		}
		if !w.mutated("tombstone before the log") {
			if err := a.conn.Do(background, &feeds.PutTombstone{Post: p.id}); err != nil {
				return
			}
		}
		w.count("client: deletes")
		w.tracef("the delete of %v is answered", p.id)
		if p.answered == 0 {
			p.answered = w.step
		}
	})
}

func (a *api) relate(kind following.Kind, follower freshet.Number, targets ...freshet.Number) {
	w := a.w
	a.client(followName(kind), func(c *coro) {
		do := func(kind following.Kind, follower freshet.Number, targets ...freshet.Number) {
			e := following.Event{Kind: kind, Follower: follower, Targets: targets}
			_, _ = a.produce(c, w.follows, follower.Key(), e, time.Time{})
		}
		do(kind, follower, targets...)
		w.count("client: " + followName(kind))
		if kind == following.Block {
			do(following.Unfollow, follower, targets...)
			for _, target := range targets {
				do(following.Unfollow, target, follower)
			}
		}
	})
}

func followName(kind following.Kind) string {
	return [...]string{"?", "follow", "unfollow", "mute", "unmute", "block", "unblock"}[kind]
}

func kindName(kind freshet.PostEventKind) string {
	return [...]string{"?", "created", "edited", "deleted"}[kind]
}
