package views

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"freshet"
	"freshet/internal/crash"
	"freshet/internal/feeds"
	"freshet/internal/posts"
)

// Rows is what a feed needs of Following.
type Rows interface {
	// Row is the account's row, nil for an account that has none. It is shared: callers do not change it.
	Row(n freshet.Number) (*freshet.Following, error)
}

// Directory is what a feed needs of Accounts.
type Directory interface {
	ByNumber(n freshet.Number) (freshet.Account, bool, error)
}

// Feeds reads home feeds and profiles: from Redis as long as the caches reach, from the post store below. It is safe
// for concurrent use.
//
// Nothing is ever written in the background for a reader. A feed names the version of the reader's row from which it
// was built; the posts of authors whose tree has reported the reader only later, or not yet, are added from those
// authors' outboxes, and so are the reader's own, and those of authors that are or were pulled. A feed that is not
// there is built on the spot from the outboxes of all authors that the reader follows.
type Feeds struct {
	Conn     feeds.Conn
	Layout   feeds.Layout
	Store    posts.Store
	Rows     Rows
	Tiers    PulledAuthors
	Kept     *KeptOutboxes
	Accounts Directory
	// Recent keeps posts for a moment; nil keeps none.
	Recent *Recent
	// Unwritten knows of posts of this process that Redis did not take; nil knows of none.
	Unwritten *feeds.Unwritten
	// Partitions is how many partitions the posts topic has: the post store is as far as its slowest one.
	Partitions int32
	// ProduceTimeout is how long after its id was minted a post may still reach the log.
	ProduceTimeout time.Duration
	// PullSlack is freshet.PullSlack; a simulation has its own.
	PullSlack time.Duration
	// Corrupt, unless nil, is told of each feed that was found corrupt and made cold.
	Corrupt func(error)
	// Now, Random and Pause are the clock, a source of random numbers and a wait; a simulation has its own.
	Now    func() time.Time
	Random func() uint64
	Pause  func(ctx context.Context, d time.Duration)
}

const (
	// buildLease is how long a reader may take to build a feed before another takes over.
	buildLease = 10 * time.Second
	// Who finds a feed being built looks again this often, this many times, and then answers what is there.
	buildPause = 20 * time.Millisecond
	buildTries = 25
)

// merged is what the caches say: posts of the feed, newest first, whole down to floor.
type merged struct {
	ids      []freshet.PostID
	floor    freshet.PostID // ids below are served by the post store only; 0: the caches reach down to the first post
	complete bool
}

// add merges the outboxes in.
func (m *merged) add(outboxes []feeds.Outbox) {
	for _, outbox := range outboxes {
		m.ids = append(m.ids, outbox.IDs...)
		m.floor = max(m.floor, outbox.Floor)
		m.complete = m.complete && outbox.State.Well()
	}
}

// Feed reads a page of the account's home feed: posts below before, or from the newest if before is 0. An error wraps
// ErrNotReady or feeds.ErrAway when the answer cannot be had now.
func (f *Feeds) Feed(ctx context.Context, reader freshet.Number, before freshet.PostID, limit int) (Page, error) {
	row, err := f.Rows.Row(reader)
	if err != nil {
		return Page{}, err
	}
	cached, err := f.cached(ctx, reader, row)
	if err != nil {
		return Page{}, fmt.Errorf("read the feed of account %d: %w", reader, err)
	}
	authors := []freshet.Number{reader}
	for _, relation := range row.All() {
		if relation.Follows && !row.Mutes(relation.Account) {
			authors = append(authors, relation.Account)
		}
	}
	known := make(map[freshet.Number]freshet.Relationship, limit) // within this read, an author's posts share one
	p := pager{
		Feeds: f, cached: cached, authors: authors, before: before, limit: limit,
		wanted: func(post freshet.Post) (bool, error) {
			r, ok := known[post.Author]
			if !ok {
				var err error
				if r, err = f.relationship(reader, row, post.Author); err != nil {
					return false, err
				}
				known[post.Author] = r
			}
			return freshet.InFeed(post, r), nil
		},
	}
	return p.page(ctx)
}

// ByAuthor reads a page of the posts of one account, as someone sees it who may see everything that is not hidden from
// all: posts below before, or from the newest if before is 0.
func (f *Feeds) ByAuthor(ctx context.Context, author freshet.Number, before freshet.PostID, limit int) (Page, error) {
	outboxes, err := f.Layout.ReadOutboxes(ctx, f.Conn, f.Store, []freshet.Number{author})
	if err != nil {
		return Page{}, fmt.Errorf("read the posts of account %d: %w", author, err)
	}
	cached := merged{complete: true}
	cached.add(outboxes)
	cached.complete = cached.complete && !f.Unwritten.Lacks(author, outboxes[0])
	p := pager{
		Feeds: f, cached: cached, authors: []freshet.Number{author}, before: before, limit: limit,
		wanted: func(post freshet.Post) (bool, error) {
			r, err := f.relationship(author, nil, author)
			return post.Author == author && freshet.CanSee(post, r), err
		},
	}
	return p.page(ctx)
}

