package feeds

import (
	"context"
	"errors"
	"slices"
	"testing"

	"freshet"
)

// stored is a post store that has the same posts of every author.
type stored []freshet.Post

func (s stored) ByAuthor(context.Context, freshet.Number, freshet.PostID, int) ([]freshet.Post, error) {
	return s, nil
}

// Posts that were never delivered are in the post store: after a reload outboxes have them, whole or not, beside what
// they had, and no feed is left from before.
func TestReload(t *testing.T) {
	f := newFixture(t, func(cfg *WriterConfig) {
		conn, _ := cfg.Conn.(*Redis)
		cfg.Held = conn.Held
	})
	f.deliver(20, 1, 2, 40)
	outbox := func(store stored) []freshet.PostID {
		t.Helper()
		read, err := f.layout.ReadOutboxes(t.Context(), f.conn, store, []freshet.Number{7})
		if err != nil {
			t.Fatal(err)
		}
		return read[0].IDs
	}
	if before := outbox(stored{{ID: 10}}); !slices.Equal(before, []freshet.PostID{20, 10}) {
		t.Fatalf("the outbox has %v", before)
	}
	for _, account := range []freshet.Number{1, 40} {
		zone := f.layout.OfBlock(account.Block())
		swap := &SwapFeed{
			Block: account.Block(), Slot: account.Slot(), Token: f.state(zone).Token, Next: "next",
			Value: Feed{Header: Header{Read: 1}, IDs: []freshet.PostID{10}}.Encode(),
		}
		if err := f.conn.Do(t.Context(), swap); err != nil || !swap.OK {
			t.Fatalf("no feed was made: %v", err)
		}
	}
	lately := stored{{ID: 15}, {ID: 10}} // while nobody delivered 15
	if lacks := outbox(lately); !slices.Equal(lacks, []freshet.PostID{20, 10}) {
		t.Fatalf("the outbox has %v before the reload", lacks)
	}
	if err := f.writer.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if whole := outbox(lately); !slices.Equal(whole, []freshet.PostID{20, 15, 10}) {
		t.Errorf("the outbox has %v after the reload", whole)
	}
	for _, account := range []freshet.Number{1, 40} {
		read := &ReadBlock{Block: account.Block(), Slot: int(account.Slot())}
		if err := f.conn.Do(t.Context(), read); err != nil {
			t.Fatal(err)
		}
		if _, _, err := read.Feed(account.Slot()); !errors.Is(err, ErrNoFeed) {
			t.Errorf("account %d still has a feed: %v", account, err)
		}
	}
}

// A reload that Redis has lost in between is not taken for done.
func TestReloadAcrossALoss(t *testing.T) {
	f := newFixture(t, func(cfg *WriterConfig) {
		conn, _ := cfg.Conn.(*Redis)
		cfg.Held = func(ctx context.Context, each func(Kept) error) error {
			err := conn.Held(ctx, each)
			if err == nil {
				err = conn.client.FlushAll(ctx).Err()
			}
			if err == nil {
				err = each(Kept{Outboxes: []freshet.Number{7}})
			}
			return err
		}
	})
	f.deliver(20, 1)
	if err := f.writer.Reload(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("the reload answers %v, want %v", err, ErrLost)
	}
}

func TestKept(t *testing.T) {
	var k Kept
	for _, key := range []string{
		"{z1}:outbox:7", "{z0}:feeds:40", "{z0}:log:40", "{z1}:token", "{z1}:post:7", "{z2}:staged:feeds:abc", "outbox:8",
	} {
		k.add(key)
	}
	if !slices.Equal(k.Outboxes, []freshet.Number{7}) || !slices.Equal(k.Blocks, []uint64{40}) {
		t.Errorf("%+v", k)
	}
}

// A group that was away for so long that its offsets are forgotten still knows, from Redis, how far it was.
func TestDecideWithoutOffsets(t *testing.T) {
	known := make([]Known, 2)
	opened := []*Open{
		{Zone: 0, Token: "1-a", Counter: 1, Marks: map[Input]int64{testInput: 9}},
		{Zone: 1, Token: "1-a", Counter: 1, Marks: map[Input]int64{testInput: 7}},
	}
	other := Input{InputLoop, 0}
	d := Decide(known, opened, Positions{Committed: map[Input]int64{testInput: -1, other: -1}})
	if at, ok := d.Marked[testInput]; !ok || at != 7 || len(d.Marked) != 1 || len(d.Back) != 0 || d.Again() {
		t.Errorf("%+v", d)
	}
}
