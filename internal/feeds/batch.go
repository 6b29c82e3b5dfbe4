package feeds

import (
	"freshet"
)

// Delivery is a post on its way to some followers of its author, an edit of it, or its end.
type Delivery struct {
	Kind   freshet.PostEventKind
	Author freshet.Number
	Post   freshet.PostID
	// Followers get an entry in their feeds; the author's outbox gets one even if there are none.
	Followers []freshet.Number
	// Body, when not nil, is the body to write before anything else: only for posts that the post store may lack.
	Body *PutBody
}

// Batch collects deliveries for one flush. The order of its operations depends on nothing but the order of Add, so that
// a simulation can repeat it.
type Batch struct {
	bodies     []*PutBody
	tombstones []*PutTombstone
	outboxes   []*AppendOutbox
	outboxOf   map[freshet.Number]*AppendOutbox
	logs       []*AppendLog
	logOf      map[uint64]*AppendLog
	entries    int
	bytes      int
}

// NewBatch makes an empty batch.
func NewBatch() *Batch {
	return &Batch{outboxOf: map[freshet.Number]*AppendOutbox{}, logOf: map[uint64]*AppendLog{}}
}

// Add takes a delivery in. It keeps nothing of d.Followers.
func (b *Batch) Add(d Delivery) {
	if d.Kind == freshet.PostDeleted {
		b.tombstones = append(b.tombstones, &PutTombstone{Post: d.Post})
		b.bytes += idSize
		return
	}
	if d.Body != nil {
		body := *d.Body
		b.bodies = append(b.bodies, &body)
		b.bytes += len(body.Body)
	}
	if d.Kind != freshet.PostCreated {
		return
	}
	outbox := b.outboxOf[d.Author]
	if outbox == nil {
		outbox = &AppendOutbox{Author: d.Author}
		b.outboxOf[d.Author] = outbox
		b.outboxes = append(b.outboxes, outbox)
	}
	outbox.IDs = AppendID(outbox.IDs, d.Post)
	for _, follower := range d.Followers {
		log := b.logOf[follower.Block()]
		if log == nil {
			log = &AppendLog{Block: follower.Block()}
			b.logOf[follower.Block()] = log
			b.logs = append(b.logs, log)
		}
		log.Entries = AppendEntry(log.Entries, follower.Slot(), d.Post)
	}
	b.entries += len(d.Followers)
	b.bytes += idSize + entrySize*len(d.Followers)
}

// Empty says that there is nothing to write.
func (b *Batch) Empty() bool { return b.bytes == 0 }

// Entries is how many feed entries the batch holds.
func (b *Batch) Entries() int { return b.entries }

// Bytes is how much the batch will write, about.
func (b *Batch) Bytes() int { return b.bytes }

// first is what must be in Redis before any feed names the posts: bodies, tombstones, outboxes.
func (b *Batch) first() []Op {
	ops := make([]Op, 0, len(b.bodies)+len(b.tombstones)+len(b.outboxes))
	for _, op := range b.bodies {
		ops = append(ops, op)
	}
	for _, op := range b.tombstones {
		ops = append(ops, op)
	}
	for _, op := range b.outboxes {
		ops = append(ops, op)
	}
	return ops
}

// second is the feed entries.
func (b *Batch) second() []Op {
	ops := make([]Op, 0, len(b.logs))
	for _, op := range b.logs {
		ops = append(ops, op)
	}
	return ops
}
