package rebuild

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"freshet"
	"freshet/internal/feeds"
)

// Feeds makes feeds cold. Whoever reads one then builds it from the outboxes of everybody that the account follows,
// which costs the reader some milliseconds and Redis as many reads; so they are made cold at a rate.
type Feeds struct {
	Conn   feeds.Conn
	Layout feeds.Layout
	// Rate is how many feeds are made cold each second; 0: as fast as it goes.
	Rate     float64
	Progress Progress
}

// FeedsSummary is what became of feeds.
type FeedsSummary struct {
	Blocks int `json:"blocks"`
	// Cold is how many feeds were made cold; the others were already.
	Cold int `json:"cold"`
	// Lost is how many blocks were left out because Redis has lost their zone: once it is recovered all in it is cold.
	Lost int `json:"lost_blocks"`
}

// Some makes the feeds of accounts cold.
func (f Feeds) Some(ctx context.Context, accounts []freshet.Number) (s FeedsSummary, err error) {
	slots := feeds.SlotsOf(accounts)
	at := pace{rate: f.Rate}
	for block, of := range slots {
		if err := f.block(ctx, &s, &at, block, of); err != nil {
			return s, err
		}
		f.Progress("making feeds cold", s.Blocks, len(slots))
	}
	return s, nil
}

// All makes all feeds cold. size is how many registrations each partition has.
func (f Feeds) All(ctx context.Context, size map[int32]int64) (s FeedsSummary, err error) {
	total := 0
	blocks := func(n int64) int64 { return (n + freshet.SlotsPerBlock - 1) / freshet.SlotsPerBlock }
	for _, n := range size {
		total += int(blocks(n))
	}
	at := pace{rate: f.Rate}
	for partition, n := range size {
		for i := range blocks(n) {
			block := freshet.NumberAt(partition, i*freshet.SlotsPerBlock).Block()
			if err := f.block(ctx, &s, &at, block, nil); err != nil {
				return s, err
			}
			f.Progress("making feeds cold", s.Blocks, total)
		}
	}
	return s, nil
}

func (f Feeds) block(ctx context.Context, s *FeedsSummary, at *pace, block uint64, slots []byte) error {
	made, err := f.Layout.MakeCold(ctx, f.Conn, block, slots, generation)
	if errors.Is(err, feeds.ErrLostZone) {
		s.Lost++
		err = nil
	}
	if err != nil {
		return err
	}
	s.Blocks++
	s.Cold += made
	return at.spend(ctx, made)
}

// generation names a state of a block as no other ever was.
func generation() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
