package sim

import (
	"maps"
	"slices"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/tables"
	"freshet/processors/fanout"
	"freshet/processors/following"
)

// group is a consumer group at the broker: committed offsets, and who owns which partition in which generation.
type group struct {
	w          *world
	name       string
	table      *topic
	inputs     []*topic
	committed  [][]int64 // by input and partition; -1: none
	generation int
	owner      []*host // by partition; nil: nobody
	hosts      []*host
	due        int // the step at which the next rebalance happens; 0: none is needed
}

func newGroup(w *world, name string, table *topic, inputs ...*topic) *group {
	g := &group{w: w, name: name, table: table, inputs: inputs, owner: make([]*host, w.partitions)}
	for range inputs {
		g.committed = append(g.committed, slices.Repeat([]int64{-1}, w.partitions))
	}
	return g
}

func (g *group) committedOf(t *topic, partition int) int64 {
	return g.committed[slices.Index(g.inputs, t)][partition]
}

// host is a process of a group: a disk, a session, and for fan-out a writer.
type host struct {
	*proc
	g        *group
	disk     []*disk // by partition
	sess     *session
	sessions int64
	zombieTo int // the step until which it does not notice that it was thrown out; 0: it is in
	commits  [][]commit
	writer   *writer
	pulled   *fanout.Announcements // of fan-out
}

// disk is a table on the host's disk.
type disk struct {
	rows  map[string]any
	next  int64 // the offset in the changelog from which it has to be read
	fence tables.Fence
}

func newDisk() *disk { return &disk{rows: map[string]any{}, fence: tables.NewFence()} }

// isRow says whether whoever reads a table's changelog, a host or a view, takes this record for a row.
func (w *world) isRow(f *tables.Fence, r *record) bool {
	if !f.Passes(r.epoch) {
		w.count("table: a zombie's row is passed over")
		return w.mutated("tables without fences")
	}
	return !r.fence
}

type commit struct {
	input, partition int
	offset           int64
}

// session is the time between two rebalances on one host.
type session struct {
	h          *host
	number     int64
	generation int
	parts      []*part
	ready      bool
	over       bool
	seek       map[feeds.Input]int64
}

// part is a partition during a session: goka's single goroutine, its table and its inputs.
type part struct {
	s       *session
	number  int
	rows    map[string]any
	epoch   int64 // where its fence lies in the changelog
	waits   bool  // a callback waits for a flush
	inputs  []*input
	holdEnd int64 // where followers has to be finished before the others are delivered
	held    bool
}

type input struct {
	part      *part
	index     int // in the group's inputs
	topic     *topic
	next      int64
	tracker   *kafka.Tracker
	followUps []followUp
	released  int64
	unordered int64 // for a mutation: the highest offset finished
}

type followUp struct {
	offset int64
	run    func(ack func())
}

func newHost(g *group, i int) {
	w := g.w
	h := &host{proc: w.newProc(g.name + string(rune('0'+i))), g: g}
	h.wipe()
	h.onDeath = func() {
		if h.sess != nil {
			h.sess.over = true
		}
		h.sess, h.writer, h.commits, h.zombieTo = nil, nil, nil, 0
		g.needRebalance()
	}
	h.onStart = func() {
		if g == w.fanout {
			newWriter(h)
			h.pulled = w.announcements()
		}
		g.needRebalance()
	}
	g.hosts = append(g.hosts, h)
	h.start()
}

func (h *host) wipe() {
	h.disk = make([]*disk, h.w.partitions)
	for p := range h.disk {
		h.disk[p] = newDisk()
	}
}

func (g *group) needRebalance() {
	if g.due == 0 {
		g.due = g.w.step + 1 + g.w.rng.IntN(30)
	}
}

// rebalance ends every session that notices, and gives the partitions to the hosts that are in. Hosts that stand
// still or are zombies go on with their old session, without knowing.
func (g *group) rebalance() {
	w := g.w
	g.due = 0
	var in []*host
	for _, h := range g.hosts {
		if h.alive && h.zombieTo == 0 {
			if !h.runs() {
				h.zombieTo = h.pausedTo + w.rng.IntN(300)
				w.truth.unharmed = false // it may note watermarks that others have passed
				w.count("group: a zombie")
				w.tracef("%s becomes a zombie !", h.name)
				continue
			}
			in = append(in, h)
		}
	}
	for _, h := range in {
		if h.sess != nil && !h.sess.over {
			h.producer.drain()
			if w.scene == nil && w.chance(2) {
				h.sess.commit()
				h.landCommits(len(h.commits))
			}
			h.sess.over = true
		}
		h.commits = nil
	}
	g.generation++
	for p := range g.owner {
		before := g.owner[p]
		g.owner[p] = nil
		if len(in) > 0 {
			g.owner[p] = in[w.rng.IntN(len(in))]
			if w.scene != nil {
				g.owner[p] = in[p%len(in)]
			}
			if before != nil && g.owner[p] != before {
				w.count("group: a partition moves")
			}
		}
	}
	for _, h := range in {
		h.begin()
	}
	w.tracef("%s: generation %d begins !", g.name, g.generation)
}

