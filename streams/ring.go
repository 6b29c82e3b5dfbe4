package streams

import (
	"freshet"
)

// ref is a record of posts, as much of it as is kept: 32 bytes.
type ref struct {
	offset    int64
	author    freshet.Number
	post      freshet.PostID
	partition int32
	kind      int32
}

// DefaultRing is how many records are kept: 8 MiB. That is what 1,200 posts a second come to in three and a half
// minutes.
const DefaultRing = 1 << 18

// ring is the last records, in the order in which they were handed out. It is not safe for concurrent use.
type ring struct {
	refs []ref // that of number n is at n modulo its length
	end  uint64
	// floor: the ring has every record of a partition from this offset up to what was read.
	floor Position
}

func newRing(size int, floor Position) ring { return ring{refs: make([]ref, size), floor: floor} }

// first is the number of the oldest record that is kept.
func (r *ring) first() uint64 {
	if n := uint64(len(r.refs)); r.end > n {
		return r.end - n
	}
	return 0
}

func (r *ring) at(n uint64) ref { return r.refs[n%uint64(len(r.refs))] }

func (r *ring) push(next ref) {
	place := &r.refs[r.end%uint64(len(r.refs))]
	if r.end >= uint64(len(r.refs)) {
		r.floor[place.partition] = place.offset + 1
	}
	*place = next
	r.end++
}
