package feeds

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"freshet"
	"freshet/internal/crash"
)

// Compacted tells what a compaction found.
type Compacted struct {
	// Entries is how many log entries were merged into feeds, Dropped how many were of cold accounts.
	Entries, Dropped int
	// Cold is how many feeds were made cold.
	Cold int
	// Corrupt is an error for each value that did not decode; such feeds were made cold.
	Corrupt error
}

// compact is the rule: the entries of the log go into the feeds, newest first, without doubles, cut at FeedLength.
// Entries of cold accounts are dropped, for the next read builds such a feed from outboxes. A feed that was last read
// before the day oldest becomes cold, and so does one whose builder never finished: the lease of its mark ran out days
// ago. A corrupt feed becomes cold; a corrupt log makes the whole block cold. It answers what the feeds are from then
// on; nil if they stay as they are.
func (l Layout) compact(log []byte, feeds map[byte][]byte, oldest Day) (map[byte][]byte, Compacted) {
	var result Compacted
	entries, count, err := bySlot(log, l.FeedLength)
	if err != nil {
		result.Corrupt, result.Cold = err, len(feeds)
		if len(feeds) == 0 {
			return nil, result
		}
		return map[byte][]byte{}, result
	}
	next, changed := make(map[byte][]byte, len(feeds)), false
	room := make([]byte, 0, (headerSize+idSize*l.FeedLength)*len(feeds)) // one allocation for all of them
	for slot, value := range feeds {
		var newer []freshet.PostID
		if slot < freshet.SlotsPerBlock {
			newer = entries[slot]
		}
		header, ids, err := decodeHeader(value)
		if err == nil {
			err = checkFeed(ids)
		}
		switch {
		case err != nil:
			changed = true
			result.Cold++
			result.Corrupt = errors.Join(result.Corrupt, fmt.Errorf("slot %d: %w", slot, err))
		case header.Read < oldest:
			changed = true
			result.Cold++
		case len(newer) > 0:
			changed = true
			begin := len(room)
			room = l.merge(append(room, value[:headerSize]...), begin, ids, newer)
			next[slot] = room[begin:len(room):len(room)]
			result.Entries += count[slot]
			count[slot] = 0
		default:
			next[slot] = value
		}
	}
	for _, n := range count {
		result.Dropped += n
	}
	if !changed {
		return nil, result
	}
	return next, result
}

// bySlot is the ids of each slot, newest first, without doubles, at most limit, and how many entries it has.
func bySlot(log []byte, limit int) (
	ids [freshet.SlotsPerBlock][]freshet.PostID, count [freshet.SlotsPerBlock]int, err error,
) {
	if err := decodeLog(log, func(slot byte, _ freshet.PostID) { count[slot]++ }); err != nil {
		return ids, count, err
	}
	all := make([]freshet.PostID, len(log)/entrySize)
	for slot, n := range count {
		ids[slot], all = all[:0:n], all[n:]
	}
	for at := len(log) - entrySize; at >= 0; at -= entrySize { // from the end, so that they are nearly in order
		slot := log[at]
		ids[slot] = append(ids[slot], freshet.PostID(binary.BigEndian.Uint64(log[at+1:])))
	}
	for slot := range ids {
		ids[slot] = Newest(ids[slot], limit)
	}
	return ids, count, nil
}

// merge appends, to a feed that begins at begin and has its header, the ids of old, encoded, and of newer, both newest
// first: each once, at most FeedLength.
func (l Layout) merge(feed []byte, begin int, old []byte, newer []freshet.PostID) []byte {
	full := begin + headerSize + idSize*l.FeedLength
	for len(feed) < full && len(old) > 0 && len(newer) > 0 {
		switch next := freshet.PostID(binary.BigEndian.Uint64(old)); {
		case newer[0] > next:
			feed, newer = AppendID(feed, newer[0]), newer[1:]
		case newer[0] == next:
			newer = newer[1:]
		default:
			feed, old = append(feed, old[:idSize]...), old[idSize:]
		}
	}
	feed = encodeIDs(feed, newer[:min(len(newer), (full-len(feed))/idSize)])
	return append(feed, old[:min(len(old), full-len(feed))]...)
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
	feeds, result := l.compact(read.Log, read.Feeds, oldest)
	if feeds == nil && len(read.Log) == 0 {
		return result, nil
	}
	write := &Compact{
		Block: block, Token: read.State.Token, Generation: read.Generation, Next: next, Log: read.Log, Feeds: feeds,
	}
	crash.At(crash.Compacting)
	if err := conn.Do(ctx, write); err != nil {
		return Compacted{}, fmt.Errorf("compact block %d: %w", block, err)
	}
	return result, nil
}
