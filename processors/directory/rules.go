package directory

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
)

// The rules of an account's row: the row as it was (nil for none) and a record in, the row as it is now out. The row
// that was given is not changed.
//
// Registrations and profiles are two topics, so their records reach a partition in any order when the table is built
// anew. What makes the outcome the same: numbers of one id rise with the offsets of its registrations, each profile
// names the number it is about, and a registration names the number it replaces, which counts, and not whether the row
// has been closed yet. A profile of a number above the row's is proof that this number was registered; the row waits
// for it, without an id, and so unseen.

// register applies the registration that lies at the number's place.
//
//	the row's number      outcome
//	none                  the account gets this number
//	this one              redelivered, or a profile came first: what the profile said stays
//	above                 old: the id has a later number
//	below, r replaces it  the account gets this number
//	below                 the id is taken: nothing
func register(
	row *events.DirectoryRow, id freshet.AccountID, number freshet.Number, r *events.Registration,
) *events.DirectoryRow {
	next := clone(row)
	next.NextRegistration = max(next.NextRegistration, offsetOf(number)+1)
	switch {
	case row != nil && row.GetNumber() > uint64(number):
		return next
	case row != nil && row.GetNumber() == uint64(number):
	case row == nil, r.Replaces != nil && r.GetReplaces() == row.GetNumber():
		next.Number, next.Name, next.Closed = uint64(number), "", false
	default:
		return next
	}
	next.Id, next.CreatedAt = string(id), r.GetAt()
	return next
}

// update applies the profile at an offset. A profile of a number below the row's is about an account that is gone; one
// below an offset already applied was redelivered. It is an error if the number cannot be one of this key's.
func update(row *events.DirectoryRow, partition int32, offset int64, p *events.Profile) (*events.DirectoryRow, error) {
	if got := partitionOf(freshet.Number(p.GetNumber())); got != partition {
		return nil, fmt.Errorf("profile of account number %d: that is a number of partition %d, not of this one, %d",
			p.GetNumber(), got, partition)
	}
	next := clone(row)
	if offset < next.NextProfile {
		return next, nil
	}
	next.NextProfile = offset + 1
	switch {
	case row == nil, p.GetNumber() > row.GetNumber():
		next.Id, next.CreatedAt = "", 0
	case p.GetNumber() < row.GetNumber():
		return next, nil
	}
	next.Number, next.Name, next.Closed = p.GetNumber(), p.GetName(), p.GetClosed()
	return next, nil
}

func clone(row *events.DirectoryRow) *events.DirectoryRow {
	if row == nil {
		return &events.DirectoryRow{}
	}
	return proto.Clone(row).(*events.DirectoryRow)
}

// partitionOf and offsetOf take a number apart, as freshet.NumberAt put it together.
func partitionOf(n freshet.Number) int32 { return int32(n / freshet.NumberAt(1, 0)) }

func offsetOf(n freshet.Number) int64 { return int64(n % freshet.NumberAt(1, 0)) }
