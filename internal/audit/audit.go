package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"freshet"
	"freshet/client"
)

// Options say what is audited.
type Options struct {
	// Accounts are audited, or Sample of all accounts, drawn with Seed; all of them if both are empty.
	Accounts []freshet.Number
	Sample   int
	Seed     uint64
	// Trees: the follower trees of all authors are compared with the table of following.
	Trees bool
	// API serves the pages of Served accounts, drawn with Seed, that are compared too; nil for none.
	API    *client.Client
	Served int
	// State is a file that notes how far the audit is; one that is begun again with the same options goes on from there.
	// Empty: none.
	State string
	// Report is told of each difference, from one goroutine.
	Report func(Difference) error
	// Explain is for how many differences the facts are looked up; the others say what, and not why.
	Explain int
}

// Summary is what an audit has seen.
type Summary struct {
	// Accounts were looked at; of Checked of them the feed was compared, Entries posts in all. Cold ones have none.
	Accounts int `json:"accounts"`
	Checked  int `json:"checked"`
	Entries  int `json:"entries"`
	Cold     int `json:"cold"`
	// Outboxes were compared with the post store.
	Outboxes int `json:"outboxes"`
	// Unwell accounts were left out because Redis has lost their zone or it is being recovered; Building ones because a
	// reader is building the feed; Behind ones because their rows changed all the time.
	Unwell   int `json:"unwell"`
	Building int `json:"building"`
	Behind   int `json:"behind"`
	// Second is how many accounts were looked at a second time.
	Second int `json:"second_looks"`
	// LeftOver and Hidden are entries of feeds that are rightly there, and that readers are not shown.
	LeftOver int `json:"left_over"`
	Hidden   int `json:"hidden"`
	// Trees is how many authors' trees were compared with the table, Follows how many follows.
	Trees   int `json:"trees"`
	Follows int `json:"follows"`
	// Served is how many accounts' pages were read.
	Served int `json:"served"`
	// Differences, by list and kind, such as "feed missing".
	Differences map[string]int `json:"differences"`
	// Seconds is how long it took, with all runs that the state remembers.
	Seconds float64 `json:"seconds"`
}

// Found is how many differences there are.
func (s Summary) Found() int {
	n := 0
	for _, count := range s.Differences {
		n += count
	}
	return n
}

// Auditor goes over accounts.
type Auditor struct {
	*Sources
	opts    Options
	flushed flushed
	lists   *lists
	size    map[int32]int64 // of the partitions of registrations when the audit was begun
	units   units
	told    int // differences that were explained
	summary Summary
}

// Run audits. The error is not about differences, which Summary counts.
func Run(ctx context.Context, s *Sources, opts Options) (Summary, error) {
	a, from, err := newAuditor(ctx, s, opts)
	if err != nil {
		return Summary{}, err
	}
	begun, before := time.Now(), a.summary.Seconds
	if err := a.feeds(ctx, from, func() { a.summary.Seconds = before + time.Since(begun).Seconds() }); err != nil {
		return a.summary, err
	}
	if opts.Trees {
		if err := a.auditTrees(ctx); err != nil {
			return a.summary, err
		}
	}
	if opts.API != nil && opts.Served > 0 {
		if err := a.auditServed(ctx); err != nil {
			return a.summary, err
		}
	}
	a.summary.Seconds = before + time.Since(begun).Seconds()
	if opts.State != "" {
		if err := os.Remove(opts.State); err != nil && !errors.Is(err, os.ErrNotExist) {
			return a.summary, fmt.Errorf("remove the state of an audit that is complete: %w", err)
		}
	}
	return a.summary, nil
}

// newAuditor prepares an audit, and says with which block it goes on.
func newAuditor(ctx context.Context, s *Sources, opts Options) (*Auditor, int, error) {
	a := &Auditor{
		Sources: s, opts: opts, size: s.size,
		lists:   newLists(s.cfg.Conn, s.cfg.Layout, s.store, s.cfg.Memory),
		summary: Summary{Differences: map[string]int{}},
	}
	from, err := a.resume()
	if err != nil {
		return nil, 0, err
	}
	a.units = unitsOf(a.size, opts)
	a.flushed, err = s.flushed(ctx)
	return a, from, err
}

func (s *Summary) add(t Summary) {
	s.Accounts += t.Accounts
	s.Checked += t.Checked
	s.Entries += t.Entries
	s.Cold += t.Cold
	s.Outboxes += t.Outboxes
	s.Unwell += t.Unwell
	s.Building += t.Building
	s.Behind += t.Behind
	s.LeftOver += t.LeftOver
	s.Hidden += t.Hidden
}
