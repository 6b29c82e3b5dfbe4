package feeds

import "freshet"

// heads are what must be in Redis before any feed names the posts: bodies, tombstones, outboxes.
type heads struct {
	bodies     []*PutBody
	tombstones []*PutTombstone
	outboxes   []*AppendOutbox
	outboxOf   map[freshet.Number]*AppendOutbox
	size       int // in bytes, about
}

func newHeads() heads { return heads{outboxOf: map[freshet.Number]*AppendOutbox{}} }

func (h *heads) reset() {
	clear(h.bodies)
	clear(h.tombstones)
	clear(h.outboxes)
	clear(h.outboxOf)
	h.bodies, h.tombstones, h.outboxes = h.bodies[:0], h.tombstones[:0], h.outboxes[:0]
	h.size = 0
}

// add takes in what comes first of a delivery.
func (h *heads) add(d *Delivery) {
	if d.Kind == freshet.PostDeleted {
		h.tombstones = append(h.tombstones, &PutTombstone{Post: d.Post})
		h.size += idSize
		return
	}
	if d.Body != nil {
		body := *d.Body
		h.bodies = append(h.bodies, &body)
		h.size += len(body.Body) + idSize
	}
	if d.Kind != freshet.PostCreated {
		return
	}
	outbox := h.outboxOf[d.Author]
	if outbox == nil {
		outbox = &AppendOutbox{Author: d.Author}
		h.outboxOf[d.Author] = outbox
		h.outboxes = append(h.outboxes, outbox)
	}
	outbox.IDs = AppendID(outbox.IDs, d.Post)
	h.size += idSize
}

// first is all of them, as operations.
func (h *heads) first() []Op {
	ops := make([]Op, 0, len(h.bodies)+len(h.tombstones)+len(h.outboxes))
	for _, op := range h.bodies {
		ops = append(ops, op)
	}
	for _, op := range h.tombstones {
		ops = append(ops, op)
	}
	for _, op := range h.outboxes {
		ops = append(ops, op)
	}
	return ops
}