func (h *host) begin() {
	h.sessions++
	s := &session{h: h, number: h.sessions, generation: h.g.generation}
	if old := h.sess; old != nil {
		s.seek = old.seek
	}
	for p, owner := range h.g.owner {
		if owner != h {
			continue
		}
		pt := &part{s: s, number: p, held: h.g == h.w.fanout}
		pt.holdEnd = h.w.followers.end(p)
		s.parts = append(s.parts, pt)
	}
	h.sess = s
}

// prepare settles where every input begins, commits that where it is lower than what is committed, and reads the
// tables back. back is how far Redis makes the session go back.
func (s *session) prepare(back map[feeds.Input]int64) {
	h, w := s.h, s.h.w
	if s.over {
		return
	}
	// One that has lost its partitions since it was given them does not know, but the broker takes no commit from it.
	in := s.generation == h.g.generation
	if !in {
		w.count("group: a zombie takes a partition over")
	}
	for _, p := range s.parts {
		for i, t := range h.g.inputs {
			at := max(0, h.g.committed[i][p.number])
			if to, ok := back[feeds.Input{Topic: t.name, Partition: int32(p.number)}]; ok && to < at {
				w.count("recovery: a partition goes back")
				w.tracef("%s goes back in %s/%d from %d to %d !", h.name, t.name, p.number, at, to)
				at = to
				if in {
					h.g.committed[i][p.number] = at
				}
			}
			p.inputs = append(p.inputs, &input{
				part: p, index: i, topic: t, next: at, released: at, tracker: kafka.NewTracker(at, s.watermarked(t)),
			})
		}
		p.recoverTable()
	}
	s.ready, s.seek = true, nil
	w.tracef("%s: session %d is ready !", h.name, s.number)
}

func (s *session) watermarked(t *topic) bool {
	w := s.h.w
	return (t == w.posts || t == w.replays || t == w.loop) && !w.mutated("commit before watermark")
}

// recoverTable writes the fence of the new owner, and reads the changelog up to it.
func (p *part) recoverTable() {
	h := p.s.h
	t := h.g.table
	p.epoch = t.end(p.number)
	t.append(&record{partition: p.number, at: h.w.now, epoch: p.epoch, fence: true})
	d := h.disk[p.number]
	p.rows = maps.Clone(d.rows)
	for log := t.parts[p.number]; d.next < int64(len(log)); d.next++ {
		if r := log[d.next]; h.w.isRow(&d.fence, r) {
			p.rows[r.key], d.rows[r.key] = r.value, r.value
		}
	}
}

// step is one callback, or something else that the host has to do.
func (h *host) stepHost() bool {
	w := h.w
	if !h.runs() {
		return false
	}
	if h.zombieTo > 0 && (w.step >= h.zombieTo || w.quiet) {
		h.zombieTo = 0
		if h.sess != nil {
			h.sess.over = true
		}
		h.g.needRebalance()
		w.tracef("%s notices that it was thrown out !", h.name)
		return true
	}
	s := h.sess
	if s == nil || s.over {
		return false
	}
	if !s.ready {
		if h.g == w.following {
			s.prepare(nil)
			return true
		}
		return false // its writer prepares it
	}
	if len(s.parts) == 0 {
		return false
	}
	start := w.rng.IntN(len(s.parts))
	for i := range s.parts {
		if s.parts[(start+i)%len(s.parts)].step() {
			return true
		}
	}
	return false
}

const mostInFlight = 12

