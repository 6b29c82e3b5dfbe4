package sim

import (
	"time"

	"freshet"
	"freshet/internal/feeds"
)

// fault does something bad.
func (w *world) fault() {
	faults := [...]string{
		"crash", "zombie", "rebalance", "lose", "lose much", "flushall", "away", "slow", "cut", "disk",
		"stall", "days", "reset", "replay",
		"cold", "corrupt", "clock",
	}
	sum := 0
	for _, kind := range faults {
		sum += w.rates[kind]
	}
	if sum == 0 {
		return
	}
	kind := ""
	for r := w.rng.IntN(sum); kind == "" || r >= 0; {
		for _, kind = range faults {
			if r -= w.rates[kind]; r < 0 {
				break
			}
		}
	}
	n := w.redis.nodes[w.rng.IntN(len(w.redis.nodes))]
	switch kind {
	case "crash":
		w.procs[w.rng.IntN(len(w.procs))].die()
	case "zombie":
		w.pauseProc(w.procs[w.rng.IntN(len(w.procs))])
	case "rebalance":
		if w.chance(2) {
			w.following.needRebalance()
		} else {
			w.fanout.needRebalance()
		}
	case "lose":
		w.redis.lose(n, w.rng.IntN([]int{4, 16, 61}[w.rng.IntN(3)]))
	case "lose much":
		w.redis.lose(n, w.rng.IntN(len(n.history)+1))
	case "flushall":
		w.redis.flushAll(n)
	case "away":
		n.awayTo = w.step + w.rng.IntN(300)
		w.tracef("redis node %d is away until step %d !", n.number, n.awayTo)
	case "slow":
		n.slowTo = w.step + w.rng.IntN(500)
	case "cut":
		n.epoch++
	case "clock":
		p := w.procs[w.rng.IntN(len(w.procs))]
		p.setBack = time.Duration(w.rng.IntN(5000)) * time.Millisecond
		w.tracef("the clock of %s is now %s behind !", p.name, p.setBack)
	case "disk":
		g := w.following
		if w.chance(2) {
			g = w.fanout
		}
		h := g.hosts[w.rng.IntN(len(g.hosts))]
		h.die()
		h.wipe()
	case "stall":
		until := w.step + w.rng.IntN(1500)
		if w.chance(2) {
			w.archives[w.rng.IntN(len(w.archives))].stallTo = until
		} else {
			w.apis[w.rng.IntN(len(w.apis))].stall(until)
		}
	default:
		w.operator(kind)
		return
	}
	w.count("fault: " + kind)
}

// pauseProc makes a process stand still; its group gives its partitions to others.
func (w *world) pauseProc(p *proc) {
	p.pausedTo = w.step + w.rng.IntN(400)
	w.tracef("%s stands still until step %d !", p.name, p.pausedTo)
	for _, g := range []*group{w.following, w.fanout} {
		for _, h := range g.hosts {
			if h.proc == p {
				g.needRebalance()
			}
		}
	}
}

// operator does what people do to a deployment.
func (w *world) operator(kind string) {
	p := w.rng.IntN(w.partitions)
	n := w.someone()
	switch kind {
	case "days":
		if !w.mayJump() {
			return
		}
		w.now = w.now.Add(time.Duration(1+w.rng.IntN(20)) * 24 * time.Hour)
		w.truth.unharmed = false // counters have expired
		w.tracef("days go by !")
	case "reset":
		w.reset(p)
	case "replay":
		if end := w.posts.end(p); end > 0 {
			from := w.rng.Int64N(end)
			for _, r := range w.posts.parts[p][from:min(end, from+5)] {
				event, _ := r.value.(freshet.PostEvent)
				w.replays.append(&record{partition: p, key: r.key, value: replay{event, r.offset}, at: w.now})
			}
		}
	case "cold":
		w.makeCold(n)
	case "corrupt":
		w.corrupt(n)
	}
	w.count("fault: " + kind)
}

func (w *world) makeCold(n freshet.Number) {
	read := &feeds.ReadBlock{Block: n.Block(), Slot: int(n.Slot())}
	w.redis.model.Apply(read)
	w.redis.apply(w.procs[0], &feeds.SwapFeed{
		Block: n.Block(), Slot: n.Slot(), Token: read.State.Token, Generation: read.Generation, Next: w.fresh("g"),
	})
	w.tracef("an operator makes the feed of %v cold", n)
}

// replay is a copy of a record of posts.
type replay struct {
	event  freshet.PostEvent
	offset int64
}

// mayJump says that the archive has everything, so that bodies may expire.
func (w *world) mayJump() bool {
	for p := range w.partitions {
		if w.store.progress[int32(p)].Offset < w.posts.end(p) {
			return false
		}
	}
	for _, p := range w.procs {
		if !p.producer.empty() {
			return false
		}
	}
	return true
}

// reset puts a group's offset back.
func (w *world) reset(p int) {
	back := func(at int64) int64 {
		if at <= 0 || w.chance(3) {
			return 0
		}
		return w.rng.Int64N(at)
	}
	switch w.rng.IntN(3) {
	case 0:
		w.truth.archiveReset[p] = back(w.truth.archived[p])
		w.truth.archived[p] = w.truth.archiveReset[p]
	case 1:
		w.resetGroup(w.following, p, back)
	case 2:
		w.resetGroup(w.fanout, p, back)
	}
}

// resetGroup does what Kafka's tools allow: nobody of the group is there meanwhile.
func (w *world) resetGroup(g *group, p int, back func(int64) int64) {
	for _, h := range g.hosts {
		if h.zombieTo == 0 {
			h.die()
		}
	}
	for i, t := range g.inputs {
		if t == w.posts || t == w.follows {
			g.committed[i][p] = back(g.committed[i][p])
			w.tracef("an operator resets %s of %s/%d to %d !", g.name, t.name, p, g.committed[i][p])
		}
	}
}

func (w *world) spoil(author freshet.Number, outbox []byte) {
	w.truth.spoilt[author] = true
	w.redis.nodeOf(w.layout.OfAuthor(author)).note(write{nil, w.redis.model.SetOutbox(author, outbox)})
}

// corrupt spoils a value so that it can be told.
func (w *world) corrupt(n freshet.Number) {
	m := w.redis.model
	read := &feeds.ReadBlock{Block: n.Block(), Slot: int(n.Slot())}
	m.Apply(read)
	node := w.redis.nodeOf(read.InZone(w.layout))
	value := read.Feeds[n.Slot()]
	outbox := &feeds.ReadOutbox{Author: n}
	m.Apply(outbox)
	switch {
	case w.chance(3) && len(outbox.Value) >= 8:
		spoilt := append([]byte{}, outbox.Value[:len(outbox.Value)-3]...)
		if w.chance(2) {
			spoilt = append(make([]byte, 8), outbox.Value[8:]...) // no post has this id
		}
		w.spoil(n, spoilt)
		w.count("corrupt: an outbox")
	case w.chance(2) && len(read.Log) > 9 && len(read.Log)%9 == 0:
		node.note(write{nil, m.SetLog(n.Block(), read.Log[:len(read.Log)-4])})
	case len(value) > 0:
		spoilt := append([]byte{}, value[:len(value)-3]...)
		if w.chance(2) {
			spoilt = append([]byte{9}, value[1:]...)
		}
		node.note(write{nil, m.SetSlot(n.Block(), n.Slot(), spoilt)})
	}
	w.tracef("the feed, the log or the outbox of %v is spoilt", n)
}
