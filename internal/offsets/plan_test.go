package offsets

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/internal/topology"
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
		allow   Allow
		missing int64
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
			refused: "passed over in test.posts/1 (2 records): feeds would lack",
		},
		{
			name: "forward from the start without a commit", to: "3",
			from: Snapshot{Standings: []Standing{at(0, 0, Nothing, 12)}},
			news: []int64{3}, diffs: []int64{3}, changes: 1, refused: "passed over in test.posts/0 (3 records)",
		},
		{
			name: "an offset below the start is not moved into the range unless that is allowed", to: "2",
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12), at(1, 5, 10, 12)}},
			news: []int64{2, 5}, diffs: []int64{-8, -5}, records: 13, changes: 2, missing: 3,
			refused: "begins after 2 in test.posts/1 (3 records are gone)",
		},
		{
			name: "and is then said", to: "2", allow: Allow{Truncated: true},
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12), at(1, 5, 10, 12)}},
			news: []int64{2, 5}, diffs: []int64{-8, -5}, records: 13, changes: 2, missing: 3,
		},
		{
			name: "an offset above the end is never moved into the range", to: "13",
			allow: Allow{Truncated: true, Skip: true},
			from:  Snapshot{Standings: []Standing{at(0, 0, 10, 12)}}, news: []int64{13}, diffs: []int64{3}, changes: 1,
			refused: "outside of what is kept in test.posts/0 (offset 13; it has 0 to 12)",
		},
		{
			name: "back by some records, from the start where nothing is committed", to: "shift -4",
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12), at(1, 5, 10, 12)}},
			news: []int64{6, 6}, diffs: []int64{-4, -4}, records: 8, changes: 2,
		},
		{
			name: "back by more than was ever there", to: "shift -11", allow: Allow{Truncated: true},
			from: Snapshot{Standings: []Standing{at(0, 3, 10, 12)}},
			news: []int64{-1}, diffs: []int64{-7}, records: 7, changes: 1, missing: 3,
			refused: "outside of what is kept in test.posts/0 (offset -1",
		},
		{
			name: "further by some records, which are passed over", to: "shift 2", allow: Allow{Skip: true},
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12), at(1, 4, Nothing, 12)}},
			news: []int64{12, 6}, diffs: []int64{2, 2}, changes: 2,
		},
		{
			name: "where it stands, committed where nothing is: at the start and never at the end", to: "current",
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12), at(1, 4, Nothing, 12)}},
			news: []int64{10, 4}, diffs: []int64{0, 0},
		},
		{
			name: "the offsets of a file", to: "file",
			from: Snapshot{Standings: []Standing{at(0, 0, 10, 12), at(1, 4, 9, 12)}},
			news: []int64{7, 8}, diffs: []int64{-3, -1}, records: 4, changes: 2,
		},
		{
			name: "a commit below what is kept goes on at the start: nothing that is there is passed over", to: "earliest",
			from: Snapshot{Standings: []Standing{at(0, 50, 10, 60)}}, news: []int64{50}, diffs: []int64{40}, changes: 1,
		},
		{
			name: "but not past the start", to: "latest",
			from: Snapshot{Standings: []Standing{at(0, 50, 10, 60)}}, news: []int64{60}, diffs: []int64{50}, changes: 1,
			refused: "passed over in test.posts/0 (10 records)",
		},
		{
			name: "a commit above the end comes back to it", to: "latest",
			from: Snapshot{Standings: []Standing{at(0, 0, 90, 60)}}, news: []int64{60}, diffs: []int64{-30}, changes: 1,
		},
		{
			name: "a time", to: "2026-03-01T13:00:00+01:00",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 10, 10), at(1, 2, 6, 6), at(2, 0, 0, 0)},
				AtTime:    map[int32]Found{0: {4, noon.Add(time.Minute)}}, Newest: noon.Add(time.Second),
			},
			news: []int64{4, 6, 0}, diffs: []int64{-6, 0, 0}, records: 6, changes: 1,
		},
		{
			name: "a time before everything that was ever written", to: "2026-03-01T12:00:00Z",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 10, 10)},
				AtTime:    map[int32]Found{0: {0, noon.Add(time.Minute)}}, Newest: noon.Add(time.Second),
			},
			news: []int64{0}, diffs: []int64{-10}, records: 10, changes: 1,
		},
		{
			name: "a time that retention has reached", to: "2026-03-01T12:00:00Z",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 10, 10), at(1, 7, 10, 10)},
				AtTime:    map[int32]Found{0: {4, noon}, 1: {7, noon.Add(time.Minute)}}, Newest: noon.Add(time.Second),
			},
			news: []int64{4, 7}, diffs: []int64{-6, -3}, records: 9, changes: 2,
			refused: "in test.posts/1 (the first record is of 2026-03-01T12:01:00Z, 1m0s later; at most 7 are gone)", missing: 7,
		},
		{
			name: "a partition of which nothing is kept, and a time that retention has come to", to: "2026-03-01T12:00:00Z",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 10, 10), at(1, 9, 9, 9)},
				AtTime:    map[int32]Found{0: {4, noon}}, Newest: noon.Add(time.Second), Horizon: noon.Add(time.Hour),
			},
			news: []int64{4, 9}, diffs: []int64{-6, 0}, records: 6, changes: 1, missing: 9,
			refused: "in test.posts/1 (nothing is kept; at most 9 are gone)",
		},
		{
			name: "a partition of which nothing is kept, and a time that retention has not come to", to: "2026-03-01T12:00:00Z",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 10, 10), at(1, 9, 9, 9)},
				AtTime:    map[int32]Found{0: {4, noon}}, Newest: noon.Add(time.Second), Horizon: noon.Add(-time.Hour),
			},
			news: []int64{4, 9}, diffs: []int64{-6, 0}, records: 6, changes: 1,
		},
		{
			name: "a time that the group has not come to", to: "2026-03-01T12:00:00Z",
			from: Snapshot{
				Standings: []Standing{at(0, 0, 2, 10)},
				AtTime:    map[int32]Found{0: {4, noon.Add(time.Minute)}}, Newest: noon.Add(time.Second),
			},
			news: []int64{4}, diffs: []int64{2}, changes: 1, refused: "passed over in test.posts/0 (2 records)",
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
			in, err := ParseScope(names, "fanout", "posts")
			if err != nil {
				t.Fatal(err)
			}
			tt.from.Topic = "test.posts"
			p := NewPlan(in, target(t, tt.to), []Snapshot{tt.from}, tt.allow)
			if p.Missing != tt.missing {
				t.Errorf("%d records are missing, want %d", p.Missing, tt.missing)
			}
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

// target is ParseTarget's, or a shift, or that of a file.
func target(t *testing.T, s string) Target {
	t.Helper()
	if s == "file" {
		return ToRows([]Row{{"test.fanout", "test.posts", 1, 8}, {"test.fanout", "test.posts", 0, 7}})
	}
	if by, ok := strings.CutPrefix(s, "shift "); ok {
		n, err := strconv.ParseInt(by, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return ShiftBy(n)
	}
	to, err := ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// A plan may lie in a file until it is carried out.
func TestPlanAsJSON(t *testing.T) {
	in, err := ParseScope(names, "fanout")
	if err != nil {
		t.Fatal(err)
	}
	p := NewPlan(in, Target{kind: toEarliest}, []Snapshot{
		{Topic: "test.posts", Standings: []Standing{{Start: 5, Committed: 7, End: 9}, {Partition: 1, Committed: Nothing}}},
	}, Allow{})
	p.Members = []Member{{ID: "m", Client: "c", Host: "h", Reads: []Partitions{{"test.posts", []int32{0}}}}}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(p, back) {
		t.Errorf("got %+v, %v\nwant %+v\n%s", back, err, p, data)
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"2h30m": 150 * time.Minute, "PT2H30M": 150 * time.Minute, "P1DT1S": 24*time.Hour + time.Second,
		"PT0.5S": 500 * time.Millisecond, "P2D": 48 * time.Hour,
	} {
		if got, err := ParseDuration(s); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "P", "PT", "P1DT", "0s", "-2h", "2", "two hours", "P1Y", "PT0S"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q: got %s, want an error", s, got)
		}
	}
}

func TestRows(t *testing.T) {
	rows := []Row{{"test.fanout", "test.posts", 0, 7}, {"test.fanout", "test.posts", 1, 9}}
	for _, groups := range []bool{false, true} {
		var b strings.Builder
		if err := WriteRows(&b, rows, groups); err != nil {
			t.Fatal(err)
		}
		got, err := ReadRows(strings.NewReader(b.String()), names, "fanout")
		if err != nil || !slices.Equal(got, rows) {
			t.Errorf("%q: got %v, %v", b.String(), got, err)
		}
	}
	if got, err := ReadRows(strings.NewReader("\"posts\",0,7\ntest.posts, 1, 9\n"), names, "fanout"); err != nil ||
		!slices.Equal(got, rows) {
		t.Errorf("quoted, and without a prefix: %v, %v", got, err)
	}
	for text, says := range map[string]string{
		"":                                  "no offset in it",
		"posts,0":                           "line 1",
		"posts,0,7\nposts,0,8":              "line 2: partition 0 of test.posts comes twice",
		"posts,-1,7":                        "partition",
		"posts,0,7\nposts,1,end":            "line 2: offset",
		"archive,posts,0,7":                 "it is of group archive",
		"TOPIC,PARTITION,OFFSET\nposts,0,7": "line 1",
	} {
		got, err := ReadRows(strings.NewReader(text), names, "fanout")
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, %v, want an error that says %q", text, got, err, says)
		}
	}
	if _, err := ReadRows(strings.NewReader("posts,0,7"), names, ""); err == nil {
		t.Error("a line of no group is one of some group")
	}
}

func TestPlanTellsWhatIsGone(t *testing.T) {
	in, err := ParseScope(names, "archive", "posts")
	if err != nil {
		t.Fatal(err)
	}
	p := NewPlan(in, Target{kind: toEarliest}, []Snapshot{{Standings: []Standing{{Start: 50, Committed: 10, End: 60}}}},
		Allow{})
	if gone := p.Moves[0].Gone; gone != 40 {
		t.Errorf("gone: %d, want 40", gone)
	}
}

// What would be missing is another thing for each group, and every group has something to lose.
func TestNoGroupGoesForward(t *testing.T) {
	for _, c := range topology.Groups(names) {
		for _, topic := range c.Inputs {
			in, err := ParseScope(names, c.Name, topic)
			if err != nil {
				t.Fatal(err)
			}
			p := NewPlan(in, Target{kind: toLatest}, []Snapshot{{Standings: []Standing{{Committed: 1, End: 2}}}}, Allow{})
			if len(p.Refused) != 1 || !strings.Contains(p.Refused[0], c.Ahead) || c.Ahead == "" {
				t.Errorf("group %s forward in %s: refused %q", c.Name, topic, p.Refused)
			}
		}
	}
}

func TestParseTarget(t *testing.T) {
	for _, s := range []string{
		"earliest", "latest", "current", "0", "42", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.5+01:00",
	} {
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
