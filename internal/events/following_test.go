package events

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"freshet"
)

func followingRoundTrip(t interface{ Fatalf(string, ...any) }, f *freshet.Following) *freshet.Following {
	data, err := proto.Marshal(EncodeFollowing(f))
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	var row FollowingRow
	if err := proto.Unmarshal(data, &row); err != nil {
		t.Fatalf("unmarshal: %v", err)
	}
	back, err := DecodeFollowing(&row)
	if err != nil {
		t.Fatalf("decode %+v: %v", f, err)
	}
	return back
}

func TestFollowingRowsComeBackAsTheyWere(t *testing.T) {
	if back := followingRoundTrip(t, nil); !reflect.DeepEqual(back, &freshet.Following{}) {
		t.Errorf("no row came back as %+v", back)
	}
	rapid.Check(t, func(t *rapid.T) {
		// Draws prefer small numbers, so differences of 1 and the ends of the range are common.
		number := rapid.Map(rapid.Uint64Max(math.MaxInt64), func(n uint64) freshet.Number { return freshet.Number(n) })
		f := &freshet.Following{Version: rapid.Uint64().Draw(t, "version"), Next: rapid.Int64Min(0).Draw(t, "next")}
		for _, account := range append(rapid.SliceOf(number).Draw(t, "accounts"), 0, math.MaxInt64) {
			f.SetRelation(freshet.Relation{
				Account: account, Version: rapid.Int64Min(0).Draw(t, "version"), Follows: rapid.Bool().Draw(t, "follows"),
				Applied: rapid.Bool().Draw(t, "applied"), AppliedAt: rapid.Uint64().Draw(t, "applied at"),
			})
		}
		for i, r := range f.Relations {
			if i%2 == 0 {
				f.Muted = append(f.Muted, r.Account)
			}
			if i%3 == 0 {
				f.Blocked = append(f.Blocked, r.Account)
			}
		}
		if back := followingRoundTrip(t, f); !reflect.DeepEqual(back, f) {
			t.Fatalf("%+v came back as %+v", f, back)
		}
	})
}

func TestRowsThatNoFollowingCanBeAreRefused(t *testing.T) {
	row := func(change func(*FollowingRow)) *FollowingRow {
		r := &FollowingRow{
			Version: 2, Next: 9, Accounts: []uint64{3, 4}, Versions: []int64{7, 8}, Flags: []byte{3, 0},
			AppliedAt: []uint64{2, 0}, Muted: []uint64{0, 1}, Blocked: []uint64{5},
		}
		change(r)
		return r
	}
	if _, err := DecodeFollowing(row(func(*FollowingRow) {})); err != nil {
		t.Fatalf("a good row: %v", err)
	}
	for name, change := range map[string]func(*FollowingRow){
		"next is negative":       func(r *FollowingRow) { r.Next = -1 },
		"a version is negative":  func(r *FollowingRow) { r.Versions[1] = -1 },
		"a version is missing":   func(r *FollowingRow) { r.Versions = r.Versions[:1] },
		"flags are missing":      func(r *FollowingRow) { r.Flags = nil },
		"applied at is missing":  func(r *FollowingRow) { r.AppliedAt = r.AppliedAt[:1] },
		"an account is missing":  func(r *FollowingRow) { r.Accounts = r.Accounts[:1] },
		"accounts are missing":   func(r *FollowingRow) { r.Accounts = nil },
		"a flag isn't known":     func(r *FollowingRow) { r.Flags[0] = 4 },
		"an account twice":       func(r *FollowingRow) { r.Accounts[1] = 0 },
		"muted twice":            func(r *FollowingRow) { r.Muted[1] = 0 },
		"an account past 2^63-1": func(r *FollowingRow) { r.Accounts[1] = math.MaxInt64 },
		"blocked past 2^63-1":    func(r *FollowingRow) { r.Blocked[0] = 1 << 63 },
		"muted wraps around":     func(r *FollowingRow) { r.Muted = []uint64{9, math.MaxUint64} },
		"columns and packed":     func(r *FollowingRow) { r.Relations = []byte{9, 0} },
		"a packed relation ends": func(r *FollowingRow) { *r = FollowingRow{Relations: []byte{1, 3, packedOffset}} },
		"a packed account alone": func(r *FollowingRow) { *r = FollowingRow{Relations: []byte{1, 3}} },
		"a packed one twice":     func(r *FollowingRow) { *r = FollowingRow{Relations: []byte{2, 3, 0, 0, 0}} },
		"bytes left over":        func(r *FollowingRow) { *r = FollowingRow{Relations: []byte{1, 3, 0, 0}} },
		"too few packed":         func(r *FollowingRow) { *r = FollowingRow{Relations: []byte{2, 3, 0}} },
		"no packed":              func(r *FollowingRow) { *r = FollowingRow{Relations: []byte{0}} },
		"a packed flag":          func(r *FollowingRow) { *r = FollowingRow{Relations: []byte{1, 3, 32}} },
		"a packed offset below":  func(r *FollowingRow) { *r = FollowingRow{Relations: []byte{1, 3, packedOffset, 1}} },
		"a packed attempt": func(r *FollowingRow) {
			*r = FollowingRow{Relations: []byte{1, 3, packedAttempt, 0x80, 0x80, 4}}
		},
		"a packed number": func(r *FollowingRow) {
			*r = FollowingRow{Relations: append(append([]byte{1}, bytes.Repeat([]byte{0xff}, 9)...), 1, 0)}
		},
	} {
		if f, err := DecodeFollowing(row(change)); !errors.Is(err, ErrFollowingRow) || f != nil {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

func FuzzDecodeFollowing(f *testing.F) {
	f.Add([]byte{})
	data, err := proto.Marshal(&FollowingRow{
		Version: 2, Next: 9, Accounts: []uint64{3, 4}, Versions: []int64{7, 8}, Flags: []byte{3, 0},
		AppliedAt: []uint64{2, 0}, Muted: []uint64{0, 1}, Blocked: []uint64{5},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	packed, err := proto.Marshal(fixtures["FollowingRow-packed"])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var row FollowingRow
		if proto.Unmarshal(data, &row) != nil {
			return
		}
		decoded, err := DecodeFollowing(&row)
		if err != nil {
			return
		}
		if back := followingRoundTrip(t, decoded); !reflect.DeepEqual(back, decoded) {
			t.Fatalf("%+v came back as %+v", decoded, back)
		}
	})
}
