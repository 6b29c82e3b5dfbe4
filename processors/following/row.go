// Package following keeps, for every account, the row of whom it follows, mutes and blocks, and sees to it that the
// followers' trees of those it follows agree with the row.
//
//	follows ─▶ Apply ─▶ row, statements to followers ─▶ (fanout's trees) ─▶ applied ─▶ Report ─▶ row, statements
//
// The log of an account's own events is the truth, and the row is what they come to. Whatever a tree reports is
// compared with the row. As long as they differ the relation isn't applied, and the row says again what is so. Only
// answers to reports that differ are sent, one for one, so a disagreement takes a few messages and then ends.
//
// The files:
//
//	row.go  the rules: a row and an event or report in, a row and statements out
//	sets.go sorted sets of accounts and relations, changed many at a time
package following

import (
	"slices"

	"freshet"
)

// Kind is what an Event does. The values are those of the records in the follows topic.
type Kind int

// The kinds of Event.
const (
	Follow Kind = iota + 1
	Unfollow
	Mute
	Unmute
	Block
	Unblock
)

// Event is a record of the follows topic: Follower does the same to each of Targets, in any order. An account that is
// its own target is ignored.
type Event struct {
	Kind     Kind
	Targets  []freshet.Number
	Offset   int64
	Follower freshet.Number
}

// A relation's version is the offset of its event, times 2^16, plus how often a contradiction has made the row state it
// anew. So a report that answers an earlier statement of the same event is told from one that answers the last: a
// paused process may send the former late, when a contradiction has been answered and the tree has not heard the answer
// yet.
const (
	attemptBits = 16
	lastAttempt = 1<<attemptBits - 1
)

// VersionOf is the version of a relation that the event at an offset has set.
func VersionOf(offset int64) int64 { return offset << attemptBits }

// OffsetOf is the offset of the event of a version.
func OffsetOf(version int64) int64 { return version >> attemptBits }

// Statement tells the followee's tree whether the follower follows it now. Version is the relation's; that of one which
// the row has forgotten is the last one that the event of the message which is answered could have had.
type Statement struct {
	Followee, Follower freshet.Number
	Follows            bool
	Version            int64
}

// AppliedReport is what a followee's tree holds after a Statement with this Version.
type AppliedReport struct {
	Follower, Followee freshet.Number
	Held               bool
	Version            int64
}

// Apply takes an event in. One at or past row.Next is new: the row's Version and Next move, whatever else it changes,
// so that a reader can wait for it; a relation that is followed or unfollowed again gets the new version and counts as
// not applied until the tree reports that version. An older event changes nothing, and row itself is returned.
//
// Every target of a follow or unfollow, of an old event too, gets one statement of what is so now, in the order of the
// accounts. row may be nil, and is never changed or kept; the row returned shares nothing with it unless it is row.
func Apply(row *freshet.Following, e Event) (*freshet.Following, []Statement) {
	targets := e.targets()
	if row == nil {
		row = &freshet.Following{}
	}
	if e.Offset >= row.Next {
		row = change(row, e, targets)
	}
	if e.Kind != Follow && e.Kind != Unfollow || len(targets) == 0 {
		return row, nil
	}
	statements := make([]Statement, len(targets))
	for i, target := range targets {
		statements[i] = truth(row, e.Follower, target, VersionOf(e.Offset))
	}
	return row, statements
}

func change(row *freshet.Following, e Event, targets []freshet.Number) *freshet.Following {
	next := row.Clone()
	next.Version++
	next.Next = e.Offset + 1
	switch e.Kind {
	case Follow, Unfollow:
		next.Relations = setRelations(row.Relations, targets, e.Kind == Follow, VersionOf(e.Offset))
	case Mute:
		next.Muted = union(row.Muted, targets)
	case Unmute:
		next.Muted = difference(row.Muted, targets)
	case Block:
		next.Blocked = union(row.Blocked, targets)
	case Unblock:
		next.Blocked = difference(row.Blocked, targets)
	}
	return next
}

