package pebblestore

import (
	"encoding/binary"

	"freshet"
)

// The first byte of a key tells the kind of row.
const (
	postRow     = 'p'
	authorRow   = 'a'
	followerRow = 'f'
	progressRow = 'o'
	markRow     = 'm'
	sweepsRow   = 's'
)

func postKey(id freshet.PostID) []byte {
	return binary.BigEndian.AppendUint64([]byte{postRow}, uint64(id))
}

// authorKey orders the posts of an author by descending id: the id's complement stands in the key.
func authorKey(author freshet.Number, id freshet.PostID) []byte {
	return binary.BigEndian.AppendUint64(authorPrefix(author), ^uint64(id))
}

func authorPrefix(author freshet.Number) []byte {
	return binary.BigEndian.AppendUint64([]byte{authorRow}, uint64(author))
}

func followerKey(followee, follower freshet.Number) []byte {
	return binary.BigEndian.AppendUint64(followerPrefix(followee), uint64(follower))
}

func followerPrefix(followee freshet.Number) []byte {
	return binary.BigEndian.AppendUint64([]byte{followerRow}, uint64(followee))
}

func progressKey(partition int32) []byte {
	return binary.BigEndian.AppendUint32([]byte{progressRow}, uint32(partition))
}

// markKey orders the marked posts by id, and so by the time in it.
func markKey(id freshet.PostID) []byte {
	return binary.BigEndian.AppendUint64([]byte{markRow}, uint64(id))
}

// lastNumber is the number in the last 8 bytes of a key.
func lastNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// after is the first key behind all that begin with prefix, which never is all 0xff here.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; ; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
}
