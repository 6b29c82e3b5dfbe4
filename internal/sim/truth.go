package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/processors/fanout"
	"freshet/processors/following"
)

// truth is what the simulator knows and no process does: what is in the logs, what has been promised to clients,
// and what Redis has lost without anybody noticing yet.
type truth struct {
	w     *world
	posts map[freshet.PostID]*postTruth
	order []*postTruth
	// last is, for each follower and followee, the offset of the last follow or unfollow in the log; until is, for each
	// of the others, the step at which the next one got into the log.
	last  map[[2]freshet.Number]int64
	until map[pairEvent]int

	closed map[freshet.Number]bool

	losses   []*loss // not noticed yet
	lossSeen int     // the step at which the last unnoticed loss ended
	lastLoss int     // the step of the last loss, noticed or not
	opened   map[*proc][]int
	saw      map[*proc][]uint64 // of which recovery the tokens were
	verifies map[*host]int      // the step at which the host's last look at all zones began
	// begun is the step at which all zones were first found in order. As long as nothing has happened since that could
	// make a writer take a zone for lost, none may: unharmed.
	begun    int
	unharmed bool

	headers      map[freshet.Number]feeds.Header // as last written, if that was not lost
	spoilt       map[freshet.Number]bool         // whose outbox somebody has spoilt at some time
	archived     []int64                         // committed by the archive group
	archiveReset []int64
	listed       []int64
}

// postTruth is all there is to know of a post.
type postTruth struct {
	id      freshet.PostID
	author  freshet.Number
	number  int
	logged  bool
	deleted bool // in the log
	text    string
	// answered is the step at which a delete was answered; 0: never.
	answered int
	// exposed is the last step at which the tombstone was known to be lost without anybody having noticed.
	exposed int
	lost    bool
	records []*record
	behind  bool // its id is older than it is, by a clock that was behind
	due     bool // fan-out has brought it everywhere
	dueAt   int  // the step at which it had
	dueTime time.Time
}

// pairEvent is a follow or unfollow in the log.
type pairEvent struct {
	follower, followee freshet.Number
	offset             int64
}

// loss is one that no writer has noticed yet.
type loss struct {
	step  int
	lost  []feeds.Zone
	zones map[feeds.Zone]bool // not renewed since
}

func newTruth(w *world) *truth {
	t := &truth{
		w: w, posts: map[freshet.PostID]*postTruth{}, last: map[[2]freshet.Number]int64{},
		until: map[pairEvent]int{}, saw: map[*proc][]uint64{}, unharmed: w.shape.fanout == 1,
		spoilt: map[freshet.Number]bool{}, closed: map[freshet.Number]bool{}, opened: map[*proc][]int{},
		headers: map[freshet.Number]feeds.Header{}, verifies: map[*host]int{},
		archived: make([]int64, w.partitions), archiveReset: make([]int64, w.partitions), listed: make([]int64,
			w.partitions),
	}
	for p := range t.archiveReset {
		t.archiveReset[p] = -1
	}
	return t
}

func (t *truth) name(id freshet.PostID) string {
	if p := t.posts[id]; p != nil {
		return fmt.Sprint("p", p.number)
	}
	return fmt.Sprint("post", uint64(id))
}

// minted notes a post that an API process is about to publish.
func (t *truth) minted(id freshet.PostID, author freshet.Number) *postTruth {
	if t.posts[id] != nil {
		t.w.violate("an id twice", []any{id, author}, "%d", id)
	}
	p := &postTruth{id: id, author: author, number: len(t.order)}
	t.posts[id] = p
	t.order = append(t.order, p)
	return p
}

// appended looks at each record that gets into a log.
func (t *truth) appended(r *record) {
	switch value := r.value.(type) {
	case freshet.PostEvent:
		p := t.posts[value.Post.ID]
		t.w.tracef("log %s/%d@%d: %v %v by %v", r.topic.name, r.partition, r.offset, kindName(value.Kind), p.id,
			p.author)
		switch value.Kind {
		case freshet.PostCreated:
			p.logged, p.text = true, value.Post.Text
			p.records = append(p.records, r)
		case freshet.PostEdited:
			p.text = value.Post.Text
		case freshet.PostDeleted:
			p.deleted = true
		}
	case following.Event:
		for _, target := range value.Targets {
			t.w.tracef("log %s/%d@%d: %v %s %v", r.topic.name, r.partition, r.offset, value.Follower,
				followName(value.Kind), target)
			if value.Kind == following.Follow || value.Kind == following.Unfollow {
				pair := [2]freshet.Number{value.Follower, target}
				if before, known := t.last[pair]; known {
					t.until[pairEvent{value.Follower, target, before}] = t.w.step
				}
				t.last[pair] = r.offset
			}
		}
	case closing:
		t.w.tracef("log %s/%d@%d: %v is closed", r.topic.name, r.partition, r.offset, value.account)
		t.closed[value.account] = true
	case fanout.LoopMessage:
		if value.Kind == fanout.LoopDeliver {
			if p := t.posts[value.Post]; !p.due {
				p.records = append(p.records, r)
			}
		}
	}
}

