package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/client"
	"freshet/internal/feeds"
	"freshet/internal/pause"
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

const (
	// blocksAtOnce is how many blocks are looked at before what is suspect is looked at again, and the state is noted.
	blocksAtOnce = 64
	// workers look at blocks at a time. They wait for Redis and the post store half of the time.
	workers = 6
)

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

// feeds goes over blocks, beginning with one.
func (a *Auditor) feeds(ctx context.Context, from int, timed func()) error {
	const stage = "auditing blocks of feeds"
	total := a.units.count()
	for at := from; at < total; at += blocksAtOnce {
		a.cfg.Progress(stage, at, total)
		found, err := a.look(ctx, at, min(at+blocksAtOnce, total))
		if err == nil {
			err = a.report(ctx, found)
		}
		timed()
		if err == nil {
			err = a.note(min(at+blocksAtOnce, total))
		}
		if err != nil {
			return err
		}
	}
	a.cfg.Progress(stage, total, total)
	return nil
}

// look looks at blocks, and a second time at what is suspect.
func (a *Auditor) look(ctx context.Context, from, to int) ([]finding, error) {
	var blocks []unit
	for i := from; i < to; i++ {
		blocks = append(blocks, a.units.at(i))
	}
	first, err := a.lookAt(ctx, blocks, a.lists, true)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	return a.again(ctx, first, func(ctx context.Context, of []freshet.Number) ([]finding, error) {
		fresh := newLists(a.cfg.Conn, a.cfg.Layout, a.store, a.cfg.Memory)
		return a.lookAt(ctx, blocksOf(of), fresh, false)
	})
}

// again looks a second time at the accounts of findings, when the copies are current, and returns what was found both
// times.
func (a *Auditor) again(
	ctx context.Context, first []finding, look func(context.Context, []freshet.Number) ([]finding, error),
) ([]finding, error) {
	suspects := make([]freshet.Number, len(first))
	before := make(map[finding]bool, len(first))
	for i, f := range first {
		suspects[i], before[f] = f.account, true
	}
	slices.Sort(suspects)
	suspects = slices.Compact(suspects)
	if err := a.Current(ctx); err != nil {
		return nil, err
	}
	second, err := look(ctx, suspects)
	a.summary.Second += len(suspects)
	return slices.DeleteFunc(second, func(f finding) bool { return !before[f] }), err
}

func (a *Auditor) lookAt(ctx context.Context, blocks []unit, lists *lists, count bool) ([]finding, error) {
	var (
		mu  sync.Mutex
		all []finding
	)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, b := range blocks {
		g.Go(func() error {
			found, tally, err := a.block(ctx, b, lists)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, found...)
			if count {
				a.summary.add(tally)
			}
			return err
		})
	}
	err := g.Wait()
	slices.SortFunc(all, compareFindings)
	return all, err
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

// block looks at the accounts of a block.
func (a *Auditor) block(ctx context.Context, b unit, lists *lists) (found []finding, tally Summary, err error) {
	read := &feeds.ReadBlock{Block: b.block, Slot: feeds.AllSlots}
	if err := a.cfg.Conn.Do(ctx, read); err != nil {
		return nil, tally, fmt.Errorf("read block %d: %w", b.block, err)
	}
	numbers := make([]freshet.Number, len(b.slots))
	for i, slot := range b.slots {
		numbers[i] = freshet.Number(b.block*freshet.SlotsPerBlock + uint64(slot))
	}
	outboxes, err := lists.get(ctx, numbers)
	if err != nil {
		return nil, tally, err
	}
	for _, n := range numbers {
		tally.Accounts++
		tally.Outboxes++
		lacks, err := a.outbox(ctx, n, outboxes[n])
		if err != nil {
			return nil, tally, err
		}
		found = append(found, lacks...)
		more, err := a.feed(ctx, n, read, lists, &tally)
		if err != nil {
			return nil, tally, err
		}
		found = append(found, more...)
	}
	return found, tally, nil
}

