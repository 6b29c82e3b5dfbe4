package feeds_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/feeds/feedstest"
)

// TestMakeCold: a feed that is made cold is gone, and so is what the log had for it, while the others of the block keep
// what they had.
func TestMakeCold(t *testing.T) {
	layout := feeds.Layout{Zones: 1, FeedLength: 4}
	conn := feedstest.NewModel(layout, time.Now)
	do := func(ops ...feeds.Op) {
		t.Helper()
		if err := conn.Do(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
	}
	names := 0
	next := func() string { names++; return strconv.Itoa(names) }
	if _, err := layout.MakeCold(t.Context(), conn, 3, nil, next); !errors.Is(err, feeds.ErrLostZone) {
		t.Errorf("in a lost zone: %v", err)
	}
	do(&feeds.Recover{Zone: 0, New: "1-a"})
	today := feeds.DayOf(time.Now())
	for slot, id := range map[byte]freshet.PostID{1: 10, 2: 20} {
		read := &feeds.ReadBlock{Block: 3, Slot: feeds.AllSlots}
		do(read)
		do(&feeds.SwapFeed{
			Block: 3, Slot: slot, Token: "1-a", Generation: read.Generation, Next: next(),
			Value: feeds.Feed{Header: feeds.Header{Read: today}, IDs: []freshet.PostID{id}}.Encode(),
		})
	}
	var log []byte
	for _, slot := range []byte{1, 2, 7} { // the last is cold
		log = feeds.AppendEntry(log, slot, 30)
	}
	do(&feeds.AppendLog{Block: 3, Entries: log})
	made, err := layout.MakeCold(t.Context(), conn, 3, []byte{1, 9}, next)
	if err != nil || made != 1 {
		t.Errorf("%d feeds were made cold (%v), want one", made, err)
	}
	read := &feeds.ReadBlock{Block: 3, Slot: feeds.AllSlots}
	do(read)
	if _, _, err := read.Feed(1); !errors.Is(err, feeds.ErrNoFeed) {
		t.Errorf("the feed is still there: %v", err)
	}
	other, logged, err := read.Feed(2)
	if err != nil || !slices.Equal(other.IDs, []freshet.PostID{30, 20}) || len(logged)+len(read.Log) > 0 {
		t.Errorf("the other feed has %v, and the log %v (%v)", other.IDs, read.Log, err)
	}
	if made, err := layout.MakeCold(t.Context(), conn, 3, nil, next); err != nil || made != 1 {
		t.Errorf("%d feeds were made cold (%v), want the other one", made, err)
	}
	if made, err := layout.MakeCold(t.Context(), conn, 3, nil, next); err != nil || made != 0 {
		t.Errorf("%d feeds were made cold (%v) where there is none", made, err)
	}
}
