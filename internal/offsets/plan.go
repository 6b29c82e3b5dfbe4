package offsets

import (
	"fmt"
	"strings"
	"time"
)

// Nothing stands for an offset that there is not.
const Nothing int64 = -1

// Standing is where a group stands in a partition.
type Standing struct {
	Partition int32
	// Start and End are the offset of the first record that is kept, and of the next to be written.
	Start, End int64
	// Committed is Nothing for a group that has committed none; it begins at Start.
	Committed int64
}

// Position is where the group goes on from. A commit below Start is of records that are gone.
func (s Standing) Position() int64 { return max(s.Committed, s.Start) }

// Lag is how many records, of those that are kept, the group has not processed.
func (s Standing) Lag() int64 { return max(s.End-s.Position(), 0) }

// Gone is how many records were removed before the group had processed them. It is 0 for a group that has never
// committed, for it has missed nothing.
func (s Standing) Gone() int64 {
	if s.Committed == Nothing {
		return 0
	}
	return max(s.Start-s.Committed, 0)
}

// Snapshot is what a plan is made from.
type Snapshot struct {
	Standings []Standing // by partition
	// For a time: the offset of the first record that is not older, for each partition that has one, and the time of the
	// newest record of all, zero if there is none.
	AtTime map[int32]int64
	Newest time.Time
}

// Plan is what a reset would do.
type Plan struct {
	Group   string `json:"group"`
	Topic   string `json:"topic"`
	To      string `json:"to"`
	Meaning string `json:"meaning"`
	Moves   []Move `json:"partitions"`
	// Records is how many will be processed again.
	Records int64 `json:"records"`
	// Refused lists why nothing of it can be done.
	Refused []string `json:"refused,omitempty"`
}

// Move is what a reset would do in a partition.
type Move struct {
	Partition int32 `json:"partition"`
	// Committed is Nothing if the group has not committed any.
	Committed int64 `json:"committed"`
	New       int64 `json:"new"`
	// Difference is from Committed, or from the start of the partition, to New: negative when the group goes back.
	Difference int64 `json:"difference"`
	// Records is how many will be processed again; of a compacted topic, at most.
	Records int64 `json:"records"`
	// Gone is how many records were removed before the group had processed them, which no reset brings back.
	Gone int64 `json:"gone,omitempty"`
}

// Changes says whether something has to be committed.
func (m Move) Changes() bool {
	return m.New != m.Committed && (m.Committed != Nothing || m.Difference != 0)
}

// Changes lists the moves that change something.
func (p Plan) Changes() []Move {
	var changes []Move
	for _, m := range p.Moves {
		if m.Changes() {
			changes = append(changes, m)
		}
	}
	return changes
}

// NewPlan plans a reset. Whatever keeps it from being done is in the plan's Refused, for all partitions at once.
func NewPlan(in Input, to Target, from Snapshot) Plan {
	p := Plan{Group: in.Group(), Topic: in.Topic(), To: to.String(), Meaning: in.consumer.again, Moves: []Move{}}
	if p.Refused = from.refuseTime(to); len(p.Refused) > 0 {
		return p
	}
	var outside, ahead, removed []string
	for _, s := range from.Standings {
		m := s.move(to.in(s, from.AtTime))
		p.Moves = append(p.Moves, m)
		p.Records += m.Records
		switch {
		case m.New < s.Start || m.New > s.End:
			outside = append(outside, fmt.Sprintf("%d (%d to %d)", s.Partition, s.Start, s.End))
		case m.New > s.Position():
			ahead = append(ahead, fmt.Sprintf("%d (%d records)", s.Partition, m.New-s.Position()))
		case to.kind == toTime && m.New == s.Start && 0 < s.Start && s.Start < s.End:
			// What was there before may have been as new as what was asked for.
			removed = append(removed, fmt.Sprintf("%d (%d records)", s.Partition, s.Start))
		}
	}
	p.refuse(outside, "offset "+p.To+" is outside of what is kept in partition %s")
	p.refuse(removed, "what is kept begins after "+p.To+", and how much of it is gone, at most, in partition %s; to "+
		"begin with what is kept, ask for "+earliest)
	p.refuse(ahead, "records that the group has not processed would be passed over in partition %s: "+in.consumer.ahead)
	return p
}

func (p *Plan) refuse(partitions []string, format string) {
	if len(partitions) > 0 {
		p.Refused = append(p.Refused, fmt.Sprintf(format, strings.Join(partitions, ", ")))
	}
}

// refuseTime refuses a time after which there is nothing: that is a mistyped date rather than a wish to skip all.
func (s Snapshot) refuseTime(to Target) []string {
	switch {
	case to.kind != toTime:
		return nil
	case s.Newest.IsZero():
		return []string{"the topic has no record at all, so there is none to find by its time"}
	case to.time.After(s.Newest):
		return []string{fmt.Sprintf("%s is later than the newest record, which is of %s", to,
			s.Newest.UTC().Format(time.RFC3339Nano))}
	}
	return nil
}

func (s Standing) move(offset int64) Move {
	m := Move{
		Partition: s.Partition, Committed: s.Committed, New: offset, Difference: offset - s.Committed,
		Records: max(min(s.Position(), s.End)-max(offset, s.Start), 0), Gone: s.Gone(),
	}
	if s.Committed == Nothing {
		m.Difference = offset - s.Start
	}
	return m
}

// in is the target's offset in a partition.
func (t Target) in(s Standing, atTime map[int32]int64) int64 {
	switch t.kind {
	case toEarliest:
		return s.Start
	case toLatest:
		return s.End
	case toTime:
		if offset, ok := atTime[s.Partition]; ok {
			return offset
		}
		return s.End
	}
	return t.offset
}
