package following

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"freshet"
	"freshet/internal/events"
)

const me = freshet.Number(1)

func event(kind Kind, offset int64, targets ...freshet.Number) Event {
	return Event{Kind: kind, Targets: targets, Offset: offset, Follower: me}
}

// says is the first statement of the event at an offset; anew is the one after a contradiction, and last the one about
// a relation that is forgotten.
func says(followee freshet.Number, follows bool, offset int64) Statement {
	return Statement{Followee: followee, Follower: me, Follows: follows, Version: VersionOf(offset)}
}

func anew(followee freshet.Number, follows bool, offset int64) Statement {
	return Statement{Followee: followee, Follower: me, Follows: follows, Version: VersionOf(offset) + 1}
}

func last(followee freshet.Number, offset int64) Statement {
	return Statement{Followee: followee, Follower: me, Version: VersionOf(offset+1) - 1}
}

// report answers the first statement of the event at an offset.
func report(followee freshet.Number, held bool, offset int64) AppliedReport {
	return AppliedReport{Follower: me, Followee: followee, Held: held, Version: VersionOf(offset)}
}

// after is the row that these events and reports leave.
func after(t *testing.T, messages ...any) *freshet.Following {
	t.Helper()
	var row *freshet.Following
	for _, m := range messages {
		switch m := m.(type) {
		case Event:
			row, _ = Apply(row, m)
		case AppliedReport:
			row, _ = Report(row, m)
		default:
			t.Fatalf("neither event nor report: %T", m)
		}
	}
	return row
}

func TestKindsAreThoseOfTheRecords(t *testing.T) {
	for kind, record := range map[Kind]events.FollowEvent_Kind{
		Follow: events.FollowEvent_FOLLOW, Unfollow: events.FollowEvent_UNFOLLOW,
		Mute: events.FollowEvent_MUTE, Unmute: events.FollowEvent_UNMUTE,
		Block: events.FollowEvent_BLOCK, Unblock: events.FollowEvent_UNBLOCK,
	} {
		if int(kind) != int(record) {
			t.Errorf("%s is %d, want %d", record, kind, record)
		}
	}
}

func TestApplyNewEvents(t *testing.T) {
	type relations = []freshet.Relation
	follows := after(t, event(Follow, 4, 5, 9), report(5, true, 4))
	for _, test := range []struct {
		name  string
		row   *freshet.Following
		event Event
		want  freshet.Following
		says  []Statement
	}{
		{
			"the first follow, in any order, doubles and oneself left out", nil, event(Follow, 4, 9, me, 5, 9),
			freshet.Following{Version: 1, Next: 5, Relations: relations{
				{Account: 5, Version: VersionOf(4), Follows: true}, {Account: 9, Version: VersionOf(4), Follows: true},
			}},
			[]Statement{says(5, true, 4), says(9, true, 4)},
		},
		{
			"following again is a new version that isn't applied", follows, event(Follow, 6, 5),
			freshet.Following{Version: 3, Next: 7, Relations: relations{
				{Account: 5, Version: VersionOf(6), Follows: true}, {Account: 9, Version: VersionOf(4), Follows: true},
			}},
			[]Statement{says(5, true, 6)},
		},
		{
			"an unfollow stays until it is applied", follows, event(Unfollow, 6, 5, 7),
			freshet.Following{Version: 3, Next: 7, Relations: relations{
				{Account: 5, Version: VersionOf(6)}, {Account: 7, Version: VersionOf(6)},
				{Account: 9, Version: VersionOf(4), Follows: true},
			}},
			[]Statement{says(5, false, 6), says(7, false, 6)},
		},
		{
			"oneself is ignored, but Next moves", nil, event(Follow, 4, me),
			freshet.Following{Version: 1, Next: 5}, nil,
		},
		{"mute", after(t, event(Mute, 1, 8, 2)), event(Mute, 3, 5, 2), freshet.Following{
			Version: 2, Next: 4, Muted: []freshet.Number{2, 5, 8},
		}, nil},
		{"unmute", after(t, event(Mute, 1, 8, 2, 5)), event(Unmute, 3, 5, 7), freshet.Following{
			Version: 2, Next: 4, Muted: []freshet.Number{2, 8},
		}, nil},
		{"block", after(t, event(Block, 1, 8)), event(Block, 3, 8, 2), freshet.Following{
			Version: 2, Next: 4, Blocked: []freshet.Number{2, 8},
		}, nil},
		{"unblock", after(t, event(Block, 1, 8)), event(Unblock, 3, 8), freshet.Following{Version: 2, Next: 4}, nil},
		{"a kind that isn't known", nil, event(99, 3, 8), freshet.Following{Version: 1, Next: 4}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			given := test.row.Clone()
			row, statements := Apply(test.row, test.event)
			if !sameRow(row, &test.want) || !reflect.DeepEqual(statements, test.says) {
				t.Errorf("got %+v, saying %+v; want %+v, saying %+v", row, statements, test.want, test.says)
			}
			if test.row != nil && !sameRow(given, test.row) {
				t.Errorf("the row given became %+v", test.row)
			}
			again, repeated := Apply(row, test.event)
			if again != row || !reflect.DeepEqual(repeated, statements) {
				t.Errorf("come again: %+v, saying %+v; want the same row, saying %+v", again, repeated, statements)
			}
		})
	}
}

