package feeds

import (
	"context"
	"encoding/binary"
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
// before the day oldest becomes cold, and so does one whose builder never finished: the lease of its mark ran out days
// ago. A corrupt feed becomes cold; a corrupt log makes the whole block cold. It answers the slots that change; nil
// makes a slot cold.
func (l Layout) compact(log []byte, feeds map[byte][]byte, oldest Day) (map[byte][]byte, Compacted) {
	var result Compacted
	changed := make(map[byte][]byte, len(feeds))
	entries, err := bySlot(log)
	if err != nil {
		for slot := range feeds {
			changed[slot] = nil
		}
		result.Corrupt = err
		return changed, result
	}
	for slot, value := range feeds {
		var logged []freshet.PostID
		if slot < freshet.SlotsPerBlock {
			logged = entries[slot]
		}
		header, ids, err := decodeHeader(value)
		if err == nil {
			err = checkFeed(ids)
		}
		switch {
		case err != nil:
			changed[slot] = nil
			result.Corrupt = errors.Join(result.Corrupt, fmt.Errorf("slot %d: %w", slot, err))
		case header.Read < oldest:
			changed[slot] = nil
		case len(logged) > 0:
			result.Entries += len(logged)
			changed[slot] = merge(value[:headerSize], ids, Newest(logged, l.FeedLength), l.FeedLength)
			entries[slot] = nil
		}
	}
	for _, logged := range &entries {
		result.Dropped += len(logged)
	}
	return changed, result
}

// bySlot is the ids of each slot, in the order of the log.
func bySlot(log []byte) (ids [freshet.SlotsPerBlock][]freshet.PostID, err error) {
	var count [freshet.SlotsPerBlock]int
	if err := decodeLog(log, func(slot byte, _ freshet.PostID) { count[slot]++ }); err != nil {
		return ids, err
	}
	all := make([]freshet.PostID, len(log)/entrySize)
	for slot, n := range count {
		ids[slot], all = all[:0:n], all[n:]
	}
	err = decodeLog(log, func(slot byte, id freshet.PostID) { ids[slot] = append(ids[slot], id) })
	return ids, err
}

// merge is a feed with that header, whose ids are those of old, encoded, and of newer, sorted newest first: each once,
// at most limit.
func merge(header, old []byte, newer []freshet.PostID, limit int) []byte {
	feed := make([]byte, headerSize, headerSize+min(len(old)+idSize*len(newer), idSize*limit))
	copy(feed, header)
	for full := headerSize + idSize*limit; len(feed) < full && (len(old) > 0 || len(newer) > 0); {
		var next freshet.PostID
		if len(old) > 0 {
			next = freshet.PostID(binary.BigEndian.Uint64(old))
		}
		switch {
		case len(newer) > 0 && newer[0] > next:
			next, newer = newer[0], newer[1:]
		case len(newer) > 0 && newer[0] == next:
			newer, old = newer[1:], old[idSize:]
		default:
			old = old[idSize:]
		}
		feed = AppendID(feed, next)
	}
	return feed
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
