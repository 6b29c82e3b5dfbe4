package feeds

import (
	"maps"
	"slices"
	"testing"
)

func TestDecide(t *testing.T) {
	posts0, loop0 := Input{InputPosts, 0}, Input{InputLoop, 0}
	known := []Known{{"t", 5}, {"t", 7}}
	zone := func(z Zone, token string, counter int64, marks map[Input]int64) *Open {
		return &Open{Zone: z, Token: token, Counter: counter, Marks: marks}
	}
	marks := func(posts, loop int64) map[Input]int64 { return map[Input]int64{posts0: posts, loop0: loop} }
	at := Positions{
		Committed: map[Input]int64{posts0: 100, loop0: 50}, Stored: map[int32]int64{0: 80},
	}
	for _, test := range []struct {
		name    string
		known   []Known
		opened  []*Open
		at      Positions
		lost    []Zone
		changed bool
		back    map[Input]int64
	}{
		{
			"nothing happened", known,
			[]*Open{zone(0, "t", 6, marks(100, 50)), zone(1, "t", 8, marks(100, 50))}, at,
			nil, false, marks(100, 50),
		},
		{
			"an answer was lost, but the step was made", known,
			[]*Open{zone(0, "t", 7, marks(100, 50)), zone(1, "t", 8, marks(100, 50))}, at,
			nil, false, marks(100, 50),
		},
		{
			"a counter went back", known,
			[]*Open{zone(0, "t", 6, marks(100, 50)), zone(1, "t", 7, marks(100, 50))}, at,
			[]Zone{1}, false, marks(100, 50),
		},
		{
			"a zone is gone: posts from where the store is, the loop from where it was", known,
			[]*Open{zone(0, "t", 6, marks(100, 50)), zone(1, "", 1, nil)}, at,
			[]Zone{1}, false, marks(80, 50),
		},
		{
			"the store is ahead of the group", known,
			[]*Open{zone(0, "t", 6, marks(100, 50)), zone(1, "", 1, nil)},
			Positions{Committed: at.Committed, Stored: map[int32]int64{0: 1000}},
			[]Zone{1}, false, marks(100, 50),
		},
		{
			"an old snapshot: the watermark tells, although the process that knew the counter is gone", make([]Known, 2),
			[]*Open{zone(0, "t", 1, marks(100, 50)), zone(1, "t", 1, marks(40, 50))}, at,
			[]Zone{1}, false, marks(40, 50),
		},
		{
			"a restart without a loss", make([]Known, 2),
			[]*Open{zone(0, "t", 1, marks(120, 50)), zone(1, "t", 1, marks(110, 60))}, at,
			nil, false, marks(100, 50),
		},
		{
			"somebody else has recovered, and this writer's partitions go back too", known,
			[]*Open{zone(0, "u", 1, marks(100, 50)), zone(1, "u", 1, marks(100, 30))},
			Positions{Committed: marks(100, 30)},
			nil, true, marks(100, 30),
		},
		{
			"the first start", make([]Known, 2),
			[]*Open{zone(0, "", 1, nil), zone(1, "", 1, nil)},
			Positions{Committed: map[Input]int64{posts0: -1, loop0: -1}},
			[]Zone{0, 1}, false, map[Input]int64{},
		},
		{
			"a new partition: nothing was committed, so nothing is missing", make([]Known, 2),
			[]*Open{zone(0, "t", 1, nil), zone(1, "t", 1, nil)},
			Positions{Committed: map[Input]int64{posts0: 0, loop0: -1}},
			nil, false, map[Input]int64{posts0: 0},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := Decide(test.known, test.opened, test.at)
			if !slices.Equal(d.Lost, test.lost) || d.Changed != test.changed || !maps.Equal(d.Back, test.back) {
				t.Errorf("got %+v, want lost %v, changed %v, back %v", d, test.lost, test.changed, test.back)
			}
		})
	}
}

// A writer that dies while it renews the zones must leave one that another still sees to be lost.
func TestRecoverOpsRenewLostZonesLast(t *testing.T) {
	opened := []*Open{{Zone: 0, Token: ""}, {Zone: 1, Token: "t"}, {Zone: 2, Token: "t"}}
	d := Decision{Lost: []Zone{0, 2}, Back: map[Input]int64{{InputPosts, 1}: 5}}
	ends := map[Input]int64{{InputPosts, 1}: 9}
	well, lost := recoverOps(d, opened, "w", "new", ends, nil)
	if len(well) != 1 || well[0].Zone != 1 || len(lost) != 2 || lost[0].Zone != 0 || lost[1].Zone != 2 {
		t.Fatalf("well %v, lost %v", well, lost)
	}
	for _, op := range append(well, lost...) {
		tokens := op.Old == opened[op.Zone].Token && op.New == "new"
		if !tokens || !maps.Equal(op.Ends, ends) || !maps.Equal(op.Marks, d.Back) {
			t.Errorf("zone %d: %+v", op.Zone, op)
		}
	}
}
