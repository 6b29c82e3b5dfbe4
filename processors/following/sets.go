package following

import (
	"slices"

	"freshet"
)

// An import follows thousands of accounts with one event, so sets are merged rather than inserted into one by one. All
// arguments are sorted and without duplicates, and so are the results, which share nothing with them.

// setRelations gives each target a relation of this version that isn't applied.
func setRelations(old []freshet.Relation, targets []freshet.Number, follows bool, version int64) []freshet.Relation {
	merged := make([]freshet.Relation, 0, len(old)+len(targets))
	for _, target := range targets {
		for len(old) > 0 && old[0].Account < target {
			merged = append(merged, old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].Account == target {
			old = old[1:]
		}
		merged = append(merged, freshet.Relation{Account: target, Version: version, Follows: follows})
	}
	return append(merged, old...)
}

func union(a, b []freshet.Number) []freshet.Number {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func difference(a, b []freshet.Number) []freshet.Number {
	return slices.DeleteFunc(slices.Clone(a), func(n freshet.Number) bool {
		_, ok := slices.BinarySearch(b, n)
		return ok
	})
}
