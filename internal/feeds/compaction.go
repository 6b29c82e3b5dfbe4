package feeds

import (
	"context"
	"errors"
	"fmt"

	"freshet"
)

// Compacted tells what a compaction found.
type Compacted struct {
	// Entries is how many log entries were merged into feeds, Dropped how many were of cold accounts.
	Entries, Dropped int
	// Corrupt is an error for each value that did not decode; such feeds were made cold.
	Corrupt error
}

// compact is the rule: the entries of the log go into the feeds, newest first, without doubles, cut at FeedLength.
// Entries of cold accounts are dropped, for the next read builds such a feed from outboxes. A feed that was last read
// before the day oldest becomes cold. A corrupt feed becomes cold; a corrupt log makes the whole block cold. It answers
// the slots that change; nil makes a slot cold.
func (l Layout) compact(log []byte, feeds map[byte][]byte, oldest Day) (map[byte][]byte, Compacted) {
	var result Compacted
	changed := map[byte][]byte{}
	entries := map[byte][]freshet.PostID{}
	count := map[byte]int{}
	if err := decodeLog(log, func(slot byte, id freshet.PostID) {
		count[slot]++
		if _, warm := feeds[slot]; warm {
			entries[slot] = append(entries[slot], id)
		}
	}); err != nil {
		for slot := range feeds {
			changed[slot] = nil
		}
		result.Corrupt = err
		return changed, result
	}
	for slot, value := range feeds {
		feed, err := DecodeFeed(value)
		switch {
		case err != nil:
			changed[slot] = nil
			result.Corrupt = errors.Join(result.Corrupt, fmt.Errorf("slot %d: %w", slot, err))
		case feed.Read < oldest && !feed.Building:
			changed[slot] = nil
		case len(entries[slot]) > 0:
			feed.IDs = Newest(append(feed.IDs, entries[slot]...), l.FeedLength)
			changed[slot] = feed.Encode()
			result.Entries += count[slot]
			delete(count, slot)
		}
	}
	for _, n := range count {
		result.Dropped += n
	}
	return changed, result
}

// CompactBlock merges a block's log into its feeds. next is a generation that no block has ever had. Nothing changes
// when another writer or reader got in between, or Redis has lost something: the next compaction will do it.
func (l Layout) CompactBlock(
	ctx context.Context, conn Conn, block uint64, oldest Day, next string,
) (Compacted, error) {
	read := &ReadBlock{Block: block, Slot: AllSlots}
	if err := conn.Do(ctx, read); err != nil {
		return Compacted{}, fmt.Errorf("read block %d for compaction: %w", block, err)
	}
	if read.State.Token == "" {
		return Compacted{}, nil
	}
	changed, result := l.compact(read.Log, read.Feeds, oldest)
	if len(changed) == 0 && len(read.Log) == 0 {
		return result, nil
	}
	write := &Compact{
		Block: block, Token: read.State.Token, Generation: read.Generation, Next: next, Log: read.Log, Feeds: changed,
	}
	if err := conn.Do(ctx, write); err != nil {
		return Compacted{}, fmt.Errorf("compact block %d: %w", block, err)
	}
	return result, nil
}
