package offsets

import (
	"slices"
	"strings"
	"testing"
	"time"

	"freshet"
)

var names = freshet.Names{Prefix: "test."}

func TestPlan(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(partition int32, start, committed, end int64) Standing {
		return Standing{Partition: partition, Start: start, Committed: committed, End: end}
	}
	for _, tt := range []struct {
		name    string
		to      string
		from    Snapshot
		news    []int64 // by partition
		diffs   []int64
		records int64
		changes int
		refused string // a part of the one reason, empty if there is none
	}{
		{
			name: "back to the start", to: "earliest",
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12), at(1, 5, 5, 5), at(2, 3, 7, 9)}},
			news: []int64{0, 5, 3}, diffs: []int64{-10, 0, -4}, records: 14, changes: 2,
		},
		{
			name: "a group that has never committed is at the start already", to: "earliest",
			from: Snapshot{Standings: []Standing{at(0, 4, Nothing, 12)}}, news: []int64{4}, diffs: []int64{0},
		},
		{
			name: "latest where there is nothing to pass over", to: "latest",
			from: Snapshot{Standings: []Standing{at(0, 0, 12, 12)}}, news: []int64{12}, diffs: []int64{0},
		},
		{
			name: "latest would pass over the lag", to: "latest",
			from: Snapshot{Standings: []Standing{at(0, 0, 12, 12), at(1, 0, 10, 12)}},
			news: []int64{12, 12}, diffs: []int64{0, 2}, changes: 1,
			refused: "passed over in partition 1 (2 records): feeds would lack",
		},
		{
			name: "forward from the start without a commit", to: "3",
			from: Snapshot{Standings: []Standing{at(0, 0, Nothing, 12)}},
			news: []int64{3}, diffs: []int64{3}, changes: 1, refused: "passed over in partition 0 (3 records)",
		},
		{
			name: "an offset below the start is not moved into the range", to: "2",
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12), at(1, 5, 10, 12)}},
			news: []int64{2, 2}, diffs: []int64{-8, -8}, records: 13, changes: 2,
			refused: "offset 2 is outside of what is kept in partition 1 (5 to 12)",
		},
		{
			name: "an offset above the end is not moved into the range", to: "13",
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12)}}, news: []int64{13}, diffs: []int64{3}, changes: 1,
			refused: "outside of what is kept in partition 0 (0 to 12)",
		},
		{
			name: "a commit below what is kept goes on at the start: nothing that is there is passed over", to: "earliest",
			from: Snapshot{Standings: []Standing{at(0, 50, 10, 60)}}, news: []int64{50}, diffs: []int64{40}, changes: 1,
		},
		{
			name: "but not past the start", to: "latest",
			from: Snapshot{Standings: []Standing{at(0, 50, 10, 60)}}, news: []int64{60}, diffs: []int64{50}, changes: 1,
			refused: "passed over in partition 0 (10 records)",
		},
		{
			name: "a commit above the end comes back to it", to: "latest",
			from: Snapshot{Standings: []Standing{at(0, 0, 90, 60)}}, news: []int64{60}, diffs: []int64{-30}, changes: 1,
		},
		{
			name: "a time", to: "2026-03-01T13:00:00+01:00",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 10, 10), at(1, 2, 6, 6), at(2, 0, 0, 0)},
				AtTime:    map[int32]int64{0: 4}, Newest: noon.Add(time.Second),
			},
			news: []int64{4, 6, 0}, diffs: []int64{-6, 0, 0}, records: 6, changes: 1,
		},
		{
			name: "a time before everything that was ever written", to: "2026-03-01T12:00:00Z",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 10, 10)}, AtTime: map[int32]int64{0: 0}, Newest: noon.Add(time.Second),
			},
			news: []int64{0}, diffs: []int64{-10}, records: 10, changes: 1,
		},
		{
			name: "a time that retention has reached", to: "2026-03-01T12:00:00Z",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 10, 10), at(1, 7, 10, 10)},
				AtTime:    map[int32]int64{0: 4, 1: 7}, Newest: noon.Add(time.Second),
			},
			news: []int64{4, 7}, diffs: []int64{-6, -3}, records: 9, changes: 2,
			refused: "gone, at most, in partition 1 (7 records)",
		},
		{
			name: "a time that the group has not come to", to: "2026-03-01T12:00:00Z",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 2, 10)}, AtTime: map[int32]int64{0: 4}, Newest: noon.Add(time.Second),
			},
			news: []int64{4}, diffs: []int64{2}, changes: 1, refused: "passed over in partition 0 (2 records)",
		},
		{
			name: "a time later than the newest record", to: "2026-03-01T12:00:00Z",
			from: Snapshot{Standings: []Standing{at(0, 0, 2, 10)}, Newest: noon.Add(-time.Millisecond)},
			news: []int64{}, diffs: []int64{}, refused: "later than the newest record, which is of 2026-03-01T11:59:59.999Z",
		},
		{
			name: "a time in an empty topic", to: "2026-03-01T12:00:00Z",
			from: Snapshot{Standings: []Standing{at(0, 0, Nothing, 0)}},
			news: []int64{}, diffs: []int64{}, refused: "no record at all",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, err := ParseInput(names, "fanout", "posts")
			if err != nil {
				t.Fatal(err)
			}
			to, err := ParseTarget(tt.to)
			if err != nil {
				t.Fatal(err)
			}
			p := NewPlan(in, to, tt.from)
			news, diffs := []int64{}, []int64{}
			for _, m := range p.Moves {
				news, diffs = append(news, m.New), append(diffs, m.Difference)
			}
			if !slices.Equal(news, tt.news) || !slices.Equal(diffs, tt.diffs) {
				t.Errorf("new offsets %v, differences %v; want %v, %v", news, diffs, tt.news, tt.diffs)
			}
			if p.Records != tt.records || len(p.Changes()) != tt.changes {
				t.Errorf("%d records, %d changes; want %d, %d", p.Records, len(p.Changes()), tt.records, tt.changes)
			}
			refused := strings.Join(p.Refused, "\n")
			if tt.refused == "" && refused != "" || !strings.Contains(refused, tt.refused) || len(p.Refused) > 1 {
				t.Errorf("refused: %q; want %q", refused, tt.refused)
			}
		})
	}
}

