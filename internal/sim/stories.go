package sim

import (
	"slices"

	"freshet"
	"freshet/processors/fanout"
)

// Stories are told by TestStories, each with its rule and without it.
var Stories = slices.Concat(followStories, readStories, postStories, lossStories, recoveryStories, tierStories)

// apart is two nodes with a zone each: all of a reader on the first, the outbox of an author on the second.
func apart(w *world) {
	w.shape.nodes = 2
	w.accounts = []freshet.Number{
		find(func(n freshet.Number) bool { return w.layout.OfBlock(n.Block()) == 0 && w.layout.OfAuthor(n) == 0 }),
		find(func(n freshet.Number) bool { return w.layout.OfAuthor(n) == 1 }),
		freshet.NumberAt(1, 0),
	}
}

func find(fits func(n freshet.Number) bool) freshet.Number {
	for offset := int64(0); ; offset++ {
		if n := freshet.NumberAt(0, offset); fits(n) {
			return n
		}
	}
}

// onBranch finds accounts, from an offset on, whose path begins with a branch.
func onBranch(root fanout.Address, branch byte, from int64, count int) (found []freshet.Number) {
	for ; len(found) < count; from++ {
		n := freshet.NumberAt(0, from)
		if b, _ := root.Branch(n); b == branch {
			found = append(found, n)
		}
	}
	return found
}