func (p *part) step() bool {
	w := p.s.h.w
	if p.waits {
		return false
	}
	start := w.rng.IntN(len(p.inputs))
	for i := range p.inputs {
		in := p.inputs[(start+i)%len(p.inputs)]
		if p.held && in.topic != w.followers && !w.mutated("no hold until followers") {
			first := p.inputs[0]
			if first.tracker.Finished() < p.holdEnd {
				if in.next < in.topic.end(p.number) {
					w.count("hold: an input waits for followers")
				}
				continue
			}
			p.held = false
		}
		if in.next < in.topic.end(p.number) && in.tracker.InFlight() < mostInFlight && !w.stopped(in.topic, in.next) {
			in.deliver()
			return true
		}
	}
	return false
}

// message is one on its way from the callback to "finished".
type message struct {
	in      *input
	offset  int64
	pending int
}

func (in *input) deliver() {
	r := in.topic.parts[in.part.number][in.next]
	m := &message{in: in, offset: r.offset, pending: 1}
	in.tracker.Deliver(r.offset)
	in.next++
	switch value := r.value.(type) {
	case following.Event:
		in.part.onFollow(m, r, value)
	case following.AppliedReport:
		in.part.onReport(m, r, value)
	case following.Statement:
		in.part.onStatement(m, value)
	case freshet.PostEvent:
		in.part.onPost(m, r, value, r.offset, false)
	case replay:
		in.part.onPost(m, r, value.event, value.offset, true)
	case fanout.LoopMessage:
		in.part.onLoop(m, r, value)
	}
	m.done()
}

func (m *message) done() {
	m.pending--
	if m.pending > 0 {
		return
	}
	in := m.in
	in.tracker.Finish(m.offset)
	in.unordered = max(in.unordered, m.offset+1)
	in.moved()
}

// moved runs the follow-ups that are due and notes what is released.
func (in *input) moved() {
	for len(in.followUps) > 0 && in.followUps[0].offset < in.tracker.Finished() {
		next := in.followUps[0]
		in.followUps = in.followUps[1:]
		next.run(func() {
			in.tracker.FollowedUp(next.offset)
			in.moved()
		})
	}
	for released := in.tracker.Released(); in.released < released; in.released++ {
		in.part.s.h.w.truth.released(in, in.released)
	}
}

// set writes a row: into memory at once, to the disk when the changelog has it.
func (m *message) set(key string, value any) {
	p, h := m.in.part, m.in.part.s.h
	p.rows[key] = value
	d := h.disk[p.number]
	if h.w.mutated("table on disk ahead of the changelog") {
		d.rows[key] = value
	}
	m.pending++
	h.w.tracef("%s writes row %s: %s", h.name, h.w.keyed(key), h.w.show(value))
	var s *sent
	s = h.producer.send(h.g.table, key, value, func(error) {
		if p.s.over || h.sess != p.s {
			return // whether the row counts is not known, so the message is not finished
		}
		// Where somebody else's records lie in between, the session ends, and the next one reads them.
		if s.offset != d.next && !h.w.mutated("foreign rows go unnoticed") {
			h.w.count("table: an owner notices a foreign row")
			h.w.tracef("%s finds a foreign row before its own and starts again !", h.name)
			p.s.over = true
			h.g.needRebalance()
			return
		}
		d.rows[key] = value
		d.next = s.offset + 1
		d.fence.Passes(s.epoch)
		m.done()
	})
	s.epoch = p.epoch
}

func (m *message) emit(t *topic, key string, value any) {
	m.pending++
	m.in.part.s.h.producer.send(t, key, value, func(error) { m.done() })
}

// commit asks the broker to note what is released; it arrives later.
func (s *session) commit() {
	if s == nil || !s.ready {
		return
	}
	w := s.h.w
	var all []commit
	for _, p := range s.parts {
		for _, in := range p.inputs {
			offset := in.tracker.Released()
			if w.mutated("commits out of order") {
				offset = max(offset, in.unordered)
			}
			if offset > 0 {
				all = append(all, commit{in.index, p.number, offset})
			}
		}
	}
	s.h.commits = append(s.h.commits, all)
}

// landCommits lets commits reach the broker, which refuses those of a session that is over.
func (h *host) landCommits(n int) bool {
	if len(h.commits) == 0 || h.sess == nil {
		return false
	}
	for range n {
		all := h.commits[0]
		h.commits = h.commits[1:]
		if h.sess.generation != h.g.generation {
			h.w.count("group: a commit is fenced")
			if h.zombieTo > 0 {
				h.zombieTo = min(h.zombieTo, h.w.step+h.w.rng.IntN(60))
			}
			continue
		}
		for _, c := range all {
			at := &h.g.committed[c.input][c.partition]
			if c.offset > *at {
				*at = c.offset
			}
		}
	}
	return true
}
