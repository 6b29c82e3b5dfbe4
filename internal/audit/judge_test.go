package audit

import (
	"math/rand/v2"
	"slices"
	"testing"

	"freshet"
	"freshet/internal/feeds"
	"freshet/views"
)

// ids are posts, newest first.
func ids(numbers ...freshet.PostID) []freshet.PostID { return numbers }

func follows(author freshet.Number) freshet.Relation {
	return freshet.Relation{Account: author, Follows: true, Applied: true, AppliedAt: 1}
}

// reader 1 follows 2, 3 and 4: the last was applied after the feed was built. Five posts make a feed full.
func subject() (account, feeds.Layout) {
	late := follows(4)
	late.AppliedAt = 9
	return account{
		number: 1,
		row:    &freshet.Following{Version: 9, Relations: []freshet.Relation{follows(2), follows(3), late}},
		feed:   feeds.Feed{Header: feeds.Header{RowVersion: 5}, IDs: ids(90, 70)},
		logged: ids(80),
		lists: map[freshet.Number]*list{
			1: {ids: ids(85)}, 2: {ids: ids(90, 80)}, 3: {ids: ids(70)}, 4: {ids: ids(75)},
		},
	}, feeds.Layout{Zones: 1, FeedLength: 5}
}

func all(freshet.PostID) bool { return true }

func TestSuspect(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*account)
		flushed func(freshet.PostID) bool
		missing []entry
		strange []freshet.PostID
	}{
		"as it should be":           {change: func(*account) {}},
		"a post is missing":         {change: func(a *account) { a.logged = nil }, missing: []entry{{80, 2}}},
		"a post is too many":        {change: func(a *account) { a.logged = ids(80, 60) }, strange: ids(60)},
		"one of late authors is in": {change: func(a *account) { a.logged = ids(80, 75) }},
		"its own is in":             {change: func(a *account) { a.logged = ids(80, 85) }},
		"missing, and not flushed": {
			change:  func(a *account) { a.logged = nil },
			flushed: func(id freshet.PostID) bool { return id != 80 },
		},
		"too many, and not flushed": {
			change:  func(a *account) { a.logged = ids(80, 60) },
			flushed: func(id freshet.PostID) bool { return id != 60 },
		},
		"below the floor of a full feed": {
			change: func(a *account) {
				a.feed.IDs, a.lists[2].ids = ids(99, 98, 97, 96, 90), ids(99, 98, 97, 96, 90, 80)
				a.logged = nil
			},
		},
		"in a full feed": {
			change: func(a *account) {
				a.feed.IDs, a.lists[2].ids = ids(99, 98, 97, 96, 70), ids(99, 98, 97, 96, 90)
				a.logged = nil
			},
			missing: []entry{{90, 2}},
		},
		"a late entry below the floor": {
			change: func(a *account) {
				a.feed.IDs, a.lists[2].ids = ids(99, 98, 97, 96, 90), ids(99, 98, 97, 96, 90, 80)
				a.logged = ids(80)
			},
		},
		"of a muted author": {change: func(a *account) { a.logged, a.row.Muted = nil, []freshet.Number{2} }},
		"of an author whom the account does not follow any more": {
			change:  func(a *account) { a.row.Relations[0].Follows = false },
			strange: ids(90, 80),
		},
		"of an author whose tree has not reported": {
			change: func(a *account) { a.logged, a.row.Relations[0].Applied = nil, false },
		},
		"of an author who is pulled": {
			change: func(a *account) {
				a.logged, a.pulled = nil, views.Pulled{}.With(freshet.Tier{Author: 2, Ever: true})
			},
		},
		"an outbox that says little": {change: func(a *account) { a.logged, a.lists[2].unwell = nil, true }},
	} {
		t.Run(name, func(t *testing.T) {
			a, layout := subject()
			tt.change(&a)
			if tt.flushed == nil {
				tt.flushed = all
			}
			s := suspect(a, layout, tt.flushed)
			if !slices.Equal(s.missing, tt.missing) || !slices.Equal(s.strange, tt.strange) {
				t.Errorf("missing %v, strange %v; want %v and %v", s.missing, s.strange, tt.missing, tt.strange)
			}
		})
	}
}

