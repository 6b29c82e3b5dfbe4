package sim

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"freshet"
	"freshet/internal/feeds"
)

// mutate runs an operation, changed as the run's mutation says.
func (w *world) mutate(op feeds.Op) func() {
	m := w.redis.model
	if w.cfg.Mutation == "" {
		return m.Apply(op)
	}
	token := m.Token(op.InZone(w.layout))
	var before []func()
	switch op := op.(type) {
	case *feeds.PutBody:
		w.mutateBody(op, token, &before)
	case *feeds.RewriteOutbox:
		if w.mutated("ignore the token in RewriteOutbox") {
			op.Token = token
		}
		if w.mutated("an empty outbox begins every other") && len(op.Old) == 0 {
			read := &feeds.ReadOutbox{Author: op.Author}
			m.Apply(read)
			op.Old, op.New = read.Value, append(bytes.Clone(op.New), read.Value...)
		}
		if w.mutated("outbox compared by its length") {
			read := &feeds.ReadOutbox{Author: op.Author}
			m.Apply(read)
			op.Old = prefix(read.Value, len(op.Old))
		}
	case *feeds.DropOutbox:
		if w.mutated("a corrupt outbox is loaded anew") {
			return w.loadAnew(op)
		}
	case *feeds.SwapFeed:
		w.mutateSwap(op, token)
	case *feeds.Compact:
		if w.mutated("ignore the token in Compact") {
			op.Token = token
		}
		read := &feeds.ReadBlock{Block: op.Block, Slot: feeds.AllSlots}
		m.Apply(read)
		if w.mutated("no generation check") {
			op.Generation = read.Generation
		}
		if w.mutated("log compared by its length") {
			op.Log = prefix(read.Log, len(op.Log))
		}
		if w.mutated("build without marking") {
			for slot, value := range read.Feeds {
				// Entries of a feed that is being built are dropped, as those of a cold one.
				if feed, err := feeds.DecodeFeed(value); err == nil && feed.Building && op.Feeds != nil {
					op.Feeds[slot] = value
				}
			}
		}
	case *feeds.Advance:
		if w.mutated("counter moved after the watermarks were read") && w.late[lateKey{op.Zone,
			op.Writer}] == op.Counter {
			delete(w.late, lateKey{op.Zone, op.Writer})
			before = append(before, w.catchUp(op)...)
		}
		if w.mutated("no counter check") {
			look := &feeds.Open{Zone: op.Zone, Writer: op.Writer}
			if undo := m.Apply(look); undo != nil {
				undo()
			}
			if op.Token == token {
				defer func(counter int64) { op.Counter = counter }(op.Counter)
				op.Counter = look.Counter - 1
			}
		}
	case *feeds.Open:
		if w.mutated("looking again hides a loss") {
			op.Known = feeds.Known{}
		}
		if w.mutated("counter moved after the watermarks were read") {
			w.openLate(op)
			return nil
		}
	case *feeds.Recover:
		w.mutateRecover(op)
	}
	undo := m.Apply(op)
	if len(before) > 0 {
		after := undo
		undo = func() {
			if after != nil {
				after()
			}
			for _, f := range slices.Backward(before) {
				f()
			}
		}
	}
	w.mutateAnswer(op)
	return undo
}

// lateKey is a writer's counter in a zone that is yet to be moved.
type lateKey struct {
	zone   feeds.Zone
	writer string
}

// openLate answers Open without moving the counter, which the next step does.
func (w *world) openLate(op *feeds.Open) {
	if w.late == nil {
		w.late = map[lateKey]int64{}
	}
	key := lateKey{op.Zone, op.Writer}
	if counter, ok := w.late[key]; ok {
		w.catchUp(&feeds.Advance{Zone: op.Zone, Writer: op.Writer, Counter: counter})
	}
	if undo := w.redis.model.Apply(op); undo != nil {
		undo()
	}
	w.late[key] = op.Counter
}

func (w *world) catchUp(op *feeds.Advance) (undo []func()) {
	for range op.Counter + 1 {
		look := &feeds.Open{Zone: op.Zone, Writer: op.Writer}
		u := w.redis.model.Apply(look)
		if look.Counter > op.Counter {
			u()
			break
		}
		undo = append(undo, u)
	}
	return undo
}

func prefix(value []byte, length int) []byte {
	if len(value) < length {
		return append(bytes.Clone(value), 1) // nothing begins with it
	}
	return value[:length]
}

func (w *world) mutateBody(op *feeds.PutBody, token string, before *[]func()) {
	if w.mutated("ignore the token in PutBody") {
		op.Token = token
	}
	look := &feeds.ReadBody{Post: op.Post}
	w.redis.model.Apply(look)
	older := !look.Deleted && op.Offset < look.Offset
	if w.mutated("tombstone overwritten") && look.Deleted || w.mutated("an older body over a later one") && older {
		*before = append(*before, w.redis.model.DropPost(op.Post))
	}
	if w.mutated("an edit leaves a stored post's body") && op.Replace {
		op.Token = "none"
	}
}

// loadAnew puts what the post store has in the place of an outbox that cannot be read, as if that were all.
func (w *world) loadAnew(op *feeds.DropOutbox) func() {
	read := &feeds.ReadOutbox{Author: op.Author}
	w.redis.model.Apply(read)
	value := bytes.Repeat([]byte{0xff}, 8)
	for _, row := range w.store.byAuthor[op.Author] {
		if row.created >= 0 && row.deleted < 0 {
			value = feeds.AppendID(value, row.post.ID)
		}
	}
	return w.redis.model.Apply(&feeds.RewriteOutbox{Author: op.Author, Token: op.Token, Old: read.Value, New: value})
}

