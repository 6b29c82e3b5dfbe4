package sim

import (
	"freshet"
	"freshet/processors/fanout"
	"freshet/processors/following"
)

// onFollow and onReport are the callbacks of following.
func (p *part) onFollow(m *message, r *record, e following.Event) {
	e.Offset = r.offset
	row, _ := p.rows[r.key].(*freshet.Following)
	next, statements := following.Apply(row, e)
	if p.s.h.w.mutated("applied without a report") && next != row {
		for i := range next.Relations {
			if relation := &next.Relations[i]; !relation.Applied && relation.Follows {
				relation.Applied, relation.AppliedAt = true, next.Version
			}
		}
	}
	p.store(m, r.key, row, next, statements)
}

func (p *part) onReport(m *message, r *record, report following.AppliedReport) {
	w := p.s.h.w
	row, _ := p.rows[r.key].(*freshet.Following)
	if w.mutated("report compared without its version") {
		if relation, ok := row.Relation(report.Followee); ok && relation.Follows == report.Held {
			report.Version = relation.Version
		}
	}
	if w.mutated("a contradiction is left alone") {
		if relation, ok := row.Relation(report.Followee); !ok || relation.Version != report.Version {
			return
		}
	}
	next, statements := following.Report(row, report)
	if len(statements) > 0 {
		w.count("following: the truth is stated again")
	}
	p.store(m, r.key, row, next, statements)
}

func (p *part) store(m *message, key string, row, next *freshet.Following, statements []following.Statement) {
	w := p.s.h.w
	if next != row {
		m.set(key, next)
	}
	for _, s := range statements {
		w.tracef("%s states: %v follows %v: %t, version %d", p.s.h.name, s.Follower, s.Followee, s.Follows, s.Version)
		m.emit(w.followers, s.Followee.Key(), s)
	}
}

// onStatement, onPost and onLoop are those of fan-out.
func (p *part) onStatement(m *message, s following.Statement) {
	key := s.Followee.Key()
	node, _ := p.rows[key].(*fanout.Node)
	w := p.s.h.w
	next, out := w.tree.OnFollower(s.Followee, node, fanout.State{
		Follower: s.Follower, Follows: s.Follows, Version: s.Version,
	})
	if w.mutated("removal stops at the page that held") {
		stopRemoval(node, fanout.Address{Author: s.Followee}, fanout.State{Follower: s.Follower,
			Follows: s.Follows, Version: s.Version}, &out)
	}
	p.carryOut(m, key, next, out)
}

// stopRemoval is a mutation: what would be passed on is reported.
func stopRemoval(node *fanout.Node, at fanout.Address, s fanout.State, out *fanout.Outcome) {
	if s.Follows || !node.Holds(s.Follower) || out.Report != nil || len(out.Loop) == 0 {
		return
	}
	out.Loop = out.Loop[:len(out.Loop)-1]
	out.Report = &fanout.Report{Follower: s.Follower, Followee: at.Author, Version: s.Version}
}

func (p *part) onPost(m *message, r *record, e freshet.PostEvent, offset int64, replayed bool) {
	h, w := p.s.h, p.s.h.w
	node, _ := p.rows[r.key].(*fanout.Node)
	zone := w.layout.OfPost(e.Post.ID)
	next, out := w.tree.OnPost(e.Post.Author, node, fanout.PostRecord{
		Event: e, Offset: offset, Replayed: replayed, Body: encodeBody(e), Token: h.writer.flusher.Token(zone),
		Stored: h.writer.stored[p.number] > offset && !w.mutated("body written though stored"),
		Known:  h.pulled.Known(e.Post.Author),
	})
	delete(h.writer.conn.below, e.Post.ID)
	w.judged(e.Post.Author, node, next, out)
	w.tracef("%s handles %s/%d@%d: %v %v", h.name, r.topic.name, p.number, r.offset, kindName(e.Kind), e.Post.ID)
	p.carryOut(m, r.key, next, out)
}

func (p *part) onLoop(m *message, r *record, message fanout.LoopMessage) {
	w := p.s.h.w
	node, _ := p.rows[r.key].(*fanout.Node)
	if len(message.To.Path) >= 2 {
		w.count("tree: a node at depth 2 or deeper")
	}
	next, out := w.tree.OnLoop(node, message)
	if w.mutated("removal stops at the page that held") && message.Kind == fanout.LoopFollower {
		stopRemoval(node, message.To, message.State, &out)
	}
	if w.mutated("no outbox entry from children") && message.Kind == fanout.LoopDeliver {
		p.s.h.writer.conn.below[message.Post] = true
	}
	p.carryOut(m, r.key, next, out)
}

func (p *part) carryOut(m *message, key string, node *fanout.Node, out fanout.Outcome) {
	h, w := p.s.h, p.s.h.w
	if out.Changed {
		m.set(key, node)
	}
	send := func() {
		for _, l := range out.Loop {
			m.emit(w.loop, l.To.Key(), l)
		}
	}
	if out.Opening && !w.mutated("a child is opened while a flush is under way") {
		w.count("tree: a child is opened")
		p.waits = true
		m.pending++
		h.writer.barrier(func() {
			if !p.s.over && h.sess == p.s {
				p.waits = false
				send()
				m.done()
			}
		})
	} else {
		send()
	}
	if out.Delivery != nil {
		w.tracef("%s hands over %v for %v", h.name, out.Delivery.Post, out.Delivery.Followers)
		m.pending++
		h.writer.add(*out.Delivery, m.done)
	}
	p.announce(m, out.Tier)
	if out.Report == nil {
		return
	}
	report := following.AppliedReport{
		Follower: out.Report.Follower, Followee: out.Report.Followee, Held: out.Report.Held, Version: out.Report.Version,
	}
	tell := func(ack func()) {
		w.tracef("%s reports: %v holds %v: %t, version %d", h.name, report.Followee, report.Follower, report.Held,
			report.Version)
		h.producer.send(w.applied, report.Follower.Key(), report, func(error) { ack() })
	}
	if w.mutated("report before the table and the flush") {
		tell(func() {})
		return
	}
	m.in.tracker.Follow(m.offset)
	m.in.followUps = append(m.in.followUps, followUp{m.offset, tell})
	if !w.mutated("no barrier before a report") {
		m.pending++
		h.writer.barrier(m.done)
	}
}
