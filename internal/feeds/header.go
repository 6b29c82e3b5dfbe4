package feeds

import (
	"encoding/binary"
	"fmt"
	"time"

	"freshet"
)

// Header begins the value of an account's slot. An account without a value is cold: nothing is kept for it, and the
// next read builds its feed.
type Header struct {
	// Building: a reader is building the feed; what compaction finds meanwhile is kept.
	Building bool
	// Build and Lease tell builders apart and when one has taken too long; both are 0 when the feed is complete.
	Build uint64
	Lease time.Time
	// RowVersion is the version of the account's following row from which the feed was built. What the trees have
	// reported later, the reader adds from outboxes.
	RowVersion uint64
	// Read is the day of the last read.
	Read Day
}

// Day counts days since 1970, UTC.
type Day uint32

// DayOf is the day of a time.
func DayOf(t time.Time) Day { return Day(t.Unix() / 86400) }

// Feed is the value of a slot: the header and the ids, newest first.
type Feed struct {
	Header
	IDs []freshet.PostID
}

const (
	headerVersion = 1
	headerSize    = 1 + 1 + 4 + 8 + 8 + 8
)

// Encode is the feed as Redis keeps it: version, state, day of the last read, row version, build number, lease in
// milliseconds, then the ids.
func (f Feed) Encode() []byte {
	b := make([]byte, 0, headerSize+idSize*len(f.IDs))
	state := byte(0)
	lease := int64(0)
	if f.Building {
		state, lease = 1, f.Lease.UnixMilli()
	}
	b = append(b, headerVersion, state)
	b = binary.BigEndian.AppendUint32(b, uint32(f.Read))
	b = binary.BigEndian.AppendUint64(b, f.RowVersion)
	b = binary.BigEndian.AppendUint64(b, f.Build)
	b = binary.BigEndian.AppendUint64(b, uint64(lease))
	return encodeIDs(b, f.IDs)
}

// DecodeFeed reads what Encode wrote; its errors wrap ErrCorrupt.
func DecodeFeed(b []byte) (Feed, error) {
	header, rest, err := decodeHeader(b)
	if err == nil {
		err = checkFeed(rest)
	}
	if err != nil {
		return Feed{}, err
	}
	ids, err := decodeIDs(rest)
	return Feed{header, ids}, err
}

// decodeHeader reads the header and leaves the ids as they are.
func decodeHeader(b []byte) (h Header, ids []byte, err error) {
	if len(b) < headerSize || b[0] != headerVersion || b[1] > 1 {
		return Header{}, nil, fmt.Errorf("%w: a feed of %d bytes without a header", ErrCorrupt, len(b))
	}
	h = Header{
		Building:   b[1] == 1,
		Read:       Day(binary.BigEndian.Uint32(b[2:])),
		RowVersion: binary.BigEndian.Uint64(b[6:]),
		Build:      binary.BigEndian.Uint64(b[14:]),
	}
	if h.Building {
		h.Lease = time.UnixMilli(int64(binary.BigEndian.Uint64(b[22:])))
	}
	return h, b[headerSize:], nil
}

// checkFeed wants whole post ids, newest first, each once.
func checkFeed(ids []byte) error {
	if len(ids)%idSize != 0 {
		return fmt.Errorf("%w: %d bytes are no list of post ids", ErrCorrupt, len(ids))
	}
	last := uint64(1) << 63
	for ; len(ids) > 0; ids = ids[idSize:] {
		id := binary.BigEndian.Uint64(ids)
		switch {
		case id == 0 || id>>63 != 0:
			return fmt.Errorf("%w: %d is no post id", ErrCorrupt, id)
		case id >= last:
			return ErrOrder
		}
		last = id
	}
	return nil
}