func (w *world) mutateSwap(op *feeds.SwapFeed, token string) {
	if w.mutated("ignore the token in SwapFeed") {
		op.Token = token
	}
	read := &feeds.ReadBlock{Block: op.Block, Slot: int(op.Slot)}
	w.redis.model.Apply(read)
	if w.mutated("no generation check") {
		op.Generation = read.Generation
	}
}

func (w *world) mutateRecover(op *feeds.Recover) {
	if key := (lateKey{op.Zone, op.Writer}); w.late != nil && w.late[key] == op.Counter {
		delete(w.late, key)
		w.catchUp(&feeds.Advance{Zone: op.Zone, Writer: op.Writer, Counter: op.Counter})
	}
	if w.mutated("no watermarks in a new zone") && op.Old == "" {
		op.Marks = nil
	}
	if w.mutated("a zone lost twice looks lost once") && op.Old == "" {
		look := &feeds.Open{Zone: op.Zone, Writer: op.Writer}
		if undo := w.redis.model.Apply(look); undo != nil {
			undo()
		}
		op.Counter = look.Counter - 1
	}
	if w.mutated("tokens without an order") {
		if _, name, found := strings.Cut(op.New, "-"); found {
			if w.unnumbered == nil {
				w.unnumbered = map[string]uint64{}
			}
			if w.unnumbered[name] == 0 {
				w.unnumbered[name] = uint64(len(w.unnumbered) + 1)
			}
			op.New = name
		}
	}
}

func (w *world) mutateAnswer(op feeds.Op) {
	switch op := op.(type) {
	case *feeds.ReadBody:
		w.mutateRead(op)
	case *feeds.ReadOutbox:
		if w.mutated("a feed built from an outbox in a lost zone") && op.State.Token == "" {
			op.State = feeds.ZoneState{Token: "any", Recovering: true}
		}
		if w.mutated("complete though a zone recovers") {
			op.State.Recovering = false
		}
	case *feeds.ReadBlock:
		if w.mutated("complete though a zone recovers") {
			op.State.Recovering = false
		}
		if w.mutated("a build ends whoever's it is") && w.current != nil && w.current.build != 0 &&
			op.Slot != feeds.AllSlots {
			if feed, err := feeds.DecodeFeed(op.Feeds[byte(op.Slot)]); err == nil && feed.Building {
				feed.Build = w.current.build
				op.Feeds[byte(op.Slot)] = feed.Encode()
			}
		}
	}
}

func (w *world) mutateRead(read *feeds.ReadBody) {
	if w.mutated("bodies trusted while recovering") && read.State.Token != "" {
		read.State.Recovering = false
	}
	if w.mutated("the store trusted while recovering") {
		read.Waits = nil
		if read.State.Token == "" {
			read.State = feeds.ZoneState{Token: "any", Recovering: true}
		}
	}
	if w.mutated("no look for tombstones below the floor") && w.current.below {
		read.Deleted, read.Body, read.Waits, read.State.Token = false, nil, nil, "any"
	}
}

// reorder changes what a process asks Redis for at once, for mutations of the order between steps.
func (w *world) reorder(x *conn, ops []feeds.Op) []feeds.Op {
	switch w.cfg.Mutation {
	case "outbox after the logs":
		return x.lateOutboxes(ops)
	case "no outbox entry from children":
		return x.rootsOutboxes(ops)
	case "lost zones renewed first", "recovering only in lost zones":
		return x.renewal(ops, w.mutated("lost zones renewed first"))
	}
	return ops
}

// rootsOutboxes leaves out of outboxes what came from a parent.
func (x *conn) rootsOutboxes(ops []feeds.Op) []feeds.Op {
	var kept []feeds.Op
	for _, op := range ops {
		outbox, ok := op.(*feeds.AppendOutbox)
		if !ok {
			kept = append(kept, op)
			continue
		}
		var ids []byte
		for id := range slices.Chunk(outbox.IDs, 8) {
			if !x.below[freshet.PostID(binary.BigEndian.Uint64(id))] {
				ids = append(ids, id...)
			}
		}
		if len(ids) > 0 {
			kept = append(kept, &feeds.AppendOutbox{Author: outbox.Author, IDs: ids})
		}
	}
	return kept
}

// lateOutboxes puts what goes into outboxes off to the writer's next step.
func (x *conn) lateOutboxes(ops []feeds.Op) []feeds.Op {
	if _, ok := ops[len(ops)-1].(*feeds.Advance); !ok {
		return ops
	}
	var now, later []feeds.Op
	for _, op := range ops {
		if _, ok := op.(*feeds.AppendOutbox); ok {
			later = append(later, op)
		} else {
			now = append(now, op)
		}
	}
	now = append(now, x.held...)
	x.held = later
	return now
}

// renewal spoils the first half of a recovery, that of the zones that are well.
func (x *conn) renewal(ops []feeds.Op, swap bool) []feeds.Op {
	if _, ok := ops[0].(*feeds.Recover); !ok {
		if _, opens := ops[0].(*feeds.Open); opens {
			x.held, x.renewing = nil, false
		}
		return ops
	}
	if x.renewing {
		ops = append(slices.Clone(ops), x.held...)
		x.held, x.renewing = nil, false
		return ops
	}
	if len(ops) == x.c.w.layout.Zones {
		return ops
	}
	x.renewing = true
	for _, op := range ops {
		renewed, _ := op.(*feeds.Recover)
		if swap {
			renewed.OK = true
		} else {
			renewed.Ends = nil
		}
	}
	if swap {
		x.held = ops
		return nil
	}
	return ops
}
