package feeds

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"freshet"
)

const (
	idSize    = 8
	entrySize = 1 + idSize // of a block's log: slot, post id
)

// ErrCorrupt is wrapped by errors about values in Redis that do not decode. Such a feed is made cold and built anew.
var ErrCorrupt = errors.New("corrupt value in Redis")

// ErrOrder is returned for a feed whose posts are not newest first, each once. It wraps ErrCorrupt.
var ErrOrder = fmt.Errorf("%w: a feed out of order", ErrCorrupt)

// AppendID appends a post id as 8 bytes, the highest first.
func AppendID(b []byte, id freshet.PostID) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(id))
}

// AppendEntry appends an entry of a block's log.
func AppendEntry(b []byte, slot byte, id freshet.PostID) []byte {
	return binary.BigEndian.AppendUint64(append(b, slot), uint64(id))
}

func encodeIDs(b []byte, ids []freshet.PostID) []byte {
	for _, id := range ids {
		b = AppendID(b, id)
	}
	return b
}

func decodeIDs(b []byte) ([]freshet.PostID, error) {
	if len(b)%idSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes are no list of post ids", ErrCorrupt, len(b))
	}
	ids := make([]freshet.PostID, 0, len(b)/idSize)
	for ; len(b) > 0; b = b[idSize:] {
		id := freshet.PostID(binary.BigEndian.Uint64(b))
		if id == 0 || id>>63 != 0 {
			return nil, fmt.Errorf("%w: %d is no post id", ErrCorrupt, id)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// decodeLog gives the ids of each slot of a block's log, in the order of the log.
func decodeLog(log []byte, each func(slot byte, id freshet.PostID)) error {
	if len(log)%entrySize != 0 {
		return fmt.Errorf("%w: a log of %d bytes", ErrCorrupt, len(log))
	}
	for ; len(log) > 0; log = log[entrySize:] {
		id := freshet.PostID(binary.BigEndian.Uint64(log[1:]))
		if log[0] >= freshet.SlotsPerBlock || id == 0 || id>>63 != 0 {
			return fmt.Errorf("%w: a log entry of slot %d, post %d", ErrCorrupt, log[0], id)
		}
		each(log[0], id)
	}
	return nil
}

// Newest sorts ids, newest first, drops doubles, and keeps limit of them. It reuses ids.
func Newest(ids []freshet.PostID, limit int) []freshet.PostID {
	if !settle(ids) {
		slices.SortFunc(ids, func(a, b freshet.PostID) int { return cmp.Compare(b, a) })
	}
	ids = slices.Compact(ids)
	if len(ids) > limit {
		ids = ids[:limit]
	}
	return ids
}

// settle sorts by insertion, which is quickest for ids that are nearly in order, as a log has them; false if they turn
// out not to be.
func settle(ids []freshet.PostID) bool {
	moves := 16 * len(ids)
	for i := 1; i < len(ids); i++ {
		id, at := ids[i], i
		for ; at > 0 && ids[at-1] < id; at-- {
			ids[at] = ids[at-1]
		}
		ids[at] = id
		if moves -= i - at; moves < 0 {
			return false
		}
	}
	return true
}

// Floor is the id below which a cached list, sorted newest first, may lack posts: its lowest if the list is full,
// else 0.
func (l Layout) Floor(ids []freshet.PostID) freshet.PostID {
	if len(ids) < l.FeedLength {
		return 0
	}
	return ids[l.FeedLength-1]
}
