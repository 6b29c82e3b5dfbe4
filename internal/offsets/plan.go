package offsets

import (
	"fmt"
	"slices"
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
	// Next is the time of the record at Committed, the next to be processed; zero where there is none, or where nobody
	// has looked.
	Next time.Time
	// Member is who reads the partition; the zero Member if nobody does.
	Member Member
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

// Snapshot is what a plan is made from, for a topic.
type Snapshot struct {
	Topic     string
	Standings []Standing // by partition
	// For a time: the first record that is not older, for each partition that has one, and the time of the newest record
	// of all, zero if there is none.
	AtTime map[int32]Found
	Newest time.Time
	// Horizon is the time before which the topic's retention removes records; zero if it removes none by their age, or
	// nobody knows.
	Horizon time.Time
}

// Found is a record that was looked for by its time.
type Found struct {
	Offset int64
	Time   time.Time
}

// Allow is what an operator accepts.
type Allow struct {
	// Truncated: a part of what is wanted was removed already; the group begins with what is kept.
	Truncated bool
	// Skip: records that the group has not processed are passed over.
	Skip bool
}

// Plan is what a reset would do. It is also what Execute carries out, now or, from a file, later.
type Plan struct {
	Group string `json:"group"`
	To    string `json:"to"`
	// Meaning says what reading records again means for the group.
	Meaning string `json:"meaning"`
	// Members are those that the group had. Execute refuses a plan whose group has others by then.
	Members []Member `json:"members"`
	Moves   []Move   `json:"partitions"`
	// Records is how many will be processed again, Skipped how many never will.
	Records int64 `json:"records"`
	Skipped int64 `json:"skipped,omitempty"`
	// Missing is how many records of what was asked for are gone, at most.
	Missing int64 `json:"missing,omitempty"`
	// Refused lists why nothing of it can be done.
	Refused []string `json:"refused,omitempty"`
}

// Move is what a reset would do in a partition.
type Move struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Committed is Nothing if the group has not committed any.
	Committed int64 `json:"committed"`
	Start     int64 `json:"start"`
	End       int64 `json:"end"`
	New       int64 `json:"new"`
	// Difference is from Committed, or from the start of the partition, to New: negative when the group goes back.
	Difference int64 `json:"difference"`
	// Records is how many will be processed again; of a compacted topic, at most.
	Records int64 `json:"records"`
	// Skipped is how many that are kept will not be processed.
	Skipped int64 `json:"skipped,omitempty"`
	// Missing is how many records that were asked for are gone: by an offset exactly, by a time at most. Since is the time
	// of the first one that is kept, where it is known.
	Missing int64      `json:"missing,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
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
func NewPlan(scope Scope, to Target, from []Snapshot, allow Allow) Plan {
	p := Plan{
		Group: scope.Group(), To: to.String(), Meaning: scope.consumer.Again, Moves: []Move{}, Members: []Member{},
	}
	if p.Refused = refuseTime(to, from); len(p.Refused) > 0 {
		return p
	}
	var outside, ahead, removed []string
	for _, topic := range from {
		for _, s := range topic.Standings {
			m, wanted := topic.move(to, s)
			in := fmt.Sprintf("%s/%d", topic.Topic, s.Partition)
			if m.Missing > 0 {
				removed = append(removed, fmt.Sprintf("%s (%s)", in, m.missing(to)))
			}
			if wanted > s.End || wanted < 0 {
				outside = append(outside, fmt.Sprintf("%s (offset %d; it has %d to %d)", in, wanted, s.Start, s.End))
				m.New = wanted
			}
			if m.Skipped > 0 {
				ahead = append(ahead, fmt.Sprintf("%s (%d records)", in, m.Skipped))
			}
			p.Moves = append(p.Moves, m)
			p.Records, p.Skipped, p.Missing = p.Records+m.Records, p.Skipped+m.Skipped, p.Missing+m.Missing
		}
	}
	p.refuse(outside, p.To+" lies outside of what is kept in %s")
	if !allow.Truncated {
		p.refuse(removed, "what is kept begins after "+p.To+" in %s; --allow-truncated begins with what is kept")
	}
	if !allow.Skip {
		p.refuse(ahead, "records that the group has not processed would be passed over in %s: "+scope.consumer.Ahead+
			"; --allow-skip passes them over")
	}
	return p
}

func (p *Plan) refuse(partitions []string, format string) {
	if len(partitions) > 0 {
		p.Refused = append(p.Refused, fmt.Sprintf(format, strings.Join(partitions, ", ")))
	}
}

// refuseTime refuses a time after which there is nothing: that is a mistyped date rather than a wish to skip all.
func refuseTime(to Target, from []Snapshot) []string {
	if to.kind != toTime {
		return nil
	}
	newest := slices.MaxFunc(from, func(a, b Snapshot) int { return a.Newest.Compare(b.Newest) }).Newest
	switch {
	case newest.IsZero():
		return []string{"there is no record at all, so there is none to find by its time"}
	case to.time.After(newest):
		return []string{fmt.Sprintf("%s is later than the newest record, which is of %s", to,
			newest.UTC().Format(time.RFC3339Nano))}
	}
	return nil
}

// move also tells where the target lies, which may be where there is nothing.
func (from Snapshot) move(to Target, s Standing) (m Move, wanted int64) {
	wanted = to.in(from, s)
	at := max(wanted, s.Start)
	m = Move{
		Topic: from.Topic, Partition: s.Partition, Committed: s.Committed, Start: s.Start, End: s.End, New: at,
		Difference: at - s.Committed, Gone: s.Gone(),
		Records: max(min(s.Position(), s.End)-at, 0), Skipped: max(min(at, s.End)-s.Position(), 0),
	}
	if s.Committed == Nothing {
		m.Difference = at - s.Start
	}
	switch {
	case to.kind == toCurrent: // what is gone there is gone whatever is done
	case to.kind != toTime:
		m.Missing = max(s.Start-max(wanted, 0), 0)
	case wanted == s.Start && s.Start > 0:
		first, some := from.AtTime[s.Partition]
		// What was there before may have been as new as what was asked for. Where nothing is left, a time that retention has
		// not come to tells that nothing was.
		switch {
		case some:
			m.Missing, m.Since = s.Start, &first.Time
		case to.time.Before(from.Horizon):
			m.Missing = s.Start
		}
	}
	return m, wanted
}

// missing says in words what of the wanted range is gone.
func (m Move) missing(to Target) string {
	switch {
	case to.kind != toTime:
		return fmt.Sprintf("%d records are gone", m.Missing)
	case m.Since != nil:
		return fmt.Sprintf("the first record is of %s, %s later; at most %d are gone",
			m.Since.UTC().Format(time.RFC3339), m.Since.Sub(to.time).Round(time.Second), m.Missing)
	}
	return fmt.Sprintf("nothing is kept; at most %d are gone", m.Missing)
}
