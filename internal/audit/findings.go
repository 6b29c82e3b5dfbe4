package audit

import (
	"context"
	"fmt"

	"freshet"
)

// The lists that are compared.
const (
	ListFeed   = "feed"
	ListOutbox = "outbox" // an author's newest posts, of which feeds are built
	ListTree   = "tree"   // an author's followers, to whom posts are delivered
	ListServed = "served" // the feed as the API shows it
)

// The kinds of differences.
const (
	Missing    = "missing"
	Extra      = "extra"
	Misordered = "misordered"
	Corrupt    = "corrupt"
)

// finding is a difference before anything is said about it.
type finding struct {
	list, kind      string
	account, author freshet.Number // of an outbox and a tree, account is the author; of a tree, author is the follower
	post            freshet.PostID
}

// report counts differences and tells of them.
func (a *Auditor) report(ctx context.Context, found []finding) error {
	for _, f := range found {
		a.summary.Differences[f.list+" "+f.kind]++
		if a.opts.Report == nil {
			continue
		}
		d, err := a.describe(ctx, f, a.told < a.opts.Explain)
		if err != nil {
			return err
		}
		a.told++
		if err := a.opts.Report(d); err != nil {
			return fmt.Errorf("tell of a difference: %w", err)
		}
	}
	return nil
}

func compareFindings(x, y finding) int {
	for _, c := range []int{compare(x.account, y.account), compare(x.author, y.author), newestFirst(x.post, y.post)} {
		if c != 0 {
			return c
		}
	}
	return 0
}

func compare(x, y freshet.Number) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