func (f *Feeds) relationship(
	viewer freshet.Number, viewerRow *freshet.Following, author freshet.Number,
) (freshet.Relationship, error) {
	account, found, err := f.Accounts.ByNumber(author)
	if err != nil {
		return freshet.Relationship{}, err
	}
	authorRow, err := f.Rows.Row(author)
	if err != nil {
		return freshet.Relationship{}, err
	}
	return freshet.RelationshipOf(viewer, viewerRow, author, authorRow, found && account.Closed), nil
}

// cached reads the reader's feed from the caches, building it when it is cold. row was read before.
func (f *Feeds) cached(ctx context.Context, reader freshet.Number, row *freshet.Following) (merged, error) {
	for try := 0; ; try++ {
		read := &feeds.ReadBlock{Block: reader.Block(), Slot: int(reader.Slot())}
		own := &feeds.ReadOutbox{Author: reader} // no tree brings a post to its author, so it need not come after the feed
		if err := f.Conn.Do(ctx, read, own); err != nil {
			return merged{}, err
		}
		feed, logged, err := read.Feed(reader.Slot())
		switch {
		case errors.Is(err, feeds.ErrNoFeed):
		case errors.Is(err, feeds.ErrCorrupt):
			found, failed := f.Layout.CompactBlock(ctx, f.Conn, reader.Block(), 0, f.generation())
			if failed != nil {
				return merged{}, failed
			}
			if found.Corrupt != nil && f.Corrupt != nil {
				f.Corrupt(fmt.Errorf("feeds of block %d were made cold: %w", reader.Block(), found.Corrupt))
			}
			if try < buildTries {
				continue
			}
			return merged{}, err
		case err != nil:
			return merged{}, err
		case !feed.Building:
			return f.warm(ctx, reader, row, warmRead{read, own, feed, logged})
		case f.Now().Before(feed.Lease):
			if try < buildTries {
				f.Pause(ctx, buildPause)
				continue
			}
			m := merged{ids: append(feed.IDs, logged...)}
			outboxes, err := f.Layout.Outboxes(ctx, f.Conn, f.Store, []*feeds.ReadOutbox{own})
			m.add(outboxes)
			return m, err
		}
		m, built, err := f.build(ctx, reader, read)
		if err != nil || built || try == buildTries {
			return m, err
		}
	}
}

// warmRead is a feed as Redis has it, with the reader's outbox.
type warmRead struct {
	*feeds.ReadBlock
	own    *feeds.ReadOutbox
	feed   feeds.Feed
	logged []freshet.PostID
}

// warm completes a feed that is there.
func (f *Feeds) warm(
	ctx context.Context, reader freshet.Number, row *freshet.Following, read warmRead,
) (merged, error) {
	feed := read.feed
	pulled, err := f.Tiers.Pulled()
	if err != nil {
		return merged{}, err
	}
	now := f.Now()
	from := sourcesOf(row, feed.RowVersion, pulled)
	kept, missing := f.Kept.get(now, from.pulled)
	own, err := f.Layout.Outboxes(ctx, f.Conn, f.Store, []*feeds.ReadOutbox{read.own})
	if err != nil {
		return merged{}, err
	}
	outboxes, err := f.Layout.ReadOutboxes(ctx, f.Conn, f.Store, slices.Concat(from.late, missing))
	if err != nil {
		return merged{}, err
	}
	late, fresh := outboxes[:len(from.late)], outboxes[len(from.late):]
	f.Kept.put(now, missing, fresh)
	m := merged{ids: slices.Concat(feed.IDs, read.logged), floor: f.Layout.Floor(feed.IDs), complete: read.State.Well()}
	m.add(own)
	m.add(outboxes)
	m.add(kept)
	m.complete = m.complete && !f.Unwritten.Lacks(reader, own[0])
	// A view that is behind the row that the feed was built from does not know of follows that the feed relies on.
	m.complete = m.complete && row.At() >= feed.RowVersion
	// One that is behind its topic may not know of authors whose posts are not delivered any more.
	m.complete = m.complete && pulled.whole(now, f.PullSlack)

	today := feeds.DayOf(now)
	merge := from.settled && m.complete
	if read.State.Token == "" || !merge && feed.Read >= today {
		return m, nil
	}
	feed.Read = max(feed.Read, today)
	if merge {
		// From now on the feed has what these outboxes had when their trees reported the reader; later posts come by the
		// trees. Relations that are not applied yet will be applied at a later version of the row.
		feed.RowVersion = row.At()
		for _, outbox := range late {
			feed.IDs = append(feed.IDs, outbox.IDs...)
		}
		feed.IDs = feeds.Newest(feed.IDs, f.Layout.FeedLength)
	}
	// A refused write is no loss: the next read tries again.
	err = f.Conn.Do(ctx, &feeds.SwapFeed{
		Block: reader.Block(), Slot: reader.Slot(), Token: read.State.Token, Generation: read.Generation,
		Next: f.generation(), Value: feed.Encode(),
	})
	return m, err
}

