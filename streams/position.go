package streams

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
)

// Position is how far a stream is: in each partition of posts, the offset of the next record. It does not depend on the
// process that made it, nor on anybody's clock.
type Position []int64

// ErrPosition is the error of ParsePosition.
var ErrPosition = errors.New("not the position of a stream")

// maxPartitions bounds a position that is parsed.
const maxPartitions = 1024

// Append appends the position's bytes: the number of partitions and an offset for each, as unsigned varints.
func (p Position) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	for _, offset := range p {
		b = binary.AppendUvarint(b, uint64(offset))
	}
	return b
}

// ParsePosition reads what Append wrote.
func ParsePosition(b []byte) (Position, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > maxPartitions {
		return nil, ErrPosition
	}
	b = b[n:]
	p := make(Position, count)
	for i := range p {
		offset, n := binary.Uvarint(b)
		if n <= 0 || offset > 1<<62 {
			return nil, ErrPosition
		}
		p[i], b = int64(offset), b[n:]
	}
	if len(b) > 0 {
		return nil, ErrPosition
	}
	return p, nil
}

// covers says whether nothing lies below the other position that does not lie below this one.
func (p Position) covers(other Position) bool {
	for i, offset := range other {
		if p[i] < offset {
			return false
		}
	}
	return true
}

// Mark is a position that many streams have come to.
type Mark struct {
	Position Position
	once     sync.Once
	text     string
}

func markAt(p Position) *Mark { return &Mark{Position: slices.Clone(p)} }

// Text is what encode makes of the position; it is asked once.
func (m *Mark) Text(encode func(Position) string) string {
	m.once.Do(func() { m.text = encode(m.Position) })
	return m.text
}
