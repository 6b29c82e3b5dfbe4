package sim

import (
	"freshet"
	"freshet/internal/feeds"
	"freshet/processors/following"
)

// aim makes something happen just before a kind of operation, while the one that asked for it stands still. What
// takes many unlucky moments in a row to go wrong by chance goes wrong often when it is aimed at.
type aim struct {
	at     string // the kind of operation
	act    string // what happens
	chance int    // once in so many
	pause  int    // how many steps the operation waits, at most
}

var (
	targets = [...]string{
		"mark", "feed", "compact", "outbox", "body", "recover", "log", "note", "step", "open", "read outbox",
		"tombstone",
		"append outbox", "read block",
	}
	acts = [...]string{
		"nothing", "flushall", "lose", "lose elsewhere", "post", "compact", "die", "zombie", "read", "archive",
		"days", "follow",
		"edit", "trim", "delete, flushall", "post, flushall", "cold, post, compact, read", "cold, read", "lose, away",
		"back to here",
	}
)

func (w *world) takeAim() {
	w.aim = &aim{
		at: targets[w.rng.IntN(len(targets))], act: acts[w.rng.IntN(len(acts))],
		chance: 1 + w.rng.IntN(12), pause: 20 << w.rng.IntN(8),
	}
}

// targetOf is the kind of an operation.
func targetOf(op feeds.Op) string {
	switch op := op.(type) {
	case *feeds.SwapFeed:
		if feed, err := feeds.DecodeFeed(op.Value); err == nil && feed.Building {
			return "mark"
		}
		return "feed"
	case *feeds.Compact:
		return "compact"
	case *feeds.RewriteOutbox:
		return "outbox"
	case *feeds.PutBody:
		return "body"
	case *feeds.Recover:
		return "recover"
	case *feeds.AppendLog:
		return "log"
	case *feeds.Advance:
		if len(op.Marks) > 0 {
			return "note"
		}
		return "step"
	case *feeds.Open:
		return "open"
	case *feeds.ReadOutbox:
		return "read outbox"
	case *feeds.PutTombstone:
		return "tombstone"
	case *feeds.AppendOutbox:
		return "append outbox"
	case *feeds.ReadBlock:
		return "read block"
	}
	return ""
}

// strike does what is aimed at an operation that is about to be done, and says whether it did.
func (w *world) strike(x *conn, op feeds.Op) bool {
	a := w.aim
	if a == nil || w.quiet || a.at != targetOf(op) || !w.chance(a.chance) {
		return false
	}
	w.current.stuck = w.step + w.rng.IntN(a.pause)
	n := w.redis.nodeOf(op.InZone(w.layout))
	w.tracef("%s is held up before %q, then: %s !", x.p.name, a.at, a.act)
	switch a.act {
	case "flushall":
		if w.chance(4) {
			w.redis.flushAll(n)
		}
	case "lose", "lose elsewhere":
		if a.act == "lose elsewhere" {
			n = w.redis.nodes[w.rng.IntN(len(w.redis.nodes))]
		}
		if w.chance(6) {
			w.redis.lose(n, 1+w.rng.IntN(12))
		}
	case "post":
		w.apis[w.rng.IntN(len(w.apis))].publish(w.someone())
	case "compact":
		block := w.someone().Block()
		w.after(1, func() { w.compactNow(block) })
	case "die":
		if w.chance(3) {
			w.after(1, x.p.die)
		}
	case "zombie":
		if w.chance(8) {
			w.pauseProc(x.p)
		}
	case "read":
		w.apis[w.rng.IntN(len(w.apis))].read(w.someone(), 0, 5)
	case "follow":
		if box, ok := op.(*feeds.AppendOutbox); ok && w.chance(5) {
			w.current.stuck = w.step + 400 + w.rng.IntN(1500)
			w.followAnew(w.someone(), box.Author)
		}
	case "cold, read":
		w.current.stuck = 0
		for _, reader := range w.accounts {
			w.after(1, func() { w.makeCold(reader) })
			for range 3 {
				w.after(20+w.rng.IntN(200), func() {
					// A read that is aimed at brings about more reads; there is a bound to what clients ask at once.
					if a := w.apis[w.rng.IntN(len(w.apis))]; a.busy < 3*mostRequests {
						a.read(reader, 0, 5)
					}
				})
			}
		}
	case "lose, away":
		if w.chance(4) {
			w.redis.lose(n, 1+w.rng.IntN(12))
			for _, other := range w.redis.nodes {
				if other != n {
					other.awayTo = w.step + w.rng.IntN(400)
				}
			}
		}
	case "back to here":
		if w.chance(3) {
			w.current.stuck = 0
			mark := len(n.history) + w.rng.IntN(80)
			w.after(100+w.rng.IntN(1900), func() {
				if lost := len(n.history) - mark; lost > 0 {
					w.redis.lose(n, lost)
				}
			})
		}
	case "edit", "delete, flushall":
		body, ok := op.(*feeds.PutBody)
		if !ok {
			w.deleteThenFlush(op)
			return true
		}
		w.current.stuck = w.step + 300 + w.rng.IntN(1500)
		if a.act == "edit" {
			w.apis[w.rng.IntN(len(w.apis))].edit(w.truth.posts[body.Post])
			break
		}
		w.apis[w.rng.IntN(len(w.apis))].remove(w.truth.posts[body.Post])
		if w.chance(3) {
			w.after(200+w.rng.IntN(800), func() { w.redis.flushAll(n) })
		}
	case "trim", "post, flushall":
		w.strikeOutbox(op, n)
	case "cold, post, compact, read":
		if op, ok := op.(*feeds.ReadBlock); ok && w.current.build != 0 && op.Slot != feeds.AllSlots {
			w.current.stuck = w.step + 300 + w.rng.IntN(600)
			reader := w.accountAt(op.Block, byte(op.Slot))
			w.after(1, func() { w.makeCold(reader) })
			for _, author := range w.accounts {
				w.apis[w.rng.IntN(len(w.apis))].publish(author)
			}
			w.after(200, func() { w.compactNow(op.Block) })
			w.after(250, func() { w.apis[w.rng.IntN(len(w.apis))].read(reader, 0, 5) })
		}
	case "archive":
		w.pace.store = 1 + w.rng.IntN(60)
	case "days":
		if w.mayJump() {
			w.operator("days")
		}
	}
	return true
}