// build builds a cold feed, or one whose builder has gone. It answers false when somebody else got in between.
//
// The slot is marked first; from then on compaction keeps what is delivered. Only then are the row and the outboxes
// read. So a post that a compaction dropped before is in an outbox by now, and one that comes later is in the log.
func (f *Feeds) build(ctx context.Context, reader freshet.Number, read *feeds.ReadBlock) (merged, bool, error) {
	now := f.Now()
	mark := feeds.Feed{Header: feeds.Header{
		Building: true, Build: f.Random() | 1, Lease: now.Add(buildLease), Read: feeds.DayOf(now),
	}}
	if old, _, err := read.Feed(reader.Slot()); err == nil {
		mark.IDs = old.IDs
	}
	swap := &feeds.SwapFeed{
		Block: reader.Block(), Slot: reader.Slot(), Token: read.State.Token, Generation: read.Generation,
		Next: f.generation(), Value: mark.Encode(),
	}
	if swap.Token != "" {
		if err := f.Conn.Do(ctx, swap); err != nil || !swap.OK {
			return merged{}, false, err
		}
	}
	row, err := f.Rows.Row(reader)
	if err != nil {
		return merged{}, false, err
	}
	authors := []freshet.Number{reader}
	for _, relation := range row.All() {
		if relation.Follows {
			authors = append(authors, relation.Account)
		}
	}
	outboxes, err := f.Layout.ReadOutboxes(ctx, f.Conn, f.Store, authors)
	if err != nil {
		return merged{}, false, err
	}
	m := merged{complete: read.State.Well()}
	m.add(outboxes)
	m.complete = m.complete && !f.Unwritten.Lacks(reader, outboxes[0])
	if swap.Token == "" {
		return m, true, nil // Redis has lost the zone, and nobody has recovered it yet
	}
	if slices.ContainsFunc(outboxes, func(o feeds.Outbox) bool { return o.State.Token == "" }) {
		// Redis has lost the zone of an outbox, and nobody has noticed. By the time that somebody does, the post store may
		// have what the outbox lacks now; then it does not come again, and a feed built now would lack it for good.
		return m, true, f.unmark(ctx, reader, swap)
	}
	crash.At(crash.Building)
	var union []freshet.PostID
	for _, outbox := range outboxes[1:] {
		union = append(union, outbox.IDs...)
	}
	built, err := f.finish(ctx, reader, mark.Build, swap.Token, row.At(), union, &m)
	return m, built, err
}

// unmark makes a slot cold again that mark has marked. If it is refused, the lease of the mark will end.
func (f *Feeds) unmark(ctx context.Context, reader freshet.Number, mark *feeds.SwapFeed) error {
	return f.Conn.Do(ctx, &feeds.SwapFeed{
		Block: reader.Block(), Slot: reader.Slot(), Token: mark.Token, Generation: mark.Next, Next: f.generation(),
	})
}

// finish replaces the mark by the feed, with what was delivered meanwhile, if it is still this build's mark and Redis
// has lost nothing since.
func (f *Feeds) finish(
	ctx context.Context, reader freshet.Number, build uint64, token string, version uint64,
	union []freshet.PostID, m *merged,
) (bool, error) {
	for range buildTries {
		read := &feeds.ReadBlock{Block: reader.Block(), Slot: int(reader.Slot())}
		if err := f.Conn.Do(ctx, read); err != nil {
			return false, err
		}
		feed, logged, err := read.Feed(reader.Slot())
		if err != nil || !feed.Building || feed.Build != build || read.State.Token != token {
			return false, nil //nolint:nilerr // whatever is there now, it is not this build's; the caller looks again
		}
		ids := feeds.Newest(slices.Concat(union, feed.IDs), f.Layout.FeedLength)
		write := &feeds.SwapFeed{
			Block: reader.Block(), Slot: reader.Slot(), Token: token, Generation: read.Generation, Next: f.generation(),
			Value: feeds.Feed{Header: feeds.Header{RowVersion: version, Read: feed.Read}, IDs: ids}.Encode(),
		}
		if err := f.Conn.Do(ctx, write); err != nil {
			return false, err
		}
		if write.OK {
			m.ids = slices.Concat(m.ids, ids, logged)
			m.floor = max(m.floor, f.Layout.Floor(ids))
			m.complete = m.complete && read.State.Well()
			return true, nil
		}
	}
	return false, nil
}

// generation names a state of a block as no other ever was.
func (f *Feeds) generation() string { return fmt.Sprintf("%016x", f.Random()) }
