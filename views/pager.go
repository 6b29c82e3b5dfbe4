package views

import (
	"context"
	"fmt"
	"slices"
	"time"

	"freshet"
	"freshet/internal/feeds"
)

// pager walks down a list of posts, first by ids from the caches, then by the post store, until a page is full.
type pager struct {
	*Feeds
	cached  merged
	authors []freshet.Number // whose posts the store is asked for
	before  freshet.PostID   // 0: from the newest
	limit   int
	wanted  func(freshet.Post) (bool, error)
}

// hydrateAhead is how many posts more than wanted are read at once, because some will be filtered.
const hydrateAhead = 8

func (p *pager) page(ctx context.Context) (Page, error) {
	page := Page{Complete: p.cached.complete}
	ids := feeds.Newest(p.cached.ids, len(p.cached.ids))
	if p.before != 0 {
		ids = ids[firstBelow(ids, p.before):]
	}
	if p.cached.floor != 0 {
		// Below the floor the caches have holes; a late id that lies there does not count.
		ids = ids[:firstBelow(ids, p.cached.floor)]
	}
	through, err := p.through(ctx)
	if err != nil {
		return Page{}, err
	}
	for len(ids) > 0 {
		n := min(len(ids), p.limit-len(page.Posts)+hydrateAhead)
		found, err := p.hydrate(ctx, ids[:n], through)
		if err != nil {
			return Page{}, err
		}
		for i, id := range ids[:n] {
			switch found[i].state {
			case bodyUnknown:
				// The post may be about to arrive, so the page ends above it and the next one begins with it.
				page.Complete, page.Next = false, id+1
				return page, nil
			case bodyFound:
				if err := p.take(&page, found[i].post); err != nil {
					return Page{}, err
				}
			case bodyGone:
			}
			if len(page.Posts) == p.limit && (i+1 < len(ids) || p.cached.floor != 0) {
				page.Next = id
				return page, nil
			}
		}
		ids = ids[n:]
	}
	if p.cached.floor == 0 {
		p.keepOpen(&page)
		return page, nil
	}
	return page, p.stored(ctx, &page, through)
}

// keepOpen gives a page that ends the list, but may lack posts, a next page: nobody is told that nothing more can come
// while that is not known.
func (p *pager) keepOpen(page *Page) {
	switch {
	case page.Complete || page.Next != 0:
	case len(page.Posts) > 0:
		page.Next = page.Posts[len(page.Posts)-1].ID
	case p.before != 0:
		page.Next = p.before
	default:
		page.Next = lastPostID
	}
}

// lastPostID is above every post.
const lastPostID freshet.PostID = 1<<63 - 1

// stored fills the page with posts below the floor. The store must have come down to it.
func (p *pager) stored(ctx context.Context, page *Page, through freshet.PostID) error {
	before := p.cached.floor
	if p.before != 0 {
		before = min(before, p.before)
	}
	if before > through {
		page.Complete, page.Next = false, before
		return nil
	}
	for {
		var found []freshet.Post
		more := false
		for _, author := range p.authors {
			list, err := p.Store.ByAuthor(ctx, author, before, p.limit)
			if err != nil {
				return fmt.Errorf("read the posts of account %d from the post store: %w", author, err)
			}
			more = more || len(list) == p.limit
			found = append(found, list...)
		}
		slices.SortFunc(found, func(a, b freshet.Post) int {
			if a.ID > b.ID {
				return -1
			}
			return 1
		})
		if more = more || len(found) > p.limit; len(found) > p.limit {
			found = found[:p.limit] // beyond it, an author's next posts may belong in between
		}
		for i, post := range found {
			if err := p.take(page, post); err != nil {
				return err
			}
			before = post.ID
			if len(page.Posts) == p.limit && (more || i+1 < len(found)) {
				page.Next = before
				return nil
			}
		}
		if !more {
			page.Next = 0
			p.keepOpen(page)
			return nil
		}
	}
}

func (p *pager) take(page *Page, post freshet.Post) error {
	wanted, err := p.wanted(post)
	if err == nil && wanted {
		page.Posts = append(page.Posts, post)
	}
	return err
}

// through is the id below which every post is in the post store: the archive group has passed, in every partition, the
// time of its id and as much longer as a post may take into the log.
func (f *Feeds) through(ctx context.Context) (freshet.PostID, error) {
	progress, err := f.Store.Progress(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask the post store how far it is: %w", err)
	}
	var lowest time.Time
	for partition := range f.Partitions {
		p := progress[partition]
		if p.Through.IsZero() {
			return 0, nil
		}
		if lowest.IsZero() || p.Through.Before(lowest) {
			lowest = p.Through
		}
	}
	return freshet.FirstPostID(lowest.Add(-f.ProduceTimeout)), nil
}

// firstBelow is the index of the first id below limit in ids, newest first.
func firstBelow(ids []freshet.PostID, limit freshet.PostID) int {
	i, _ := slices.BinarySearchFunc(ids, limit, func(id, limit freshet.PostID) int {
		if id >= limit {
			return -1
		}
		return 1
	})
	return i
}