// strikeOutbox is for rewrites of an outbox that stand still while it changes, or is lost and loaded anew.
func (w *world) strikeOutbox(op feeds.Op, n *node) {
	rewrite, ok := op.(*feeds.RewriteOutbox)
	if !ok {
		return
	}
	w.current.stuck = w.step + 500 + w.rng.IntN(1500)
	w.apis[w.rng.IntN(len(w.apis))].publish(rewrite.Author)
	if w.aim.act == "trim" {
		h := w.fanout.hosts[w.rng.IntN(len(w.fanout.hosts))]
		w.after(1, func() {
			if h.alive {
				w.spawn(h.proc, "aimed trim", func(*coro) {
					_ = w.layout.TrimOutbox(background, h.writer.conn,
						rewrite.Author)
				})
			}
		})
		w.after(300, func() { w.apis[0].publish(rewrite.Author) })
		return
	}
	w.pace.store = 1 + w.rng.IntN(8)
	if w.chance(3) {
		w.after(300+w.rng.IntN(400), func() { w.redis.flushAll(n) })
	}
}

// followAnew follows an author, after an unfollow if need be.
func (w *world) followAnew(follower, author freshet.Number) {
	a := w.apis[w.rng.IntN(len(w.apis))]
	if w.rowOf(follower).Follows(author) {
		a.relate(following.Unfollow, follower, author)
		w.after(150, func() { a.relate(following.Follow, follower, author) })
		return
	}
	a.relate(following.Follow, follower, author)
}

// deleteThenFlush is for the renewal of a zone that is empty: while it is held up a post is deleted, and then the
// zone is lost once more.
func (w *world) deleteThenFlush(op feeds.Op) {
	renewal, ok := op.(*feeds.Recover)
	if !ok || renewal.Old != "" {
		return
	}
	w.current.stuck = w.step + 500
	posts := w.truth.order
	for _, p := range posts[max(0, len(posts)-10):] {
		if p.logged && !p.deleted {
			w.apis[w.rng.IntN(len(w.apis))].remove(p)
		}
	}
	w.after(200+w.rng.IntN(200), func() {
		for _, n := range w.redis.nodes {
			w.redis.flushAll(n)
		}
	})
}

func (w *world) compactNow(block uint64) {
	h := w.fanout.hosts[w.rng.IntN(len(w.fanout.hosts))]
	if h.alive {
		w.spawn(h.proc, "aimed compaction", func(*coro) {
			_, _ = w.layout.CompactBlock(background, h.writer.conn, block, feeds.DayOf(w.now)-14, w.fresh("g"))
		})
	}
}

// after does something in so many steps, not in the middle of a coro.
func (w *world) after(steps int, do func()) { w.later = append(w.later, later{w.step + steps, do}) }

type later struct {
	step int
	do   func()
}

func (w *world) doLater() {
	if len(w.later) == 0 {
		return
	}
	all := w.later
	w.later = nil
	for _, l := range all {
		if w.step >= l.step && !w.quiet {
			l.do()
		} else if !w.quiet {
			w.later = append(w.later, l)
		}
	}
}
