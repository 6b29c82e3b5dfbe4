package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/pause"
)

// block is the accounts of a block while they are compared. As much as possible is asked for all of them at once: the
// feeds in one request, the lists of everybody whom any of them follows, the facts of all posts that are suspect. Of
// accounts that follow very many there are fewer at a time: the lists that a worker holds, whether they are kept or
// not, take its share of Config.Memory at most, and those of one account more. So an audit needs little more than twice
// that, beside the copies of tables.
type block struct {
	*Auditor
	lists *lists
	read  *feeds.ReadBlock
	found []finding
	tally Summary

	numbers []freshet.Number // whose outboxes are compared next
	warm    []warm           // and feeds
	wanted  map[freshet.Number]struct{}
	of      map[freshet.Number]*list
}

// warm is an account with a feed that can be compared, and what was found suspect.
type warm struct {
	account
	suspicion
}

// block looks at the accounts of a block.
func (a *Auditor) block(ctx context.Context, u unit, lists *lists) ([]finding, Summary, error) {
	b := &block{Auditor: a, lists: lists, read: &feeds.ReadBlock{Block: u.block, Slot: feeds.AllSlots}}
	if err := a.cfg.Conn.Do(ctx, b.read); err != nil {
		return nil, b.tally, fmt.Errorf("read block %d: %w", u.block, err)
	}
	b.begin()
	for _, slot := range u.slots {
		n := freshet.Number(u.block*freshet.SlotsPerBlock + uint64(slot))
		b.numbers = append(b.numbers, n)
		b.wanted[n] = struct{}{}
		if err := b.feed(ctx, n); err != nil {
			return nil, b.tally, err
		}
		if len(b.wanted) < lists.atOnce() {
			continue
		}
		if err := b.compare(ctx); err != nil {
			return nil, b.tally, err
		}
		b.begin()
	}
	err := b.compare(ctx)
	return b.found, b.tally, err
}

func (b *block) begin() {
	b.numbers, b.warm, b.wanted = b.numbers[:0], b.warm[:0], map[freshet.Number]struct{}{}
}

// feed reads an account's feed and row, and adds those whose lists they are compared with to wanted.
func (b *block) feed(ctx context.Context, n freshet.Number) error {
	b.tally.Accounts++
	feed, logged, err := b.read.Feed(n.Slot())
	switch {
	case errors.Is(err, feeds.ErrNoFeed):
		b.tally.Cold++
		return nil
	case !b.read.State.Well():
		b.tally.Unwell++
		return nil
	case errors.Is(err, feeds.ErrOrder):
		b.found = append(b.found, finding{list: ListFeed, kind: Misordered, account: n})
		return nil
	case errors.Is(err, feeds.ErrCorrupt):
		b.found = append(b.found, finding{list: ListFeed, kind: Corrupt, account: n})
		return nil
	case err != nil:
		return err
	case feed.Building:
		b.tally.Building++
		return nil
	}
	row, err := b.row(ctx, n, feed.RowVersion)
	if row == nil && feed.RowVersion > 0 {
		b.tally.Behind++
	}
	if err != nil || row == nil && feed.RowVersion > 0 {
		return err
	}
	addAuthors(b.wanted, n, row)
	b.warm = append(b.warm, warm{account: account{number: n, row: row, feed: feed, logged: logged}})
	return nil
}

// compare compares the outboxes of accounts, and the feeds of those that are warm.
func (b *block) compare(ctx context.Context) error {
	pulled, err := b.tiers.Pulled()
	if err != nil {
		return err
	}
	if b.of, err = b.lists.get(ctx, b.wanted); err != nil {
		return err
	}
	var ids []freshet.PostID // whose facts decide
	lacks := make([][]freshet.PostID, len(b.numbers))
	for i, n := range b.numbers {
		b.tally.Outboxes++
		lacks[i] = b.lacks(n)
		ids = append(ids, lacks[i]...)
	}
	for i := range b.warm {
		w := &b.warm[i]
		w.lists, w.pulled = b.of, pulled
		w.suspicion = suspect(w.account, b.cfg.Layout, b.flushed.has)
		b.tally.Checked++
		b.tally.Entries += w.entries
		ids = append(ids, w.strange...)
		for _, e := range w.missing {
			ids = append(ids, e.post)
		}
	}
	slices.Sort(ids)
	facts, err := b.lists.facts(ctx, b.Sources, slices.Compact(ids))
	if err != nil {
		return err
	}
	for i, n := range b.numbers {
		for _, id := range lacks[i] {
			if f := facts[id]; f.found && !f.deleted {
				b.found = append(b.found, finding{ListOutbox, Missing, n, n, id})
			}
		}
	}
	for i := range b.warm {
		if err := b.judge(&b.warm[i], facts); err != nil {
			return err
		}
	}
	return nil
}

// lacks is what an author's outbox lacks, unless it is deleted.
func (b *block) lacks(n freshet.Number) []freshet.PostID {
	of := b.of[n]
	if of.corrupt {
		b.found = append(b.found, finding{list: ListOutbox, kind: Corrupt, account: n, author: n})
	}
	if of.corrupt || of.unwell {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(of.lacks), func(id freshet.PostID) bool { return !b.flushed.has(id) })
}

// judge drops what has an excuse.
func (b *block) judge(w *warm, facts map[freshet.PostID]fact) error {
	for _, e := range w.missing {
		switch why, err := b.excuseMissing(w.number, e, facts[e.post]); {
		case err != nil:
			return err
		case why == none:
			b.found = append(b.found, finding{ListFeed, Missing, w.number, e.author, e.post})
		}
	}
	for _, id := range w.strange {
		switch why, err := b.excuseStrange(w.number, id, facts[id]); {
		case err != nil:
			return err
		case why == none:
			b.found = append(b.found, finding{ListFeed, Extra, w.number, facts[id].post.Author, id})
		case why == leftOver:
			b.tally.LeftOver++
		case why == isDeleted:
			b.tally.Hidden++
		}
	}
	return nil
}

// rowPause is how long a row that is behind its feed is waited for, rowTries times.
const (
	rowPause = 20 * time.Millisecond
	rowTries = 100
)

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
