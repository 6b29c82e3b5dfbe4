package audit

import (
	"math/rand/v2"
	"slices"

	"freshet"
	"freshet/internal/feeds"
)

// unit is some accounts of a block.
type unit struct {
	block uint64
	slots []byte
}

// units are what an audit goes over: given ones, or all blocks of every partition.
type units struct {
	given []unit
	sizes []int64 // of the partitions of registrations
}

func unitsOf(size map[int32]int64, o Options) units {
	switch {
	case len(o.Accounts) > 0:
		return units{given: blocksOf(o.Accounts)}
	case o.Sample > 0:
		return units{given: blocksOf(draw(size, o.Sample, o.Seed))}
	}
	u := units{sizes: make([]int64, len(size))}
	for partition, n := range size {
		u.sizes[partition] = n
	}
	return u
}

// draw draws different accounts; all if there are no more.
func draw(size map[int32]int64, n int, seed uint64) []freshet.Number {
	total := int64(0)
	for _, s := range size {
		total += s
	}
	random := rand.New(rand.NewPCG(seed, 0))
	drawn := map[freshet.Number]bool{}
	for int64(len(drawn)) < min(int64(n), total) {
		at := random.Int64N(total)
		for partition := int32(0); ; partition++ {
			if at < size[partition] {
				drawn[freshet.NumberAt(partition, at)] = true
				break
			}
			at -= size[partition]
		}
	}
	all := make([]freshet.Number, 0, len(drawn))
	for number := range drawn {
		all = append(all, number)
	}
	slices.Sort(all)
	return all
}

// blocksOf are the blocks of accounts, in order.
func blocksOf(accounts []freshet.Number) []unit {
	var all []unit
	for block, slots := range feeds.SlotsOf(accounts) {
		slices.Sort(slots)
		all = append(all, unit{block, slices.Compact(slots)})
	}
	slices.SortFunc(all, func(x, y unit) int { return compare(freshet.Number(x.block), freshet.Number(y.block)) })
	return all
}

func blocksIn(size int64) int { return int((size + freshet.SlotsPerBlock - 1) / freshet.SlotsPerBlock) }

func (u units) count() int {
	n := len(u.given)
	for _, size := range u.sizes {
		n += blocksIn(size)
	}
	return n
}

func (u units) at(i int) unit {
	if len(u.given) > 0 {
		return u.given[i]
	}
	for partition, size := range u.sizes {
		if i >= blocksIn(size) {
			i -= blocksIn(size)
			continue
		}
		first := int64(i) * freshet.SlotsPerBlock
		b := unit{block: freshet.NumberAt(int32(partition), first).Block()}
		for slot := range min(freshet.SlotsPerBlock, size-first) {
			b.slots = append(b.slots, byte(slot))
		}
		return b
	}
	return unit{}
}