func TestPlanTellsWhatIsGone(t *testing.T) {
	in, err := ParseInput(names, "archive", "posts")
	if err != nil {
		t.Fatal(err)
	}
	p := NewPlan(in, Target{kind: toEarliest}, Snapshot{Standings: []Standing{{Start: 50, Committed: 10, End: 60}}})
	if gone := p.Moves[0].Gone; gone != 40 {
		t.Errorf("gone: %d, want 40", gone)
	}
}

// What would be missing is another thing for each group, and every group has something to lose.
func TestNoGroupGoesForward(t *testing.T) {
	for _, c := range consumers {
		for _, topic := range c.inputs {
			in, err := ParseInput(names, string(c.group), string(topic))
			if err != nil {
				t.Fatal(err)
			}
			p := NewPlan(in, Target{kind: toLatest}, Snapshot{Standings: []Standing{{Committed: 1, End: 2}}})
			if len(p.Refused) != 1 || !strings.HasSuffix(p.Refused[0], c.ahead) || c.ahead == "" {
				t.Errorf("group %s forward in %s: refused %q", c.group, topic, p.Refused)
			}
		}
	}
}

func TestParseTarget(t *testing.T) {
	for _, s := range []string{"earliest", "latest", "0", "42", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.5+01:00"} {
		to, err := ParseTarget(s)
		if err != nil || to.String() != s {
			t.Errorf("%s: got %s, %v", s, to, err)
		}
	}
	for _, s := range []string{"", "-1", "2026-03-01", "2026-03-01T12:00:00", "now", "1e3", "99999999999999999999"} {
		if to, err := ParseTarget(s); err == nil {
			t.Errorf("%q: got %s, want an error", s, to)
		}
	}
}
