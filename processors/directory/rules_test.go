package directory

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"freshet"
	"freshet/internal/events"
)

func TestRegister(t *testing.T) {
	n := func(offset int64) uint64 { return uint64(freshet.NumberAt(3, offset)) }
	row := func(change func(*events.DirectoryRow)) *events.DirectoryRow {
		r := &events.DirectoryRow{Id: "ada", Number: n(5), Name: "Ada", CreatedAt: 50, NextRegistration: 6, NextProfile: 9}
		if change != nil {
			change(r)
		}
		return r
	}
	for name, tt := range map[string]struct {
		row      *events.DirectoryRow
		offset   int64
		replaces *uint64
		want     *events.DirectoryRow
	}{
		"a free id": {nil, 7, nil, &events.DirectoryRow{Id: "ada", Number: n(7), CreatedAt: 70, NextRegistration: 8}},
		"the first of its partition": {nil, 0, nil,
			&events.DirectoryRow{Id: "ada", Number: n(0), CreatedAt: 70, NextRegistration: 1}},
		"an open id":  {row(nil), 7, nil, row(func(r *events.DirectoryRow) { r.NextRegistration = 8 })},
		"redelivered": {row(nil), 5, nil, row(func(r *events.DirectoryRow) { r.CreatedAt = 70 })},
		"old":         {row(nil), 4, nil, row(nil)},
		"a closed id, not named": {row(func(r *events.DirectoryRow) { r.Closed = true }), 7, nil,
			row(func(r *events.DirectoryRow) { r.Closed, r.NextRegistration = true, 8 })},
		"a closed id": {row(func(r *events.DirectoryRow) { r.Closed = true }), 7, proto.Uint64(n(5)),
			row(func(r *events.DirectoryRow) { r.Number, r.Name, r.CreatedAt, r.NextRegistration = n(7), "", 70, 8 })},
		"an id that closes later": {row(nil), 7, proto.Uint64(n(5)),
			row(func(r *events.DirectoryRow) { r.Number, r.Name, r.CreatedAt, r.NextRegistration = n(7), "", 70, 8 })},
		"another is replaced": {row(nil), 7, proto.Uint64(n(4)),
			row(func(r *events.DirectoryRow) { r.NextRegistration = 8 })},
		"its profile came first": {&events.DirectoryRow{Number: n(7), Name: "Ada", NextProfile: 1}, 7, nil,
			&events.DirectoryRow{Id: "ada", Number: n(7), Name: "Ada", CreatedAt: 70, NextRegistration: 8, NextProfile: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			before := proto.Clone(tt.row)
			got := register(tt.row, "ada", freshet.NumberAt(3, tt.offset), &events.Registration{At: 70, Replaces: tt.replaces})
			if !proto.Equal(got, tt.want) {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
			if tt.row != nil && !proto.Equal(tt.row, before) {
				t.Errorf("the row that was given is now %v", tt.row)
			}
		})
	}
}

func TestUpdateRefusesANumberOfAnotherPartition(t *testing.T) {
	row, err := update(nil, 3, 0, &events.Profile{Number: uint64(freshet.NumberAt(2, 0))})
	if err == nil {
		t.Errorf("got %v, want an error", row)
	}
}

// TestOrderOfTopicsDoesNotMatter makes up what can happen to an id, with registrations that lose against each other,
// and delivers the two logs in random interleavings, with steps back, profiles compacted: the account is always the
// same.
func TestOrderOfTopicsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const partition = 3
		var (
			registrations []*events.Registration
			profiles      []*events.Profile
			want          *events.DirectoryRow
		)
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			switch rapid.SampledFrom([]string{"register", "register", "rename", "close"}).Draw(t, "event") {
			case "register":
				r := &events.Registration{At: int64(100 + len(registrations))}
				if want != nil && want.GetClosed() {
					r.Replaces = proto.Uint64(want.GetNumber())
				}
				number := uint64(freshet.NumberAt(partition, int64(len(registrations))))
				if want == nil || want.GetClosed() {
					want = &events.DirectoryRow{Id: "ada", Number: number, CreatedAt: r.GetAt()}
				}
				registrations = append(registrations, r)
				if rapid.Bool().Draw(t, "twice at once") {
					registrations = append(registrations, proto.Clone(r).(*events.Registration))
				}
			case "rename", "close":
				if want == nil || want.GetClosed() {
					continue
				}
				want.Name = rapid.StringMatching("[a-z]{0,2}").Draw(t, "name")
				want.Closed = rapid.Bool().Draw(t, "closed")
				profiles = append(profiles, &events.Profile{
					Number: want.GetNumber(), Name: want.GetName(), Closed: want.GetClosed(),
				})
			}
		}
		compacted := len(profiles) > 0 && rapid.Bool().Draw(t, "compacted")

		var row *events.DirectoryRow
		for i, j := 0, 0; i < len(registrations) || j < len(profiles); {
			takeRegistration := j == len(profiles) || i < len(registrations) && rapid.Bool().Draw(t, "which")
			if takeRegistration {
				row = register(row, "ada", freshet.NumberAt(partition, int64(i)), registrations[i])
				i++
			} else {
				if !compacted || j == len(profiles)-1 {
					var err error
					if row, err = update(row, partition, int64(j), profiles[j]); err != nil {
						t.Fatal(err)
					}
				}
				j++
			}
			if rapid.IntRange(0, 4).Draw(t, "step back") == 0 { // a crash: both logs from what was committed
				i = rapid.IntRange(0, i).Draw(t, "registrations from")
				j = rapid.IntRange(0, j).Draw(t, "profiles from")
			}
		}
		if want == nil {
			if row != nil {
				t.Fatalf("got %v, want no row", row)
			}
			return
		}
		want.NextRegistration, want.NextProfile = int64(len(registrations)), int64(len(profiles))
		if !proto.Equal(row, want) {
			t.Fatalf("got  %v\nwant %v", row, want)
		}
	})
}