func TestLists(t *testing.T) {
	l := &lists{layout: feeds.Layout{Zones: 1, FeedLength: 3}}
	outbox := func(loaded bool, posts ...freshet.PostID) *feeds.ReadOutbox {
		var value []byte
		if loaded {
			value = slices.Repeat([]byte{0xff}, 8)
		}
		for _, id := range posts {
			value = feeds.AppendID(value, id)
		}
		return &feeds.ReadOutbox{Value: value, State: feeds.ZoneState{Token: "1"}}
	}
	stored := ids(9, 7, 5)
	for name, tt := range map[string]struct {
		read       *feeds.ReadOutbox
		ids, lacks []freshet.PostID
	}{
		"whole":                       {outbox(true, 5, 7, 9), ids(9, 7, 5), nil},
		"one is missing":              {outbox(true, 5, 9), ids(9, 7, 5), ids(7)},
		"never loaded":                {outbox(false, 9), ids(9, 7, 5), nil},
		"with what is not stored yet": {outbox(true, 5, 7, 9, 11), ids(11, 9, 7), nil},
		"full, and older ones stored": {outbox(true, 7, 9, 11), ids(11, 9, 7), nil},
		"nothing":                     {outbox(false), ids(9, 7, 5), nil},
	} {
		if of := l.merge(tt.read, stored); !slices.Equal(of.ids, tt.ids) || !slices.Equal(of.lacks, tt.lacks) {
			t.Errorf("%s: %v, which lacks %v; want %v and %v", name, of.ids, of.lacks, tt.ids, tt.lacks)
		}
	}
	if of := l.merge(&feeds.ReadOutbox{Value: []byte("odd")}, stored); !of.corrupt || !of.unwell {
		t.Errorf("a corrupt outbox of a lost zone is %+v", of)
	}
}

// TestUnits: every account belongs to one unit, also where partitions are empty or end within a block.
func TestUnits(t *testing.T) {
	size := map[int32]int64{0: 70, 1: 0, 2: 32, 3: 1}
	u := unitsOf(size, Options{})
	seen := map[freshet.Number]bool{}
	for i := range u.count() {
		for _, slot := range u.at(i).slots {
			n := freshet.Number(u.at(i).block*freshet.SlotsPerBlock + uint64(slot))
			if seen[n] {
				t.Errorf("account %d comes twice", n)
			}
			seen[n] = true
		}
	}
	for partition, n := range size {
		for offset := range n {
			if !seen[freshet.NumberAt(partition, offset)] {
				t.Errorf("account %d/%d is left out", partition, offset)
			}
		}
	}
	if len(seen) != 103 {
		t.Errorf("%d accounts, want 103", len(seen))
	}
	seed := rand.Uint64()
	drawn := draw(size, 50, seed)
	if again := draw(size, 50, seed); len(slices.Compact(drawn)) != 50 || !slices.Equal(drawn, again) {
		t.Errorf("seed %d draws %v and then %v", seed, drawn, again)
	}
	if most := draw(size, 1000, seed); len(most) != 103 {
		t.Errorf("of 103 accounts 1000 are %d", len(most))
	}
}

// TestState: an audit goes on where it was, over the accounts that there were, and leaves another one's state alone.
func TestState(t *testing.T) {
	file := t.TempDir() + "/state"
	a := &Auditor{
		Sources: &Sources{}, opts: Options{State: file, Sample: 3}, size: map[int32]int64{0: 64},
		summary: Summary{Checked: 7, Differences: map[string]int{"feed missing": 2}},
	}
	if err := a.note(5); err != nil {
		t.Fatal(err)
	}
	b := &Auditor{Sources: &Sources{}, opts: Options{State: file, Sample: 3}, size: map[int32]int64{0: 99}}
	next, err := b.resume()
	if err != nil || next != 5 || b.size[0] != 64 || b.summary.Checked != 7 || b.summary.Found() != 2 {
		t.Errorf("it goes on at %d of %v with %+v (%v)", next, b.size, b.summary, err)
	}
	b.opts.Sample = 4
	if _, err := b.resume(); err == nil {
		t.Error("the state of another sample is taken for its own")
	}
}
