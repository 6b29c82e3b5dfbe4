package audit

import (
	"slices"

	"freshet"
	"freshet/internal/feeds"
	"freshet/views"
)

// account is what is known of one account with a warm feed.
type account struct {
	number freshet.Number
	row    *freshet.Following
	feed   feeds.Feed
	logged []freshet.PostID
	lists  map[freshet.Number]*list // its own, and of everyone whom it follows; others as well
	pulled views.Pulled
}

// entry is a post of an author.
type entry struct {
	post   freshet.PostID
	author freshet.Number
}

// suspicion is what a feed has and should not, or should have and has not, unless it is deleted or hidden.
type suspicion struct {
	missing []entry
	// strange are posts that no list of an author has whom the account follows.
	strange []freshet.PostID
	// entries is how many posts were compared.
	entries int
}

// delivers says whether the author's posts come to the feed by the tree, and so have to be in it. Those of others are
// read from outboxes: of authors whose tree has reported the reader later than the row from which the feed was built,
// and of authors that are or were pulled.
func (a account) delivers(r freshet.Relation) bool {
	return r.Applied && r.AppliedAt <= a.feed.RowVersion && !a.pulled.Has(r.Account)
}

// addAuthors adds those whose lists an account's feed is compared with.
func addAuthors(to map[freshet.Number]struct{}, number freshet.Number, row *freshet.Following) {
	to[number] = struct{}{}
	for _, r := range row.All() {
		if r.Follows {
			to[r.Account] = struct{}{}
		}
	}
}

// suspect is the rule: it compares a feed with its row and with lists. Only posts that are flushed count.
func suspect(a account, layout feeds.Layout, flushed func(freshet.PostID) bool) suspicion {
	var s suspicion
	stored := make([]freshet.PostID, 0, len(a.logged)+len(a.feed.IDs))
	for _, id := range slices.Backward(a.logged) { // the newest come last there; what is nearly sorted is sorted sooner
		stored = append(stored, id)
	}
	stored = feeds.Newest(append(stored, a.feed.IDs...), cap(stored))
	floor := layout.Floor(a.feed.IDs)
	known := make([]bool, len(stored)) // which of them a list has
	// An author's posts come newest first, as those that are stored, so each search begins where the last one ended.
	compare := func(ids []freshet.PostID, lacks func(freshet.PostID)) {
		at := 0
		for _, id := range ids {
			i, has := slices.BinarySearchFunc(stored[at:], id, newestFirst)
			if at += i; has {
				known[at] = true
			}
			if lacks != nil && id >= floor && flushed(id) {
				s.entries++
				if !has {
					lacks(id)
				}
			}
		}
	}
	if own := a.lists[a.number]; own != nil {
		compare(down(own.ids, lowest(stored)), nil)
	}
	for _, r := range a.row.All() {
		of := a.lists[r.Account]
		if !r.Follows || of == nil {
			continue
		}
		var lacks func(freshet.PostID)
		if a.delivers(r) && !of.unwell && !a.row.Mutes(r.Account) && !a.row.Blocks(r.Account) {
			lacks = func(id freshet.PostID) { s.missing = append(s.missing, entry{id, r.Account}) }
		}
		compare(down(of.ids, min(floor, lowest(stored))), lacks)
	}
	for i, id := range stored {
		if !known[i] && flushed(id) {
			s.strange = append(s.strange, id)
		}
	}
	return s
}

// lowest is the lowest of ids, newest first; 0 of none.
func lowest(ids []freshet.PostID) freshet.PostID {
	if len(ids) == 0 {
		return 0
	}
	return ids[len(ids)-1]
}

// down is those of ids, newest first, that are not below floor.
func down(ids []freshet.PostID, floor freshet.PostID) []freshet.PostID {
	if floor == 0 {
		return ids
	}
	at, _ := slices.BinarySearchFunc(ids, floor-1, newestFirst)
	return ids[:at]
}
