package emitters

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"freshet"
)

// Position is where a record lies, and whose row it changes.
type Position struct {
	Topic     freshet.Topic
	Partition int32
	Offset    int64
	// Key is the record's key: the row that shows the write is the one under this key, and rows under other keys of
	// the partition never name the offset.
	Key string
}

// ErrPosition is wrapped by the errors of ParsePosition.
var ErrPosition = errors.New("want topic:partition:offset:key, as a write answered it")

// String is the position as the Freshet-Position header carries it: topic:partition:offset:key.
func (p Position) String() string {
	return string(p.Topic) + ":" + strconv.FormatInt(int64(p.Partition), 10) + ":" +
		strconv.FormatInt(p.Offset, 10) + ":" + p.Key
}

// ParsePosition reads what String wrote.
func ParsePosition(s string) (Position, error) {
	bad := func(what string) (Position, error) {
		return Position{}, fmt.Errorf("position %q: %s: %w", s, what, ErrPosition)
	}
	parts := strings.Split(s, ":")
	if len(parts) != 4 {
		return bad(fmt.Sprintf("%d parts", len(parts)))
	}
	switch freshet.Topic(parts[0]) {
	case freshet.Registrations, freshet.Profiles, freshet.Follows, freshet.Posts:
	default:
		return bad("unknown topic")
	}
	partition, err := strconv.ParseUint(parts[1], 10, 31)
	if err != nil {
		return bad("partition")
	}
	offset, err := strconv.ParseUint(parts[2], 10, 63)
	if err != nil {
		return bad("offset")
	}
	if parts[3] == "" {
		return bad("no key")
	}
	return Position{
		Topic: freshet.Topic(parts[0]), Partition: int32(partition), Offset: int64(offset), Key: parts[3],
	}, nil
}
