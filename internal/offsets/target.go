package offsets

import (
	"fmt"
	"strconv"
	"time"
)

// Target is where a group is to go. The zero value is not a target.
type Target struct {
	kind   targetKind
	time   time.Time
	offset int64
}

type targetKind int

const (
	toEarliest targetKind = iota + 1
	toLatest
	toTime
	toOffset
)

// Words for targets.
const (
	earliest = "earliest"
	latest   = "latest"
)

// ParseTarget reads what String writes: earliest, latest, a time of RFC 3339, which has a zone, or an offset.
func ParseTarget(s string) (Target, error) {
	switch s {
	case earliest:
		return Target{kind: toEarliest}, nil
	case latest:
		return Target{kind: toLatest}, nil
	}
	if offset, err := strconv.ParseInt(s, 10, 64); err == nil && offset >= 0 {
		return Target{kind: toOffset, offset: offset}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return Target{}, fmt.Errorf("%q: want %s, %s, an offset, or a time with its zone, such as 2026-03-01T12:00:00Z or "+
			"2026-03-01T13:00:00+01:00", s, earliest, latest)
	}
	return Target{kind: toTime, time: t}, nil
}

func (t Target) String() string {
	switch t.kind {
	case toEarliest:
		return earliest
	case toLatest:
		return latest
	case toTime:
		return t.time.Format(time.RFC3339Nano)
	}
	return strconv.FormatInt(t.offset, 10)
}