// released notes that fan-out has done with a record: everything it asked for is in Redis, and noted in every zone.
func (t *truth) released(in *input, offset int64) {
	log := in.topic.parts[in.part.number]
	if offset >= int64(len(log)) {
		return
	}
	r := log[offset]
	r.released = true
	switch value := r.value.(type) {
	case freshet.PostEvent:
		if in.topic == t.w.posts {
			t.judge(t.posts[value.Post.ID])
		}
	case fanout.LoopMessage:
		if value.Kind == fanout.LoopDeliver {
			t.judge(t.posts[value.Post])
		}
	}
}

func (t *truth) judge(p *postTruth) {
	if p.due || !p.logged {
		return
	}
	for _, r := range p.records {
		if !r.released {
			return
		}
	}
	p.due, p.dueAt, p.dueTime = true, t.w.step, t.w.now
	t.w.tracef("%v is due in every feed", p.id)
}

// lost notes what a node of Redis lost.
func (t *truth) lost(n *node) {
	// A tombstone that is not there now may have been lost today, or with an earlier loss whose recovery is lost today.
	for _, p := range t.order {
		if p.deleted && t.w.redis.nodeOf(t.w.layout.OfPost(p.id)) == n && !t.w.redis.model.Deleted(p.id) {
			p.lost, p.exposed = true, t.w.step
		}
	}
	t.lose(t.w.redis.zonesOf(n))
}

// lose notes that zones have lost something.
func (t *truth) lose(zones []feeds.Zone) {
	l := &loss{step: t.w.step, lost: zones, zones: map[feeds.Zone]bool{}}
	for zone := range feeds.Zone(t.w.layout.Zones) {
		l.zones[zone] = true
	}
	t.losses = append(t.losses, l)
	t.lastLoss, t.unharmed = t.w.step, false
	// What is not committed may be forgotten by a writer that dies, and then nobody can tell that it was there: it
	// comes again.
	for _, p := range t.order {
		for _, r := range p.records {
			if r.offset >= t.w.fanout.committedOf(r.topic, r.partition) {
				r.released, p.due = false, false
			}
		}
	}
}

// open says that a loss of Redis is not noticed, or was not at some time since a step.
func (t *truth) open(since int) bool {
	return len(t.losses) > 0 || t.lossSeen >= since && t.lossSeen > 0
}

// watch looks at each operation after it was done.
func (w *world) watch(p *proc, op feeds.Op) {
	t := w.truth
	switch op := op.(type) {
	case *feeds.Open:
		if t.opened[p] == nil {
			t.opened[p], t.saw[p] = make([]int, w.layout.Zones), make([]uint64, w.layout.Zones)
		}
		t.saw[p][op.Zone] = w.recoveryOf(op.Token)
		t.opened[p][op.Zone] = w.step
	case *feeds.Advance:
		if !op.OK {
			w.count("redis: a counter shows a loss")
		}
	case *feeds.Recover:
		w.tracef("%s: zone %d gets token %s for %s, waits for %v: %t !", p.name, op.Zone, op.New, op.Old, op.Ends,
			op.OK)
		if op.OK {
			t.renewed(p, op.Zone)
		} else {
			w.count("recovery: two writers at once")
		}
	case *feeds.PutBody:
		w.tracef("%s: body of %v@%d with token %s: %t", p.name, op.Post, op.Offset, op.Token, op.OK)
		if !op.OK {
			w.count("body: refused")
		}
	case *feeds.PutTombstone:
		w.tracef("%s: tombstone of %v", p.name, op.Post)
		if post := t.posts[op.Post]; post.lost {
			post.lost, post.exposed = false, w.step
		}
	case *feeds.AppendOutbox:
		w.tracef("%s: outbox of %v gets %v", p.name, op.Author, w.idsIn(op.IDs))
	case *feeds.ReadOutbox:
		w.tracef("%s: outbox of %v read: %v state %v", p.name, op.Author, w.idsIn(op.Value), op.State)
	case *feeds.RewriteOutbox:
		w.tracef("%s: outbox of %v rewritten: %v by %v: %t", p.name, op.Author, w.idsIn(op.Old), w.idsIn(op.New), op.OK)
		if op.OK {
			w.count("outbox: rewritten")
		} else {
			w.count("outbox: rewrite refused")
		}
	case *feeds.DropOutbox:
		w.tracef("%s: outbox of %v dropped, and zone %d with it: %t !", p.name, op.Author, op.InZone(w.layout), op.OK)
		if op.OK {
			w.count("outbox: a corrupt one given up")
			if !t.spoilt[op.Author] {
				w.violate("corrupt outbox", []any{op.Author}, "%s finds the outbox of %s corrupt, which nobody has spoilt",
					p.name, w.account(op.Author))
			}
			t.lose([]feeds.Zone{op.InZone(w.layout)})
		}
	case *feeds.SwapFeed:
		w.watchSwap(p, op)
	case *feeds.Compact:
		if !op.OK {
			w.count("compaction: refused")
		}
	case *feeds.ReadBody:
		w.tracef("%s: reads %v in zone %d: %t deleted %t state %v", p.name, op.Post, w.layout.OfPost(op.Post),
			op.Body != nil, op.Deleted, op.State)
		if op.Body != nil && op.State.Recovering {
			w.count("body: not trusted")
		}
	}
}

