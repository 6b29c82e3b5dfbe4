package feeds

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"freshet"
)

func TestFeedRoundTrip(t *testing.T) {
	for _, feed := range []Feed{
		{},
		{Header: Header{RowVersion: 7, Read: 20000}, IDs: []freshet.PostID{9, 4, 1}},
		{Header: Header{Building: true, Build: 1 << 63, Lease: time.UnixMilli(1234), Read: 1}, IDs: []freshet.PostID{1}},
	} {
		got, err := DecodeFeed(feed.Encode())
		if err != nil || got.Header != feed.Header || !slices.Equal(got.IDs, feed.IDs) {
			t.Errorf("%+v came back as %+v, %v", feed, got, err)
		}
	}
}

func FuzzDecodeFeed(f *testing.F) {
	f.Add(Feed{IDs: []freshet.PostID{3, 2}}.Encode())
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		feed, err := DecodeFeed(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v does not wrap ErrCorrupt", err)
			}
			return
		}
		if again, err := DecodeFeed(feed.Encode()); err != nil || !reflect.DeepEqual(again, feed) {
			t.Fatalf("%+v came back as %+v, %v", feed, again, err)
		}
	})
}

func FuzzDecodeOutbox(f *testing.F) {
	f.Add(encodeOutbox([]freshet.PostID{3, 2}, true))
	f.Add(encodeOutbox([]freshet.PostID{3, 2}, false))
	f.Add([]byte("odd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, loaded, err := decodeOutbox(b, 3)
		if err != nil {
			return
		}
		again, stillLoaded, err := decodeOutbox(encodeOutbox(ids, loaded), 3)
		if err != nil || stillLoaded != loaded || !slices.Equal(again, ids) {
			t.Fatalf("%v, %v came back as %v, %v, %v", ids, loaded, again, stillLoaded, err)
		}
	})
}

func TestFloor(t *testing.T) {
	l := Layout{Zones: 1, FeedLength: 3}
	if got := l.Floor([]freshet.PostID{9, 8}); got != 0 {
		t.Errorf("a list that is not full has the floor %d", got)
	}
	if got := l.Floor([]freshet.PostID{9, 8, 7}); got != 7 {
		t.Errorf("a full list has the floor %d, want its lowest", got)
	}
}

// Compacting is a merge: what is in the feed and the log of a warm account, newest first, once each, cut; nothing of a
// cold account; and doing it in two steps is the same as in one.
func TestCompact(t *testing.T) {
	l := Layout{Zones: 1, FeedLength: 4}
	rapid.Check(t, func(t *rapid.T) {
		warm := rapid.SliceOfDistinct(rapid.ByteRange(0, 5), rapid.ID[byte]).Draw(t, "warm")
		feeds, want := map[byte][]byte{}, map[byte][]freshet.PostID{}
		for _, slot := range warm {
			ids := newest(rapid.SliceOfN(rapid.Uint64Range(1, 20), 0, 4).Draw(t, "ids"), 4)
			feeds[slot] = Feed{Header: Header{Read: 100}, IDs: ids}.Encode()
			want[slot] = ids
		}
		var log []byte
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			slot, id := rapid.ByteRange(0, 5).Draw(t, "slot"), freshet.PostID(rapid.Uint64Range(1, 20).Draw(t, "id"))
			log = AppendEntry(log, slot, id)
			if ids, isWarm := want[slot]; isWarm {
				want[slot] = append(slices.Clone(ids), id)
			}
		}
		cut := entrySize * rapid.IntRange(0, len(log)/entrySize).Draw(t, "cut")
		for _, part := range [][]byte{log[:cut], log[cut:]} {
			changed, result := l.compact(part, feeds, 50)
			if result.Corrupt != nil || result.Entries+result.Dropped != len(part)/entrySize {
				t.Fatalf("%+v of %d entries", result, len(part)/entrySize)
			}
			if result.Cold > 0 {
				t.Fatalf("%d feeds became cold", result.Cold)
			}
			if changed != nil {
				feeds = changed
			}
		}
		for slot, ids := range want {
			feed, err := DecodeFeed(feeds[slot])
			if err != nil || !slices.Equal(feed.IDs, Newest(slices.Clone(ids), 4)) {
				t.Fatalf("slot %d holds %v, %v; want the newest of %v", slot, feed.IDs, err, ids)
			}
		}
		if len(feeds) != len(want) {
			t.Fatalf("%d feeds, want %d: a cold account became warm", len(feeds), len(want))
		}
	})
}

func newest(raw []uint64, limit int) []freshet.PostID {
	ids := make([]freshet.PostID, len(raw))
	for i, id := range raw {
		ids[i] = freshet.PostID(id)
	}
	return Newest(ids, limit)
}

func TestCompactMakesCold(t *testing.T) {
	l := Layout{Zones: 1, FeedLength: 4}
	feeds := map[byte][]byte{
		1: Feed{Header: Header{Read: 49}}.Encode(),                                    // not read for long
		2: Feed{Header: Header{Read: 50, Building: true, Lease: time.Now()}}.Encode(), // being built
		3: []byte("no feed"),                                                          // corrupt
		4: Feed{Header: Header{Read: 50}, IDs: []freshet.PostID{5}}.Encode(),          // well
		5: Feed{Header: Header{Read: 49, Building: true, Lease: time.Now()}}.Encode(), // its builder has gone
	}
	changed, result := l.compact(AppendEntry(nil, 4, 9), feeds, 50)
	if len(changed) != 2 || changed[2] == nil || changed[4] == nil || result.Cold != 3 {
		t.Errorf("%d became cold, %v stay", result.Cold, changed)
	}
	if !errors.Is(result.Corrupt, ErrCorrupt) {
		t.Errorf("the corrupt feed is not reported: %v", result.Corrupt)
	}
	changed, result = l.compact([]byte("a log cut in the middle"), feeds, 50)
	if changed == nil || len(changed) != 0 || result.Cold != 5 || !errors.Is(result.Corrupt, ErrCorrupt) {
		t.Errorf("a corrupt log leaves %v, %+v; want the block cold", changed, result)
	}
}

func TestLayoutSpreads(t *testing.T) {
	l := Layout{Zones: 16, FeedLength: 1}
	count := map[Zone]int{}
	for block := range uint64(16_000) {
		count[l.OfBlock(block)]++
	}
	for zone := range Zone(16) {
		if count[zone] < 800 || count[zone] > 1200 {
			t.Errorf("zone %d has %d of 16000 neighbouring blocks", zone, count[zone])
		}
	}
}

func TestInputField(t *testing.T) {
	for _, input := range []Input{{InputPosts, 0}, {InputLoop, 127}, {"a:b", 3}} {
		if got, ok := parseInput(input.field()); !ok || got != input {
			t.Errorf("%v came back as %v, %v", input, got, ok)
		}
	}
	for _, field := range []string{"", "posts", "posts:", ":1", "posts:x", "posts:99999999999"} {
		if got, ok := parseInput(field); ok {
			t.Errorf("%q was read as %v", field, got)
		}
	}
}
