package offsets

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Target is where a group is to go. The zero value is not a target.
type Target struct {
	kind   targetKind
	time   time.Time
	offset int64 // of toOffset; of toShift how many records further, negative for back
	rows   []Row // of toFile
}

type targetKind int

const (
	toEarliest targetKind = iota + 1
	toLatest
	toCurrent
	toTime
	toOffset
	toShift
	toFile
)

// Words for targets.
const (
	earliest = "earliest"
	latest   = "latest"
	current  = "current"
)

// ParseTarget reads what String writes: earliest, latest, current, a time of RFC 3339, which has a zone, or an offset.
func ParseTarget(s string) (Target, error) {
	switch s {
	case earliest:
		return Target{kind: toEarliest}, nil
	case latest:
		return Target{kind: toLatest}, nil
	case current:
		return Target{kind: toCurrent}, nil
	}
	if offset, err := strconv.ParseInt(s, 10, 64); err == nil && offset >= 0 {
		return Target{kind: toOffset, offset: offset}, nil
	}
	t, err := ParseTime(s)
	if err != nil {
		return Target{}, fmt.Errorf("%q: want %s, %s, %s, an offset, or a time with its zone, such as 2026-03-01T12:00:00Z "+
			"or 2026-03-01T13:00:00+01:00", s, earliest, latest, current)
	}
	return Target{kind: toTime, time: t}, nil
}

var errZone = errors.New("the time has no zone: end it with Z for UTC, or with one such as +01:00")

// ParseTime reads a time of RFC 3339. One without a zone is refused: the operator's, the server's and UTC would be
// three different times.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err == nil {
		return t, nil
	}
	if _, err := time.Parse("2006-01-02T15:04:05", s); err == nil {
		return t, fmt.Errorf("%q: %w", s, errZone)
	}
	return t, fmt.Errorf("%q: want a time with its zone, such as 2026-03-01T12:00:00Z or 2026-03-01T13:00:00+01:00", s)
}

// ToTime is the first record that is not older.
func ToTime(t time.Time) Target { return Target{kind: toTime, time: t} }

// ShiftBy is so many records further in each partition, or back if it is negative.
func ShiftBy(records int64) Target { return Target{kind: toShift, offset: records} }

// ToRows is each partition's offset in a file.
func ToRows(rows []Row) Target { return Target{kind: toFile, rows: rows} }

// isoDuration is ISO 8601's, as Kafka's own tool takes it: days and what is shorter.
var isoDuration = regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// ParseDuration reads a duration above 0: 2h30m as Go writes it, or PT2H30M and P1D as ISO 8601 does.
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if m := isoDuration.FindStringSubmatch(s); m != nil && s != "P" && !strings.HasSuffix(s, "T") {
		err, d = nil, 0
		for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
			if m[i+1] == "" {
				continue
			}
			n, parseErr := strconv.ParseFloat(m[i+1], 64)
			if err = parseErr; err != nil {
				break
			}
			d += time.Duration(n * float64(unit))
		}
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q: want a duration above 0, such as 2h30m, PT2H30M or P1D", s)
	}
	return d, nil
}

func (t Target) String() string {
	switch t.kind {
	case toEarliest:
		return earliest
	case toLatest:
		return latest
	case toCurrent:
		return current
	case toTime:
		return t.time.Format(time.RFC3339Nano)
	case toShift:
		return fmt.Sprintf("%+d records", t.offset)
	case toFile:
		return fmt.Sprintf("a file with %d offsets", len(t.rows))
	}
	return strconv.FormatInt(t.offset, 10)
}

// in is the target's offset in a partition, wherever that is.
func (t Target) in(from Snapshot, s Standing) int64 {
	switch t.kind {
	case toEarliest:
		return s.Start
	case toLatest:
		return s.End
	case toCurrent:
		if s.Committed == Nothing {
			return s.Start
		}
		return s.Committed
	case toTime:
		if at, ok := from.AtTime[s.Partition]; ok {
			return at.Offset
		}
		return s.End // what is kept is older, all of it
	case toShift:
		return s.Position() + t.offset
	case toFile:
		for _, row := range t.rows {
			if row.Partition == s.Partition && row.Topic == from.Topic {
				return row.Offset
			}
		}
	}
	return t.offset
}
