package feeds

import "freshet"

// Delivery is a post on its way to some followers of its author, an edit of it, or its end.
type Delivery struct {
	Kind   freshet.PostEventKind
	Author freshet.Number
	Post   freshet.PostID
	// Followers get an entry in their feeds; the author's outbox gets one even if there are none.
	Followers []freshet.Number
	// Body, when not nil, is the body to write before anything else: only for posts that the post store may lack.
	Body *PutBody
	// Large says that this is one of many pages of followers: other deliveries need not wait for all of them.
	Large bool
}

// Batch is what is flushed together, filled by Backlog.Take. The order of its operations depends on nothing but the
// order in which deliveries came, so that a simulation can repeat it.
//
// An entry costs no allocation: it is noted as it comes, 16 bytes behind the one before, and the flush sorts what has
// come by block. Looking the block up for each entry would cost ten times as much, because of the caches it misses.
type Batch struct {
	heads
	entries []entry

	sorted []entry // as long as entries, for the sort
	values []byte  // the entries as Redis gets them
	logs   []AppendLog
	ops    []Op
	ready  bool // logs are those of entries
}

// entry is a post for an account.
type entry struct {
	account freshet.Number
	post    freshet.PostID
}

// NewBatch makes an empty batch.
func NewBatch() *Batch { return &Batch{heads: newHeads()} }

// Reset empties a batch whose flush is over, to be filled again. What a flush has answered must not be used any more.
func (b *Batch) Reset() {
	b.heads.reset()
	b.entries, b.ready = b.entries[:0], false
}

// take moves entries to the end of the batch, out of a list that is empty then.
func (b *Batch) take(entries *[]entry) {
	b.entries = append(b.entries, *entries...)
	*entries = (*entries)[:0]
	b.ready = false
}

// Empty says that there is nothing to write.
func (b *Batch) Empty() bool { return b.heads.size == 0 && len(b.entries) == 0 }

// Entries is how many feed entries the batch holds.
func (b *Batch) Entries() int { return len(b.entries) }

// second is the feed entries: those of a block together, in the order in which they were taken.
func (b *Batch) second() []Op {
	b.group()
	b.ops = b.ops[:0]
	for i := range b.logs {
		b.ops = append(b.ops, &b.logs[i])
	}
	return b.ops
}

func (b *Batch) group() {
	if b.ready {
		return
	}
	b.sort()
	if need := entrySize * len(b.entries); cap(b.values) < need {
		b.values = make([]byte, 0, need+need/4)
	}
	b.values, b.logs = b.values[:0], b.logs[:0]
	for rest := b.entries; len(rest) > 0; {
		block, begin, n := rest[0].account.Block(), len(b.values), 0
		for n < len(rest) && rest[n].account.Block() == block {
			b.values = AppendEntry(b.values, rest[n].account.Slot(), rest[n].post)
			n++
		}
		b.logs = append(b.logs, AppendLog{Block: block, Entries: b.values[begin:len(b.values):len(b.values)]})
		rest = rest[n:]
	}
	b.ready = true
}

// digitBits is how many bits a pass of the sort looks at: its 2,048 counters and ends of buckets stay in the caches.
const digitBits = 11

// sort brings the entries of a block together, without changing their order: a radix sort, from the lowest digit on,
// that leaves out the digits in which all blocks are the same. A pass costs some nanoseconds an entry, and two or
// three are enough for a million accounts.
func (b *Batch) sort() {
	if len(b.entries) == 0 {
		return
	}
	differ, first := uint64(0), b.entries[0].account.Block()
	for i := range b.entries {
		differ |= b.entries[i].account.Block() ^ first
	}
	if cap(b.sorted) < len(b.entries) {
		b.sorted = make([]entry, cap(b.entries))
	}
	from, to := b.entries, b.sorted[:len(b.entries)]
	for shift := 0; differ>>shift != 0; shift += digitBits {
		if differ>>shift&(1<<digitBits-1) == 0 {
			continue
		}
		var at [1 << digitBits]uint32
		for i := range from {
			at[from[i].account.Block()>>shift&(1<<digitBits-1)]++
		}
		sum := uint32(0)
		for digit, n := range &at {
			at[digit] = sum
			sum += n
		}
		for _, e := range from {
			digit := e.account.Block() >> shift & (1<<digitBits - 1)
			to[at[digit]] = e
			at[digit]++
		}
		from, to = to, from
	}
	b.entries, b.sorted = from, to
}
