package sim

import (
	"context"
	"errors"
	"fmt"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/feeds/feedstest"
)

// cluster is Redis: several nodes, over which the zones are spread, each with the history of its writes.
type cluster struct {
	w     *world
	model *feedstest.Model
	nodes []*node
}

type node struct {
	number  int
	history []write
	epoch   int // grows when connections are cut
	awayTo  int // the step until which nobody reaches it
	slowTo  int
}

type write struct {
	op   feeds.Op // nil: FLUSHALL, or somebody's mischief
	undo func()
}

const longestHistory = 4000

func newCluster(w *world) *cluster {
	c := &cluster{w: w, model: feedstest.NewModel(w.layout, w.clock)}
	for i := range w.shape.nodes {
		c.nodes = append(c.nodes, &node{number: i})
	}
	return c
}

func (c *cluster) nodeOf(zone feeds.Zone) *node { return c.nodes[int(zone)%len(c.nodes)] }

func (c *cluster) apply(p *proc, op feeds.Op) {
	zone := op.InZone(c.w.layout)
	cold := c.coldBy(op)
	undo := c.w.mutate(op)
	c.w.watch(p, op)
	if compact, ok := op.(*feeds.Compact); ok && compact.OK && cold {
		c.w.count("compaction: a feed made cold")
	}
	if undo != nil {
		c.nodeOf(zone).note(write{op, undo})
	}
}

// coldBy says whether the operation is a compaction that leaves a feed out.
func (c *cluster) coldBy(op feeds.Op) bool {
	compact, ok := op.(*feeds.Compact)
	if !ok || compact.Feeds == nil {
		return false
	}
	read := &feeds.ReadBlock{Block: compact.Block, Slot: feeds.AllSlots}
	c.model.Apply(read)
	for slot := range read.Feeds {
		if _, warm := compact.Feeds[slot]; !warm {
			return true
		}
	}
	return false
}

func (n *node) note(w write) {
	n.history = append(n.history, w)
	if len(n.history) > 2*longestHistory {
		n.history = append([]write(nil), n.history[longestHistory:]...)
	}
}

// conn is a process' way to Redis.
type conn struct {
	c *cluster
	p *proc
	// For mutations: operations held back, and whether half of a renewal is done.
	held     []feeds.Op
	renewing bool
	below    map[freshet.PostID]bool // posts that came from a parent
}

var errCut = errors.New("connection reset by peer")

// Do implements feeds.Conn: the operations of a node in order, the nodes in any order; before each of them, and
// before the answers are there, anything can happen.
func (x *conn) Do(_ context.Context, ops ...feeds.Op) error {
	w := x.c.w
	ops = w.reorder(x, ops)
	queues := make([][]feeds.Op, len(x.c.nodes))
	epochs := make([]int, len(x.c.nodes))
	left := len(ops)
	for _, op := range ops {
		n := x.c.nodeOf(op.InZone(w.layout)).number
		queues[n] = append(queues[n], op)
	}
	for i, n := range x.c.nodes {
		epochs[i] = n.epoch
	}
	var failed error
	for left > 0 {
		w.current.until(nil)
		i := w.rng.IntN(len(queues))
		for len(queues[i]) == 0 {
			i = (i + 1) % len(queues)
		}
		n := x.c.nodes[i]
		switch {
		case w.step < n.awayTo && !w.quiet, n.epoch != epochs[i]:
			failed = fmt.Errorf("%w: node %d: %w", feeds.ErrAway, i, errCut)
			left -= len(queues[i])
			queues[i] = nil
			w.count("redis: pipeline cut")
			continue
		case w.step < n.slowTo && !w.quiet && !w.chance(10):
			continue
		}
		if w.scene != nil && w.scene.holds(w.current, queues[i][0]) {
			continue
		}
		if w.strike(x, queues[i][0]) {
			continue
		}
		x.c.apply(x.p, queues[i][0])
		queues[i] = queues[i][1:]
		left--
	}
	w.current.pass()
	for _, op := range ops {
		if n := x.c.nodeOf(op.InZone(w.layout)); n.epoch != epochs[n.number] {
			return fmt.Errorf("%w: node %d: %w", feeds.ErrAway, n.number, errCut)
		}
	}
	return failed
}

// lose takes the node back to an earlier point of its history, and cuts its connections.
func (c *cluster) lose(n *node, writes int) {
	n.epoch++
	writes = min(writes, len(n.history))
	gone := n.history[len(n.history)-writes:]
	for i := len(gone) - 1; i >= 0; i-- {
		gone[i].undo()
	}
	n.history = n.history[:len(n.history)-writes]
	c.w.tracef("redis node %d (zones %v) loses %d writes !", n.number, c.zonesOf(n), writes)
	c.w.truth.lost(n)
}

// flushAll empties the node; nobody's connection is cut. A later loss can bring back what was there before.
func (c *cluster) flushAll(n *node) {
	var undos []func()
	for _, zone := range c.zonesOf(n) {
		undos = append(undos, c.model.Clear(zone))
	}
	c.w.tracef("redis node %d (zones %v): FLUSHALL !", n.number, c.zonesOf(n))
	n.note(write{nil, func() {
		for _, undo := range undos {
			undo()
		}
	}})
	c.w.truth.lost(n)
}

func (c *cluster) zonesOf(n *node) []feeds.Zone {
	var zones []feeds.Zone
	for zone := range feeds.Zone(c.w.layout.Zones) {
		if c.nodeOf(zone) == n {
			zones = append(zones, zone)
		}
	}
	return zones
}