func TestOldEventsStateWhatIsSoNow(t *testing.T) {
	row := after(t, event(Follow, 4, 5, 9), event(Unfollow, 6, 5), event(Mute, 8, 3), report(5, false, 6))
	if _, ok := row.Relation(5); ok {
		t.Fatal("an unfollow that is applied is still in the row")
	}
	again, statements := Apply(row, event(Follow, 4, 5, 9))
	if want := []Statement{last(5, 4), says(9, true, 4)}; again != row || !slices.Equal(statements, want) {
		t.Errorf("%+v, saying %+v; want the same row, saying %+v", again, statements, want)
	}
	if again, statements = Apply(row, event(Unmute, 7, 3)); again != row || statements != nil {
		t.Errorf("an old unmute: %+v, saying %+v", again, statements)
	}
}

func TestReport(t *testing.T) {
	follows := after(t, event(Follow, 4, 5))
	applied := after(t, event(Follow, 4, 5), report(5, true, 4))
	contradicted := after(t, event(Follow, 4, 5), report(5, true, 4), report(5, false, 3))
	unfollowed := after(t, event(Follow, 4, 5), report(5, true, 4), event(Unfollow, 6, 5))
	forgotten := after(t, event(Follow, 4, 5), event(Unfollow, 6, 5), report(5, false, 6))
	yes, no := true, false
	for _, test := range []struct {
		name    string
		row     *freshet.Following
		report  AppliedReport
		changed bool
		applied *bool // of the relation; nil: there is none
		at      uint64
		says    []Statement
	}{
		{"equal", follows, report(5, true, 4), true, &yes, 2, nil},
		{"equal again", applied, report(5, true, 4), false, &yes, 2, nil},
		{"equal but for the event", applied, report(5, true, 3), true, &no, 0, []Statement{anew(5, true, 4)}},
		{"not held", applied, report(5, false, 3), true, &no, 0, []Statement{anew(5, true, 4)}},
		{"not held, not applied yet", follows, report(5, false, 3), true, &no, 0, []Statement{anew(5, true, 4)}},
		{"held though unfollowed", unfollowed, report(5, true, 4), true, &no, 0, []Statement{anew(5, false, 6)}},
		{"not held, of an older event", unfollowed, report(5, false, 4), true, &no, 0, []Statement{anew(5, false, 6)}},
		{"an earlier statement of the event", contradicted, report(5, true, 4), false, &no, 0, nil},
		{"an unfollow is applied", unfollowed, report(5, false, 6), true, nil, 0, nil},
		{"forgotten and not held", forgotten, report(5, false, 6), false, nil, 0, nil},
		{"forgotten but held", forgotten, report(5, true, 4), false, nil, 0, []Statement{last(5, 4)}},
		{"newer than the row", applied, report(5, false, 5), false, &yes, 2, nil},
		{"newer than the row, of a stranger", applied, report(8, true, 5), false, &yes, 2, nil},
		{"no row", nil, report(5, true, 0), false, nil, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			given := test.row.Clone()
			row, statements := Report(test.row, test.report)
			changed := row != test.row
			if changed != test.changed || !slices.Equal(statements, test.says) {
				t.Errorf("changed %v, saying %+v; want %v, %+v", changed, statements, test.changed, test.says)
			}
			if changed && (row.Version != test.row.Version+1 || row.Next != test.row.Next) {
				t.Errorf("version %d and next %d, from %d and %d", row.Version, row.Next, test.row.Version, test.row.Next)
			}
			r, ok := row.Relation(5)
			if ok != (test.applied != nil) || ok && (r.Applied != *test.applied || r.AppliedAt != test.at) {
				t.Errorf("relation %+v, %v", r, ok)
			}
			if test.row != nil && !sameRow(given, test.row) {
				t.Errorf("the row given became %+v", test.row)
			}
		})
	}
}