func (w *world) watchSwap(p *proc, op *feeds.SwapFeed) {
	n := w.accountAt(op.Block, op.Slot)
	if !op.OK {
		w.count("feed: swap refused")
		return
	}
	feed, err := feeds.DecodeFeed(op.Value)
	before := w.truth.headers[n]
	w.truth.headers[n] = feed.Header
	if feed.Building && w.current != nil {
		w.current.build = feed.Build
	}
	switch {
	case err != nil:
	case feed.Building && before.Building:
		w.count("feed: a build is taken over")
	case !feed.Building && before.Building:
		w.count("feed: built")
		w.tracef("%s: feed of %v built at row version %d: %v", p.name, n, feed.RowVersion, feed.IDs)
	case !feed.Building && feed.RowVersion > before.RowVersion:
		w.count("feed: written back")
		w.tracef("%s: feed of %v written back at row version %d: %v", p.name, n, feed.RowVersion, feed.IDs)
	case feed.Building:
		w.count("feed: a cold build begins")
		w.tracef("%s: build of %v begins", p.name, n)
	default:
		w.tracef("%s: feed of %v written at row version %d: %v", p.name, n, feed.RowVersion, feed.IDs)
	}
}

// idsIn shows an outbox; the mark of a loaded one is post 2^64-1.
func (w *world) idsIn(value []byte) (ids []freshet.PostID) {
	for ; w.cfg.Trace && len(value) >= 8; value = value[8:] {
		ids = append(ids, freshet.PostID(binary.BigEndian.Uint64(value)))
	}
	return ids
}

func (w *world) accountAt(block uint64, slot byte) freshet.Number {
	return freshet.Number(block*freshet.SlotsPerBlock + uint64(slot))
}

// renewed notes that a writer has given a zone a new token. A loss is noticed when this has happened in every zone,
// by a writer that looked at the lost zones after the loss.
func (t *truth) renewed(p *proc, zone feeds.Zone) {
	for _, l := range t.losses {
		after := true
		for _, lost := range l.lost {
			after = after && t.opened[p] != nil && t.opened[p][lost] > l.step
		}
		if after {
			delete(l.zones, zone)
		}
	}
	t.close(func(l *loss) bool { return len(l.zones) == 0 })
}

// verified notes that a writer has opened every zone and found nothing missing; verifiedSince that its counters,
// moved since a step, say so.
func (t *truth) verified(h *host) {
	if saw := t.saw[h.proc]; saw != nil && slices.Min(saw) < slices.Max(saw) {
		// That a zone has gone back is there to be seen, so from now on nobody is excused.
		t.exposeAll()
	}
	first := t.w.step
	for _, step := range t.opened[h.proc] {
		first = min(first, step)
	}
	t.verifiedSince(h, first)
}

func (t *truth) verifiedSince(h *host, began int) {
	if t.begun == 0 {
		t.begun = t.w.step
	}
	t.verifies[h] = max(t.verifies[h], began)
	t.close(func(l *loss) bool {
		for _, owner := range t.w.fanout.owner {
			if owner == nil || t.verifies[owner] <= l.step {
				return false
			}
		}
		return true
	})
}

func (t *truth) close(over func(*loss) bool) {
	kept := t.losses[:0]
	for _, l := range t.losses {
		if !over(l) {
			kept = append(kept, l)
			continue
		}
		t.lossSeen = t.w.step
		if len(l.zones) > 0 {
			continue // nothing that matters was lost; a tombstone that fan-out has yet to write is still exposed
		}
		t.exposeAll()
	}
	t.losses = kept
}

// exposeAll notes that from now on a tombstone that is lost is no excuse any more.
func (t *truth) exposeAll() {
	for _, p := range t.order {
		if p.lost {
			p.lost, p.exposed = false, t.w.step
		}
	}
}

// decided notes what a writer has made of its look at all zones, which began at a step.
func (t *truth) decided(h *host, began int, d feeds.Decision) {
	if len(d.Lost) > 0 && t.unharmed && t.begun > 0 && t.begun < began {
		t.w.violate("a loss where there was none", nil, "%s takes zones %v for lost and goes back to %v", h.name, d.Lost,
			d.Back)
	}
	if !d.Again() {
		t.verified(h)
	}
}

// recoveryOf is the number of the recovery that a token names.
func (w *world) recoveryOf(token string) uint64 {
	if n, ok := w.unnumbered[token]; ok {
		return n
	}
	head, _, _ := strings.Cut(token, "-")
	n, _ := strconv.ParseUint(head, 10, 64)
	return n
}