// outbox is what an author's outbox lacks.
func (a *Auditor) outbox(ctx context.Context, n freshet.Number, of *list) (found []finding, err error) {
	if of.corrupt {
		return []finding{{list: ListOutbox, kind: Corrupt, account: n, author: n}}, nil
	}
	lacks := slices.DeleteFunc(slices.Clone(of.lacks), func(id freshet.PostID) bool { return !a.flushed.has(id) })
	if of.unwell || len(lacks) == 0 {
		return nil, nil
	}
	facts, err := a.facts(ctx, lacks)
	for _, id := range lacks {
		if f := facts[id]; f.found && !f.deleted {
			found = append(found, finding{ListOutbox, Missing, n, n, id})
		}
	}
	return found, err
}

// rowPause is how long a row that is behind its feed is waited for, rowTries times.
const (
	rowPause = 20 * time.Millisecond
	rowTries = 100
)

// feed compares an account's feed.
func (a *Auditor) feed(
	ctx context.Context, n freshet.Number, read *feeds.ReadBlock, lists *lists, tally *Summary,
) ([]finding, error) {
	feed, logged, err := read.Feed(n.Slot())
	switch {
	case errors.Is(err, feeds.ErrNoFeed):
		tally.Cold++
		return nil, nil
	case !read.State.Well():
		tally.Unwell++
		return nil, nil
	case errors.Is(err, feeds.ErrOrder):
		return []finding{{list: ListFeed, kind: Misordered, account: n}}, nil
	case errors.Is(err, feeds.ErrCorrupt):
		return []finding{{list: ListFeed, kind: Corrupt, account: n}}, nil
	case err != nil:
		return nil, err
	case feed.Building:
		tally.Building++
		return nil, nil
	}
	row, err := a.row(ctx, n, feed.RowVersion)
	if row == nil && feed.RowVersion > 0 {
		tally.Behind++
	}
	if err != nil || row == nil && feed.RowVersion > 0 {
		return nil, err
	}
	pulled, err := a.tiers.Pulled()
	if err != nil {
		return nil, err
	}
	of, err := lists.get(ctx, authors(n, row))
	if err != nil {
		return nil, err
	}
	s := suspect(account{n, row, feed, logged, of, pulled}, a.cfg.Layout, a.flushed.has)
	tally.Checked++
	tally.Entries += s.entries
	return a.judge(ctx, n, s, tally)
}

