package events

import (
	"errors"
	"fmt"
	"math"

	"freshet"
)

// Bits of FollowingRow.Flags.
const (
	flagFollows byte = 1 << iota
	flagApplied

	knownFlags = flagFollows | flagApplied
)

// ErrFollowingRow is wrapped by the errors of DecodeFollowing.
var ErrFollowingRow = errors.New("not a row of following")

// EncodeFollowing is the row as following's table keeps it: the relations packed, muted and blocked as differences, the
// first from 0. The result shares nothing with f, which may be nil.
func EncodeFollowing(f *freshet.Following) *FollowingRow {
	if f == nil {
		return &FollowingRow{}
	}
	return &FollowingRow{
		Version: f.Version, Next: f.Next, Relations: packRelations(f.Relations),
		Muted: encodeNumbers(f.Muted), Blocked: encodeNumbers(f.Blocked),
	}
}

// DecodeFollowing reads what EncodeFollowing wrote, now or ever. Anything that no row can be is refused: accounts that
// are not sorted, twice the same one or past 2^63-1, negative offsets, columns of different lengths, flags that this
// version doesn't know and so couldn't write back.
func DecodeFollowing(row *FollowingRow) (*freshet.Following, error) {
	f := &freshet.Following{Version: row.GetVersion(), Next: row.GetNext()}
	if f.Next < 0 {
		return nil, fmt.Errorf("%w: next %d: want an offset", ErrFollowingRow, f.Next)
	}
	var err error
	if f.Muted, err = decodeNumbers("muted", row.GetMuted()); err != nil {
		return nil, err
	}
	if f.Blocked, err = decodeNumbers("blocked", row.GetBlocked()); err != nil {
		return nil, err
	}
	if f.Relations, err = unpackRelations(row.GetRelations()); err != nil {
		return nil, err
	}
	columns, err := relationColumns(row)
	if err != nil {
		return nil, err
	}
	if len(f.Relations) > 0 && len(columns) > 0 {
		return nil, fmt.Errorf("%w: %d relations and %d more", ErrFollowingRow, len(f.Relations), len(columns))
	}
	f.Relations = append(f.Relations, columns...)
	return f, nil
}

// relationColumns are the relations of a row that was written before they were packed.
func relationColumns(row *FollowingRow) ([]freshet.Relation, error) {
	accounts, err := decodeNumbers("accounts", row.GetAccounts())
	if err != nil {
		return nil, err
	}
	versions, flags, appliedAt := row.GetVersions(), row.GetFlags(), row.GetAppliedAt()
	if len(versions) != len(accounts) || len(flags) != len(accounts) || len(appliedAt) != len(accounts) {
		return nil, fmt.Errorf("%w: %d accounts, but %d versions, %d flags, %d times of application",
			ErrFollowingRow, len(accounts), len(versions), len(flags), len(appliedAt))
	}
	var relations []freshet.Relation
	for i, account := range accounts {
		if versions[i] < 0 || flags[i]&^knownFlags != 0 {
			return nil, fmt.Errorf("%w: account %d: version %d, flags %#x", ErrFollowingRow, account, versions[i], flags[i])
		}
		relations = append(relations, freshet.Relation{
			Account: account, Version: versions[i], AppliedAt: appliedAt[i],
			Follows: flags[i]&flagFollows != 0, Applied: flags[i]&flagApplied != 0,
		})
	}
	return relations, nil
}

func encodeNumbers(sorted []freshet.Number) []uint64 {
	if len(sorted) == 0 {
		return nil
	}
	differences := make([]uint64, len(sorted))
	last := freshet.Number(0)
	for i, n := range sorted {
		differences[i] = uint64(n - last)
		last = n
	}
	return differences
}

func decodeNumbers(column string, differences []uint64) ([]freshet.Number, error) {
	if len(differences) == 0 {
		return nil, nil
	}
	numbers := make([]freshet.Number, len(differences))
	last := uint64(0)
	for i, difference := range differences {
		switch {
		case i > 0 && difference == 0:
			return nil, fmt.Errorf("%w: %s: account %d is there twice", ErrFollowingRow, column, last)
		case difference > math.MaxInt64-last:
			return nil, fmt.Errorf("%w: %s: a number past 2^63-1", ErrFollowingRow, column)
		}
		last += difference
		numbers[i] = freshet.Number(last)
	}
	return numbers, nil
}
