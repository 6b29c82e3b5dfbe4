package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"freshet"
)

// A cursor is a place in one list of one account. It is signed, so that a client that makes one up, or takes another
// list's, gets a 400 and not some other page; it holds no secret.
//
//	version, 1 byte | list, 1 byte | account number, 8 | value, 8 | first 16 bytes of HMAC-SHA256 over the rest
const (
	cursorVersion = 1
	cursorBody    = 1 + 1 + 8 + 8
	cursorMAC     = 16
	minCursorKey  = 32
)

// listKind tells lists apart. The numbers are in cursors that clients keep, so they never change.
type listKind byte

const (
	followingList listKind = 1
	followersList listKind = 2
	mutedList     listKind = 3
	blockedList   listKind = 4
	postsList     listKind = 5
	feedList      listKind = 6
)

type cursors struct{ key []byte }

// cursorEncoding is strict: of the texts that decode to the same bytes, only the one that seal wrote is taken.
var cursorEncoding = base64.RawURLEncoding.Strict()

func (c cursors) seal(kind listKind, of freshet.Number, value uint64) string {
	b := make([]byte, 0, cursorBody+cursorMAC)
	b = append(b, cursorVersion, byte(kind))
	b = binary.BigEndian.AppendUint64(b, uint64(of))
	b = binary.BigEndian.AppendUint64(b, value)
	return cursorEncoding.EncodeToString(append(b, c.mac(b)...))
}

// open returns the value, if the cursor was sealed for this list of this account.
func (c cursors) open(cursor string, kind listKind, of freshet.Number) (uint64, error) {
	b, err := c.opened(cursor)
	if err != nil {
		return 0, err
	}
	if len(b) != cursorBody || listKind(b[1]) != kind || freshet.Number(binary.BigEndian.Uint64(b[2:])) != of {
		return 0, badRequest("the cursor belongs to another list")
	}
	return binary.BigEndian.Uint64(b[10:]), nil
}

// opened is what was sealed, at least its first two bytes, if it was sealed here.
func (c cursors) opened(cursor string) ([]byte, error) {
	b, err := cursorEncoding.DecodeString(cursor)
	if err != nil || len(b) < 2+cursorMAC {
		return nil, badRequest("the cursor is not one that this API gave out")
	}
	body, mac := b[:len(b)-cursorMAC], b[len(b)-cursorMAC:]
	if !hmac.Equal(mac, c.mac(body)) {
		return nil, badRequest("the cursor is not one that this API gave out")
	}
	if body[0] != cursorVersion {
		return nil, badRequest("the cursor is of version %d, which is not known here", body[0])
	}
	return body, nil
}

func (c cursors) mac(b []byte) []byte {
	h := hmac.New(sha256.New, c.key)
	_, _ = h.Write(b) // a hash's Write never fails
	return h.Sum(nil)[:cursorMAC]
}
