package events

import (
	"encoding/binary"
	"fmt"
	"math"

	"freshet"
)

// FollowingRow.Relations is how many relations there are, as uvarint, and then each, in the order of their accounts:
//
//	account:uvarint   the difference to the last one's, the first from 0
//	what:u1           follows, applied, and which of the following stand behind it
//	offset:varint     the difference to the last one's offset, the first from 0: the version without its low 16 bits
//	attempt:uvarint   the low 16 bits of the version, if not 0
//	appliedAt:varint  the difference to the last one's, the first from 0
//
// One event of an import makes a thousand relations, and their reports come back together, so most of them have the
// version and the time of the one before: four or five bytes in all.
const (
	packedFollows byte = 1 << iota
	packedApplied
	packedOffset
	packedAttempt
	packedAppliedAt

	knownPacked = packedFollows | packedApplied | packedOffset | packedAttempt | packedAppliedAt

	attemptBits = 16
)

func packRelations(relations []freshet.Relation) []byte {
	if len(relations) == 0 {
		return nil
	}
	data := make([]byte, 0, 6*len(relations)+2*binary.MaxVarintLen64)
	data = binary.AppendUvarint(data, uint64(len(relations)))
	var last freshet.Relation
	for _, r := range relations {
		data = binary.AppendUvarint(data, uint64(r.Account-last.Account))
		what := len(data)
		data = append(data, 0)
		if r.Follows {
			data[what] |= packedFollows
		}
		if r.Applied {
			data[what] |= packedApplied
		}
		offset, attempt := r.Version>>attemptBits, r.Version&(1<<attemptBits-1)
		if before := last.Version >> attemptBits; offset != before {
			data[what] |= packedOffset
			data = binary.AppendVarint(data, offset-before)
		}
		if attempt != 0 {
			data[what] |= packedAttempt
			data = binary.AppendUvarint(data, uint64(attempt))
		}
		if r.AppliedAt != last.AppliedAt {
			data[what] |= packedAppliedAt
			data = binary.AppendVarint(data, int64(r.AppliedAt-last.AppliedAt))
		}
		last = r
	}
	return data
}

func unpackRelations(data []byte) ([]freshet.Relation, error) {
	if len(data) == 0 {
		return nil, nil
	}
	d := unpacker{rest: data}
	count := d.uvarint()
	if count == 0 || count > uint64(len(d.rest))/2 { // a relation is two bytes or more
		return nil, fmt.Errorf("%w: %d relations in %d bytes", ErrFollowingRow, count, len(data))
	}
	relations := make([]freshet.Relation, 0, count)
	var last freshet.Relation
	for range count {
		r := freshet.Relation{Version: last.Version &^ (1<<attemptBits - 1), AppliedAt: last.AppliedAt}
		difference := d.uvarint()
		what := d.byte()
		r.Follows, r.Applied = what&packedFollows != 0, what&packedApplied != 0
		if what&packedOffset != 0 {
			offset := r.Version>>attemptBits + d.varint()
			if offset < 0 || offset > math.MaxInt64>>attemptBits {
				d.broken = true
			}
			r.Version = offset << attemptBits
		}
		if what&packedAttempt != 0 {
			attempt := d.uvarint()
			if attempt >= 1<<attemptBits {
				d.broken = true
			}
			r.Version |= int64(attempt)
		}
		if what&packedAppliedAt != 0 {
			r.AppliedAt += uint64(d.varint())
		}
		switch {
		case d.broken || what&^knownPacked != 0:
			return nil, fmt.Errorf("%w: relation %d cannot be read", ErrFollowingRow, len(relations))
		case len(relations) > 0 && difference == 0:
			return nil, fmt.Errorf("%w: account %d is there twice", ErrFollowingRow, last.Account)
		case difference > math.MaxInt64-uint64(last.Account):
			return nil, fmt.Errorf("%w: relation %d: a number past 2^63-1", ErrFollowingRow, len(relations))
		}
		r.Account = last.Account + freshet.Number(difference)
		relations = append(relations, r)
		last = r
	}
	if len(d.rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind %d relations", ErrFollowingRow, len(d.rest), count)
	}
	return relations, nil
}

// unpacker reads what is there and remembers when there was too little.
type unpacker struct {
	rest   []byte
	broken bool
}

func (d *unpacker) take(n int) {
	if n <= 0 {
		d.broken, d.rest = true, nil
		return
	}
	d.rest = d.rest[n:]
}

func (d *unpacker) byte() byte {
	if len(d.rest) == 0 {
		d.broken = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *unpacker) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	d.take(n)
	return v
}

func (d *unpacker) varint() int64 {
	v, n := binary.Varint(d.rest)
	d.take(n)
	return v
}
