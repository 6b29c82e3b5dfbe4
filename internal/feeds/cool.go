package feeds

import (
	"context"
	"fmt"
	"maps"

	"freshet"
)

// coolTries is how often MakeCold begins anew when somebody else gets in between.
const coolTries = 100

// MakeCold makes feeds of a block cold, those of the slots given, or all for none, so that the next read of each builds
// it anew from outboxes. It returns how many there were. next draws a generation that no block has ever had.
//
// The block's log is emptied in the same step, also where no feed is there: what the log has for a slot when its feed
// is built becomes a part of it, so a feed made cold by itself would get back whatever was wrong in the log. The other
// feeds of the block are compacted. A reader that is building one of the feeds begins again. Entries that come after
// this step are kept by nobody until a reader has marked the slot, and are in outboxes by then.
//
// The error wraps ErrBusy when the block has changed under each of many tries, and ErrLostZone where Redis has lost the
// zone, whose feeds are cold anyway once it is recovered.
func (l Layout) MakeCold(ctx context.Context, conn Conn, block uint64, slots []byte, next func() string) (int, error) {
	for range coolTries {
		read := &ReadBlock{Block: block, Slot: AllSlots}
		if err := conn.Do(ctx, read); err != nil {
			return 0, fmt.Errorf("read block %d to make feeds cold: %w", block, err)
		}
		if read.State.Token == "" {
			return 0, fmt.Errorf("make feeds of block %d cold: %w", block, ErrLostZone)
		}
		kept := maps.Clone(read.Feeds)
		if len(slots) == 0 {
			clear(kept)
		}
		for _, slot := range slots {
			delete(kept, slot)
		}
		made := len(read.Feeds) - len(kept)
		if made == 0 && len(read.Log) == 0 {
			return 0, nil
		}
		merged, _ := l.compact(read.Log, kept, 0)
		if merged == nil && made > 0 {
			merged = kept
		}
		write := &Compact{
			Block: block, Token: read.State.Token, Generation: read.Generation, Next: next(), Log: read.Log, Feeds: merged,
		}
		if err := conn.Do(ctx, write); err != nil {
			return 0, fmt.Errorf("make feeds of block %d cold: %w", block, err)
		}
		if write.OK {
			return made, nil
		}
	}
	return 0, fmt.Errorf("make feeds of block %d cold: %w", block, ErrBusy)
}

// SlotsOf are the blocks of accounts, and their slots there.
func SlotsOf(accounts []freshet.Number) map[uint64][]byte {
	slots := map[uint64][]byte{}
	for _, n := range accounts {
		slots[n.Block()] = append(slots[n.Block()], n.Slot())
	}
	return slots
}