// Report compares what trees hold with the row, report by report in this order. If one answers the last statement, the
// relation is applied from this change on; an unfollow that is applied is forgotten. If it answers an earlier event,
// the tree has been told something old after, or before, the truth: the relation is not applied, and the truth is
// stated anew, for a relation that the row doesn't have, that it is not so. An answer to an earlier statement of the
// same event says nothing new, since the last one is on its way or was answered. A report that is newer than the row is
// ignored: the row has gone back to an earlier state, and the event will come again.
//
// However many reports change the row, its Version moves once. row may be nil, and is never changed or kept; the row
// returned shares nothing with it unless it is row, which is returned when nothing changes.
func Report(row *freshet.Following, reports ...AppliedReport) (*freshet.Following, []Statement) {
	d := draft{before: row, row: row}
	for _, r := range reports {
		d.report(r)
	}
	return d.row, d.statements
}

// draft is a row that reports change: copied once, before the first change.
type draft struct {
	before, row *freshet.Following
	statements  []Statement
}

func (d *draft) report(r AppliedReport) {
	if d.row == nil || OffsetOf(r.Version) >= d.row.Next {
		return
	}
	relation, ok := d.row.Relation(r.Followee)
	switch {
	case !ok && !r.Held:
	case !ok:
		d.state(r)
	case relation.Version == r.Version && relation.Follows == r.Held:
		d.apply(relation)
	case OffsetOf(relation.Version) == OffsetOf(r.Version) && relation.Follows == r.Held:
	default:
		relation.Applied, relation.AppliedAt = false, 0
		if relation.Version&lastAttempt != lastAttempt {
			relation.Version++
		}
		d.change().SetRelation(relation)
		d.state(r)
	}
}

// apply notes that the tree holds what the relation says.
func (d *draft) apply(relation freshet.Relation) {
	switch {
	case !relation.Follows:
		d.change().DropRelation(relation.Account)
	case !relation.Applied:
		next := d.change()
		relation.Applied, relation.AppliedAt = true, next.Version
		next.SetRelation(relation)
	}
}

// change is the row to be changed.
func (d *draft) change() *freshet.Following {
	if d.row == d.before {
		d.row = d.before.Clone()
		d.row.Version++
	}
	return d.row
}

func (d *draft) state(r AppliedReport) {
	d.statements = append(d.statements, truth(d.row, r.Follower, r.Followee, r.Version))
}

// Restate says all that is so again, for a pass in the background over all rows.
func Restate(follower freshet.Number, row *freshet.Following) []Statement {
	if row == nil || len(row.Relations) == 0 {
		return nil
	}
	statements := make([]Statement, len(row.Relations))
	for i, r := range row.Relations {
		statements[i] = Statement{Followee: r.Account, Follower: follower, Follows: r.Follows, Version: r.Version}
	}
	return statements
}

// Absent is what a tree is told that holds a follower whose row knows of no relation to the followee: that it is not
// so. Its version is below that of every event which the row has yet to see, so that whatever the row says by the time
// the tree reports, the two are compared and the row has the last word. It is false if the row knows of a relation.
func Absent(follower freshet.Number, row *freshet.Following, followee freshet.Number) (Statement, bool) {
	if _, known := row.Relation(followee); known {
		return Statement{}, false
	}
	s := Statement{Followee: followee, Follower: follower}
	if row != nil && row.Next > 0 {
		s.Version = VersionOf(row.Next-1) | lastAttempt
	}
	return s, true
}

// truth is what the row says of the followee; a relation that it doesn't have is not so, with a version from which the
// "yes" that is answered, if it was one, can be told to be older.
func truth(row *freshet.Following, follower, followee freshet.Number, asked int64) Statement {
	if r, ok := row.Relation(followee); ok {
		return Statement{Followee: followee, Follower: follower, Follows: r.Follows, Version: r.Version}
	}
	return Statement{Followee: followee, Follower: follower, Version: asked | lastAttempt}
}

// targets are the accounts concerned, sorted, each once, without the one that acts.
func (e Event) targets() []freshet.Number {
	targets := slices.Clone(e.Targets)
	slices.Sort(targets)
	targets = slices.Compact(targets)
	return slices.DeleteFunc(targets, func(n freshet.Number) bool { return n == e.Follower })
}
