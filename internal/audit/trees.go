package audit

import (
	"context"
	"fmt"
	"slices"

	"freshet"
	"freshet/internal/events"
	"freshet/processors/fanout"
	"freshet/processors/following"
)

// The trees and the table are compared by sums: of each author the hashes of all followers, added up from the rows and
// taken off again for what the tree holds. Where everything is right nothing is left, and only 16 bytes an author were
// needed, in two passes over the tables. Authors of whom something is left are compared follower by follower, as many
// at a time as there is room for.

// exactAtOnce is how many followers are compared one by one in a pass over the tables.
const exactAtOnce = 4 << 20

// tally is what is left of an author: sum of hashes, and the number of followers that rows and tree have.
type tally struct {
	sum        uint64
	rows, tree int
	waits      bool // a relation is on its way
}

// TreeDifference is a follower whom an author's tree holds, and whose row knows of no relation; or one whom the tree
// lacks, though the row says that it was reported.
type TreeDifference struct {
	Author, Follower freshet.Number
	Holds            bool
}

// CompareTrees compares the follower trees of all authors with the table of following, and calls take with what
// differs, some at a time. What is on its way is left out.
func (s *Sources) CompareTrees(ctx context.Context, take func([]TreeDifference) error) error {
	a := &Auditor{Sources: s}
	return a.compareTrees(ctx, func(found []finding) error {
		differ := make([]TreeDifference, len(found))
		for i, f := range found {
			differ[i] = TreeDifference{Author: f.account, Follower: f.author, Holds: f.kind == Extra}
		}
		return take(differ)
	})
}

// auditTrees reports what differs between the trees and the table of following, both ways.
func (a *Auditor) auditTrees(ctx context.Context) error {
	return a.compareTrees(ctx, func(found []finding) error { return a.report(ctx, found) })
}

func (a *Auditor) compareTrees(ctx context.Context, take func([]finding) error) error {
	const stage = "comparing follower trees"
	a.cfg.Progress(stage, 0, 0)
	if err := a.Current(ctx); err != nil {
		return err
	}
	left := map[freshet.Number]*tally{}
	of := func(author freshet.Number) *tally {
		if left[author] == nil {
			left[author] = &tally{}
		}
		return left[author]
	}
	err := a.rows.All(func(follower freshet.Number, row *freshet.Following) error {
		for _, r := range row.All() {
			t := of(r.Account)
			t.waits = t.waits || !r.Applied || !r.Follows
			if r.Follows {
				t.sum += mixed(follower)
				t.rows++
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	err = a.trees.All(func(at fanout.Address, n *fanout.Node) error {
		if len(n.Followers) == 0 {
			return ctx.Err()
		}
		t := of(at.Author)
		t.tree += len(n.Followers)
		for _, follower := range n.Followers {
			t.sum -= mixed(follower)
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	a.summary.Trees, a.summary.Follows = len(left), 0
	var differ []freshet.Number
	for author, t := range left {
		a.summary.Follows += t.rows
		if t.sum != 0 || t.rows != t.tree || t.waits {
			differ = append(differ, author)
		}
	}
	slices.Sort(differ)
	for done := 0; len(differ) > 0; {
		n, room := 0, exactAtOnce
		for n < len(differ) && (n == 0 || room > 0) {
			room -= left[differ[n]].rows + left[differ[n]].tree
			n++
		}
		a.cfg.Progress(stage, done, done+len(differ))
		found, err := a.exactly(ctx, differ[:n])
		if err == nil && len(found) > 0 {
			err = take(found)
		}
		if err != nil {
			return err
		}
		differ, done = differ[n:], done+n
	}
	return nil
}

// mixed spreads numbers over 64 bits (the finaliser of SplitMix64, one to one), so that sums of different sets differ.
func mixed(n freshet.Number) uint64 {
	z := uint64(n) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// exactly compares the trees of some authors follower by follower, and looks at each difference again.
func (a *Auditor) exactly(ctx context.Context, authors []freshet.Number) ([]finding, error) {
	held := make(map[freshet.Number][]freshet.Number, len(authors))
	for _, author := range authors {
		followers, err := a.trees.Followers(author)
		if err != nil {
			return nil, err
		}
		slices.Sort(followers)
		held[author] = slices.Compact(followers) // one that is on two pages is removed from both
	}
	follow := make(map[freshet.Number][]freshet.Number, len(authors))
	err := a.rows.All(func(follower freshet.Number, row *freshet.Following) error {
		for _, r := range row.All() {
			if _, asked := held[r.Account]; asked && r.Follows {
				follow[r.Account] = append(follow[r.Account], follower)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	var first []finding
	for _, author := range authors {
		rows := follow[author]
		slices.Sort(rows)
		for _, follower := range without(rows, held[author]) {
			first = append(first, finding{list: ListTree, kind: Missing, account: author, author: follower})
		}
		for _, follower := range without(held[author], rows) {
			first = append(first, finding{list: ListTree, kind: Extra, account: author, author: follower})
		}
	}
	if len(first) == 0 {
		return nil, nil
	}
	a.summary.Second += len(first)
	// Twice, for the copy of one table may be in front of the other's by what changed since both were current.
	for range 2 {
		if err := a.Current(ctx); err != nil {
			return nil, err
		}
		var found []finding
		for _, f := range first {
			differs, err := a.differs(f)
			if err != nil {
				return nil, err
			}
			if differs {
				found = append(found, f)
			}
		}
		first = found
	}
	return first, nil
}

// without is those of a that are not in b; both are sorted.
func without(a, b []freshet.Number) []freshet.Number {
	return slices.DeleteFunc(slices.Clone(a), func(n freshet.Number) bool {
		_, has := slices.BinarySearch(b, n)
		return has
	})
}

// differs looks again whether a tree holds a follower and should not, or should and does not. A relation that the tree
// has not reported is on its way. The tree is asked before the row: what the tree holds by then has been stated by the
// row, which forgets a relation only when the tree has reported that it is gone.
func (a *Auditor) differs(f finding) (bool, error) {
	holds, err := a.trees.Holds(f.account, f.author)
	if err != nil {
		return false, fmt.Errorf("look into the tree of account %d again: %w", f.account, err)
	}
	row, err := a.rows.Row(f.author)
	if err != nil {
		return false, err
	}
	r, known := row.Relation(f.account)
	if f.kind == Missing {
		return known && r.Follows && r.Applied && !holds, nil
	}
	return holds && !known, nil
}

// Followers are all accounts whose rows have relations.
func (s *Sources) Followers() ([]freshet.Number, error) {
	var all []freshet.Number
	err := s.rows.All(func(n freshet.Number, row *freshet.Following) error {
		if len(row.All()) > 0 {
			all = append(all, n)
		}
		return nil
	})
	return all, err
}

// Absent is what the author's tree is told about a follower whom it holds, and whose row knows of no relation; false if
// it does by now.
func (s *Sources) Absent(d TreeDifference) (*events.FollowerState, bool, error) {
	row, err := s.rows.Row(d.Follower)
	if err != nil {
		return nil, false, err
	}
	state, absent := following.Absent(d.Follower, row, d.Author)
	return &events.FollowerState{Follower: uint64(d.Follower), Version: state.Version}, absent, nil
}
