package cassandrastore

import (
	"encoding/binary"
	"math/bits"
)

// partition is a partition key: one or two numbers.
type partition struct {
	first, second int64
	two           bool
}

func one(key int64) partition           { return partition{first: key} }
func two(first, second int64) partition { return partition{first: first, second: second, two: true} }

// token is where the partition lies on the ring. Partitions with neighbouring tokens lie, nearly always, on the same
// replicas.
func (p partition) token() int64 {
	var b [22]byte
	if !p.two {
		binary.BigEndian.PutUint64(b[:8], uint64(p.first))
		return murmur3(b[:8])
	}
	// A key of several columns is each with its length before it and a zero behind it.
	b[1] = 8
	binary.BigEndian.PutUint64(b[2:], uint64(p.first))
	b[12] = 8
	binary.BigEndian.PutUint64(b[13:], uint64(p.second))
	return murmur3(b[:])
}

// murmur3 is the first half of the 128 bits of MurmurHash3 for x64, as Cassandra's partitioner computes it: it takes
// the bytes after the last whole block for signed ones.
func murmur3(data []byte) int64 {
	const c1, c2 = 0x87c37b91114253d5, 0x4cf5ad432745937f
	mix1 := func(k uint64) uint64 { return bits.RotateLeft64(k*c1, 31) * c2 }
	mix2 := func(k uint64) uint64 { return bits.RotateLeft64(k*c2, 33) * c1 }
	var h1, h2 uint64
	length := uint64(len(data))
	for ; len(data) >= 16; data = data[16:] {
		h1 ^= mix1(binary.LittleEndian.Uint64(data))
		h1 = (bits.RotateLeft64(h1, 27)+h2)*5 + 0x52dce729
		h2 ^= mix2(binary.LittleEndian.Uint64(data[8:]))
		h2 = (bits.RotateLeft64(h2, 31)+h1)*5 + 0x38495ab5
	}
	var k [2]uint64
	for i, b := range data {
		k[i/8] ^= uint64(int64(int8(b))) << (8 * (i % 8))
	}
	h2 ^= mix2(k[1])
	h1 ^= mix1(k[0])
	h1 ^= length
	h2 ^= length
	h1 += h2
	h2 += h1
	h1, h2 = finish(h1), finish(h2)
	return tokenOf(h1 + h2)
}

func finish(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// tokenOf leaves out the lowest number, which the ring does not have.
func tokenOf(h uint64) int64 {
	if h == 1<<63 {
		return 1<<63 - 1
	}
	return int64(h)
}