// Reports that are put together come to what they come to one after another, in one change of the row.
func TestReportsPutTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var row *freshet.Following
		accounts := rapid.Uint64Range(2, 6)
		offset := int64(0)
		for range rapid.IntRange(0, 9).Draw(t, "events") {
			kind := Kind(rapid.IntRange(int(Follow), int(Unfollow)).Draw(t, "kind"))
			row, _ = Apply(row, event(kind, offset, freshet.Number(accounts.Draw(t, "target"))))
			offset++
		}
		var reports []AppliedReport
		for range rapid.IntRange(1, 12).Draw(t, "reports") {
			reports = append(reports, AppliedReport{
				Follower: me, Followee: freshet.Number(accounts.Draw(t, "followee")), Held: rapid.Bool().Draw(t, "held"),
				Version: VersionOf(rapid.Int64Range(0, offset).Draw(t, "offset")) + rapid.Int64Range(0, 2).Draw(t, "attempt"),
			})
		}
		given := row.Clone()
		single, said := row, []Statement(nil)
		for _, r := range reports {
			var statements []Statement
			single, statements = Report(single, r)
			said = append(said, statements...)
		}
		together, statements := Report(row, reports...)
		if row != nil && !sameRow(given, row) {
			t.Fatalf("the row given became %+v", row)
		}
		if !slices.Equal(statements, said) {
			t.Fatalf("together they say %+v, one by one %+v", statements, said)
		}
		if (together == row) != (single == row) || together != row && together.Version != row.Version+1 {
			t.Fatalf("together %+v, one by one %+v", together, single)
		}
		for n := range freshet.Number(8) {
			a, inA := together.Relation(n)
			b, inB := single.Relation(n)
			a.AppliedAt, b.AppliedAt = 0, 0
			if inA != inB || a != b {
				t.Fatalf("account %d: together %+v, one by one %+v", n, together, single)
			}
		}
	})
}

func TestRestateSaysEveryRelation(t *testing.T) {
	row := after(t, event(Follow, 4, 5, 9), event(Unfollow, 6, 5), event(Mute, 8, 3))
	if got, want := Restate(me, row), []Statement{says(5, false, 6), says(9, true, 4)}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := Restate(me, nil); got != nil {
		t.Errorf("no row says %+v", got)
	}
}

// The last event about an account decides, whatever came before and however targets are bundled; rows stay sorted.
func TestRowsAreWhatTheirEventsComeTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var row *freshet.Following
		sets := [3]map[freshet.Number]bool{{}, {}, {}}
		for offset := range int64(rapid.IntRange(1, 40).Draw(t, "events")) {
			e := event(Kind(rapid.IntRange(int(Follow), int(Unblock)).Draw(t, "kind")), offset)
			for _, target := range rapid.SliceOf(rapid.Uint64Range(2, 12)).Draw(t, "targets") {
				e.Targets = append(e.Targets, freshet.Number(target))
				sets[(e.Kind-1)/2][freshet.Number(target)] = e.Kind%2 == 1
			}
			row, _ = Apply(row, e)
			if row.Version != uint64(offset)+1 || row.Next != offset+1 {
				t.Fatalf("after %d events: %+v", offset+1, row)
			}
		}
		for n := range freshet.Number(14) {
			if row.Follows(n) != sets[0][n] || row.Mutes(n) != sets[1][n] || row.Blocks(n) != sets[2][n] {
				t.Fatalf("account %d: %+v, want %v", n, row, sets)
			}
		}
		decoded, err := events.DecodeFollowing(events.EncodeFollowing(row)) // refuses what isn't sorted
		if err != nil || !sameRow(decoded, row) {
			t.Fatalf("%+v came back as %+v, %v", row, decoded, err)
		}
	})
}

func sameRow(a, b *freshet.Following) bool {
	return a.Version == b.Version && a.Next == b.Next && slices.Equal(a.Relations, b.Relations) &&
		slices.Equal(a.Muted, b.Muted) && slices.Equal(a.Blocked, b.Blocked)
}