// row is the account's row, not older than the version from which its feed was built; nil if it stays older.
func (s *Sources) row(ctx context.Context, n freshet.Number, version uint64) (*freshet.Following, error) {
	for range rowTries {
		row, err := s.rows.Row(n)
		if err != nil || row.At() >= version {
			return row, err
		}
		if err := pause.For(ctx, rowPause); err != nil {
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // it changes all the time
}

// judge drops what has an excuse.
func (a *Auditor) judge(ctx context.Context, n freshet.Number, s suspicion, tally *Summary) ([]finding, error) {
	ids := slices.Clone(s.strange)
	for _, e := range s.missing {
		ids = append(ids, e.post)
	}
	facts, err := a.facts(ctx, ids)
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, e := range s.missing {
		switch why, err := a.excuseMissing(n, e, facts[e.post]); {
		case err != nil:
			return nil, err
		case why == none:
			found = append(found, finding{ListFeed, Missing, n, e.author, e.post})
		}
	}
	for _, id := range s.strange {
		switch why, err := a.excuseStrange(n, id, facts[id]); {
		case err != nil:
			return nil, err
		case why == none:
			found = append(found, finding{ListFeed, Extra, n, facts[id].post.Author, id})
		case why == leftOver:
			tally.LeftOver++
		case why == isDeleted:
			tally.Hidden++
		}
	}
	return found, nil
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

// unit is some accounts of a block.
type unit struct {
	block uint64
	slots []byte
}

// units are what an audit goes over: given ones, or all blocks of every partition.
type units struct {
	given []unit
	sizes []int64 // of the partitions of registrations
}

func unitsOf(size map[int32]int64, o Options) units {
	switch {
	case len(o.Accounts) > 0:
		return units{given: blocksOf(o.Accounts)}
	case o.Sample > 0:
		return units{given: blocksOf(draw(size, o.Sample, o.Seed))}
	}
	u := units{sizes: make([]int64, len(size))}
	for partition, n := range size {
		u.sizes[partition] = n
	}
	return u
}

// draw draws different accounts; all if there are no more.
func draw(size map[int32]int64, n int, seed uint64) []freshet.Number {
	total := int64(0)
	for _, s := range size {
		total += s
	}
	random := rand.New(rand.NewPCG(seed, 0))
	drawn := map[freshet.Number]bool{}
	for int64(len(drawn)) < min(int64(n), total) {
		at := random.Int64N(total)
		for partition := int32(0); ; partition++ {
			if at < size[partition] {
				drawn[freshet.NumberAt(partition, at)] = true
				break
			}
			at -= size[partition]
		}
	}
	all := make([]freshet.Number, 0, len(drawn))
	for number := range drawn {
		all = append(all, number)
	}
	slices.Sort(all)
	return all
}

// blocksOf are the blocks of accounts, in order.
func blocksOf(accounts []freshet.Number) []unit {
	var all []unit
	for block, slots := range feeds.SlotsOf(accounts) {
		slices.Sort(slots)
		all = append(all, unit{block, slices.Compact(slots)})
	}
	slices.SortFunc(all, func(x, y unit) int { return compare(freshet.Number(x.block), freshet.Number(y.block)) })
	return all
}

func blocksIn(size int64) int { return int((size + freshet.SlotsPerBlock - 1) / freshet.SlotsPerBlock) }

func (u units) count() int {
	n := len(u.given)
	for _, size := range u.sizes {
		n += blocksIn(size)
	}
	return n
}

func (u units) at(i int) unit {
	if len(u.given) > 0 {
		return u.given[i]
	}
	for partition, size := range u.sizes {
		if i >= blocksIn(size) {
			i -= blocksIn(size)
			continue
		}
		first := int64(i) * freshet.SlotsPerBlock
		b := unit{block: freshet.NumberAt(int32(partition), first).Block()}
		for slot := range min(freshet.SlotsPerBlock, size-first) {
			b.slots = append(b.slots, byte(slot))
		}
		return b
	}
	return unit{}
}

// state is what a file remembers of an audit.
type state struct {
	// Audit is a hash of what is audited, Size how many accounts each partition had, and Next the block with which it
	// goes on.
	Audit   uint64          `json:"audit"`
	Size    map[int32]int64 `json:"size"`
	Next    int             `json:"next"`
	Summary Summary         `json:"summary"`
}

// ErrOtherAudit is returned for a state that another audit has left.
var ErrOtherAudit = errors.New("the state is of another audit: give the same accounts, sample and seed, or remove it")

// what names what is audited, by a hash.
func (a *Auditor) what() uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, a.cfg.Names.Prefix, a.opts.Accounts, a.opts.Sample, a.opts.Seed)
	return h.Sum64()
}

// resume reads the state, and says with which block to go on.
func (a *Auditor) resume() (int, error) {
	if a.opts.State == "" {
		return 0, nil
	}
	data, err := os.ReadFile(a.opts.State)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	var s state
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return 0, fmt.Errorf("read the state of an audit: %w", err)
	}
	if s.Audit != a.what() {
		return 0, fmt.Errorf("%s: %w", a.opts.State, ErrOtherAudit)
	}
	if a.size = s.Size; s.Summary.Differences != nil {
		a.summary = s.Summary
	}
	return s.Next, nil
}

// note writes the state: the file is always whole.
func (a *Auditor) note(next int) error {
	if a.opts.State == "" {
		return nil
	}
	data, err := json.Marshal(state{a.what(), a.size, next, a.summary})
	if err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(a.opts.State), ".audit-*")
	if err == nil {
		_, err = part.Write(data)
		err = errors.Join(err, part.Close())
		if err == nil {
			err = os.Rename(part.Name(), a.opts.State)
		}
	}
	if err != nil {
		return fmt.Errorf("note how far the audit is: %w", err)
	}
	return nil
}
