package freshet

import (
	"slices"
)

// Relation is what an account's row says of one other account that it follows or has followed.
type Relation struct {
	Account Number
	// Version orders the states of the relation. It grows with the offset, in the follows topic, of the event that set
	// Follows; package following says how.
	Version int64
	Follows bool
	// Applied: the followee's tree has reported that it holds (or no longer holds) the follower, at this Version.
	Applied bool
	// AppliedAt is the row's Version from which on Applied has been true.
	AppliedAt uint64
}

// Following is an account's row: whom it follows, mutes and blocks. The follows log, keyed by follower, is its only
// source. A Following that is shared is not changed: processors clone it.
type Following struct {
	// Version grows with each change of the row.
	Version uint64
	// Next is the offset in follows below which every event of this account has been applied; 0 before the first.
	Next int64
	// Relations is sorted by Account.
	Relations []Relation
	// Muted and Blocked are sorted.
	Muted, Blocked []Number
}

// Relation looks account up.
func (f *Following) Relation(account Number) (Relation, bool) {
	if f == nil {
		return Relation{}, false
	}
	i, ok := slices.BinarySearchFunc(f.Relations, account, compareRelation)
	if !ok {
		return Relation{}, false
	}
	return f.Relations[i], true
}

// SetRelation inserts or replaces the relation to r.Account.
func (f *Following) SetRelation(r Relation) {
	i, ok := slices.BinarySearchFunc(f.Relations, r.Account, compareRelation)
	if ok {
		f.Relations[i] = r
		return
	}
	f.Relations = slices.Insert(f.Relations, i, r)
}

// DropRelation forgets the relation to account.
func (f *Following) DropRelation(account Number) {
	if i, ok := slices.BinarySearchFunc(f.Relations, account, compareRelation); ok {
		f.Relations = slices.Delete(f.Relations, i, i+1)
	}
}

// Clone is a deep copy; the clone of nil is an empty row.
func (f *Following) Clone() *Following {
	if f == nil {
		return &Following{}
	}
	c := *f
	c.Relations = slices.Clone(f.Relations)
	c.Muted = slices.Clone(f.Muted)
	c.Blocked = slices.Clone(f.Blocked)
	return &c
}

// Follows says whether the account follows other now.
func (f *Following) Follows(other Number) bool {
	r, ok := f.Relation(other)
	return ok && r.Follows
}

// Mutes says whether the account mutes other now.
func (f *Following) Mutes(other Number) bool {
	return f != nil && contains(f.Muted, other)
}

// Blocks says whether the account blocks other now.
func (f *Following) Blocks(other Number) bool {
	return f != nil && contains(f.Blocked, other)
}

// All is the relations; none of a nil row.
func (f *Following) All() []Relation {
	if f == nil {
		return nil
	}
	return f.Relations
}

// At is the row's version; 0 for a nil row.
func (f *Following) At() uint64 {
	if f == nil {
		return 0
	}
	return f.Version
}

// Count is how many accounts the account follows now.
func (f *Following) Count() int {
	if f == nil {
		return 0
	}
	n := 0
	for _, r := range f.Relations {
		if r.Follows {
			n++
		}
	}
	return n
}

func compareRelation(r Relation, account Number) int {
	switch {
	case r.Account < account:
		return -1
	case r.Account > account:
		return 1
	}
	return 0
}

func contains(sorted []Number, n Number) bool {
	_, ok := slices.BinarySearch(sorted, n)
	return ok
}

// Relationship is what the rows of a viewer and of an author say of each other, as far as it decides what the viewer
// may see.
type Relationship struct {
	Self         bool // the viewer is the author
	Follows      bool // the viewer follows the author
	Mutes        bool // the viewer mutes the author
	Blocks       bool // the viewer blocks the author
	BlockedBy    bool // the author blocks the viewer
	AuthorClosed bool
}

// RelationshipOf reads a relationship off the rows of both sides.
func RelationshipOf(
	viewer Number, viewerRow *Following, author Number, authorRow *Following, authorClosed bool,
) Relationship {
	return Relationship{
		Self:         viewer == author,
		Follows:      viewerRow.Follows(author),
		Mutes:        viewerRow.Mutes(author),
		Blocks:       viewerRow.Blocks(author),
		BlockedBy:    authorRow.Blocks(viewer),
		AuthorClosed: authorClosed,
	}
}

// CanSee is the one visibility rule: every surface that shows a post calls it.
func CanSee(p Post, r Relationship) bool {
	switch {
	case !p.DeletedAt.IsZero(), r.AuthorClosed:
		return false
	case r.Self:
		return true
	case r.Blocks, r.BlockedBy:
		return false
	}
	return p.Visibility != FollowersOnly || r.Follows
}

// InFeed says whether a post belongs into the viewer's home feed: one that the viewer can see, of an author whom the
// viewer follows and does not mute, or of the viewer.
func InFeed(p Post, r Relationship) bool {
	return CanSee(p, r) && (r.Self || r.Follows && !r.Mutes)
}
