package views

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/posts"
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
	reached, err := p.reached(ctx)
	if err != nil {
		return Page{}, err
	}
	for len(ids) > 0 {
		n := min(len(ids), p.limit-len(page.Posts)+hydrateAhead)
		found, err := p.hydrate(ctx, ids[:n], nil, reached)
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
	err = p.stored(ctx, &page, reached)
	return page, err
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
func (p *pager) stored(ctx context.Context, page *Page, reached reached) error {
	before := p.cached.floor
	if p.before != 0 {
		before = min(before, p.before)
	}
	if before > reached.through {
		page.Complete, page.Next = false, before
		return nil
	}
	for {
		var found []freshet.Post
		more := false
		for _, author := range p.authors {
			list, err := p.Store.ByAuthor(ctx, author, before, p.limit)
			if errors.Is(err, freshet.ErrStoreAway) {
				page.Complete, page.Next = false, before
				return nil
			}
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
		bodies, err := p.lookAgain(ctx, found, reached)
		if err != nil {
			return err
		}
		for i, body := range bodies {
			before = found[i].ID
			switch body.state {
			case bodyUnknown:
				page.Complete, page.Next = false, before+1
				return nil
			case bodyFound:
				if err := p.take(page, body.post); err != nil {
					return err
				}
			case bodyGone:
			}
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

// lookAgain asks Redis for posts that the store has, for it may lack their last event.
func (p *pager) lookAgain(ctx context.Context, found []freshet.Post, reached reached) ([]body, error) {
	if len(found) == 0 {
		return nil, nil
	}
	ids := make([]freshet.PostID, len(found))
	known := make(map[freshet.PostID]freshet.Post, len(found))
	for i, post := range found {
		ids[i] = post.ID
		known[post.ID] = post
	}
	return p.hydrate(ctx, ids, known, reached)
}

// reached is how far the archive group has come.
type reached struct {
	// through is the id below which every post is in the post store; see posts.Through.
	through  freshet.PostID
	progress map[int32]posts.Progress
}

// tombstones says that where Redis has no tombstone for a post that the store has, there never was one, or the store
// would know that the post is deleted.
func (r reached) tombstones(read *feeds.ReadBody) bool {
	if read.State.Token == "" {
		return false
	}
	for input, end := range read.Waits {
		if input.Topic == feeds.InputPosts && r.progress[input.Partition].Offset < end {
			return false
		}
	}
	return true
}

func (f *Feeds) reached(ctx context.Context) (reached, error) {
	progress, err := f.Store.Progress(ctx)
	if errors.Is(err, freshet.ErrStoreAway) {
		return reached{}, nil // nothing is known to be stored
	}
	if err != nil {
		return reached{}, fmt.Errorf("ask the post store how far it is: %w", err)
	}
	return reached{posts.Through(progress, f.Partitions, f.ProduceTimeout), progress}, nil
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
