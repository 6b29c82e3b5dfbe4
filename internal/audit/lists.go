package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/posts"
)

// list is an author's newest posts.
type list struct {
	// ids are those that outbox and post store have together, newest first, at most as many as a feed holds.
	ids []freshet.PostID
	// lacks are those that the post store has and the outbox should have.
	lacks []freshet.PostID
	// corrupt: the outbox cannot be read. unwell: its zone is lost or being recovered, so it says little.
	corrupt, unwell bool
}

// lists keeps the lists of authors that were read lately.
type lists struct {
	conn   feeds.Conn
	layout feeds.Layout
	store  posts.Store
	most   int // bytes

	mu   sync.Mutex
	kept map[freshet.Number]*list
	size int
	// deleted are posts of which facts has heard that they are: for good.
	deleted map[freshet.PostID]struct{}
}

func newLists(conn feeds.Conn, layout feeds.Layout, store posts.Store, most int) *lists {
	return &lists{conn: conn, layout: layout, store: store, most: most, kept: map[freshet.Number]*list{},
		deleted: map[freshet.PostID]struct{}{}}
}

const (
	// listCost is what a list takes beside its ids: the list, its place in the map, and what the allocator rounds up.
	listCost = 160
	// outboxesAtOnce are read in one pipeline, and storeReads are under way at a time.
	outboxesAtOnce = 256
	storeReads     = 16
)

// atOnce is how many lists one of the workers may have in its hands: a share of what may be kept, if they are full.
func (l *lists) atOnce() int { return max(1, l.most/workers/(listCost+8*l.layout.FeedLength)) }

// get returns the lists of authors.
func (l *lists) get(
	ctx context.Context, authors map[freshet.Number]struct{},
) (map[freshet.Number]*list, error) {
	found := make(map[freshet.Number]*list, len(authors))
	var missing []freshet.Number
	l.mu.Lock()
	for author := range authors {
		if kept, ok := l.kept[author]; ok {
			found[author] = kept
		} else {
			missing = append(missing, author)
		}
	}
	l.mu.Unlock()
	slices.Sort(missing) // neighbours lie together in the post store
	for some := range slices.Chunk(missing, outboxesAtOnce) {
		read, err := l.read(ctx, some)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		for i, author := range some {
			found[author] = read[i]
			if _, known := l.kept[author]; !known {
				l.kept[author] = read[i]
				l.size += listCost + 8*(len(read[i].ids)+len(read[i].lacks))
			}
		}
		for author, kept := range l.kept { // in no order: whoever is needed again is read again
			if l.size <= l.most {
				break
			}
			l.size -= listCost + 8*(len(kept.ids)+len(kept.lacks))
			delete(l.kept, author)
		}
		l.mu.Unlock()
	}
	return found, nil
}

// read reads outboxes, and then the post store: what is in the store by the second reading and flushed was in the
// outbox by the first.
func (l *lists) read(ctx context.Context, authors []freshet.Number) ([]*list, error) {
	reads, ops := make([]*feeds.ReadOutbox, len(authors)), make([]feeds.Op, len(authors))
	for i, author := range authors {
		reads[i] = &feeds.ReadOutbox{Author: author}
		ops[i] = reads[i]
	}
	if err := l.conn.Do(ctx, ops...); err != nil {
		return nil, fmt.Errorf("read %d outboxes: %w", len(authors), err)
	}
	all := make([]*list, len(authors))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(storeReads)
	for i, author := range authors {
		g.Go(func() error {
			stored, err := l.store.IDsByAuthor(ctx, author, l.layout.FeedLength)
			if err != nil {
				return fmt.Errorf("read the posts of account %d from the post store: %w", author, err)
			}
			all[i] = l.merge(reads[i], stored)
			return nil
		})
	}
	return all, g.Wait()
}

// merge is the list of an author.
func (l *lists) merge(read *feeds.ReadOutbox, stored []freshet.PostID) *list {
	outbox, loaded, err := read.Posts(l.layout.FeedLength)
	of := &list{corrupt: errors.Is(err, feeds.ErrCorrupt), unwell: !read.State.Well()}
	floor := l.layout.Floor(outbox)
	union := outbox
	for _, id := range stored {
		if _, has := slices.BinarySearchFunc(outbox, id, newestFirst); has {
			continue
		}
		// One that was not loaded from the store yet will be, before anybody relies on it.
		if loaded && id > floor {
			of.lacks = append(of.lacks, id)
		}
		union = append(union[:len(union):len(union)], id)
	}
	of.ids = slices.Clone(feeds.Newest(slices.Clone(union), l.layout.FeedLength))
	return of
}

// deletedAtMost bounds the deleted posts that are remembered, some 40 bytes each.
const deletedAtMost = 1 << 20

// facts are those of posts. Most posts that a feed has, and that no list has, are deleted, which many feeds share: so
// each of those is looked up once.
func (l *lists) facts(ctx context.Context, s *Sources, ids []freshet.PostID) (map[freshet.PostID]fact, error) {
	var unknown, deleted []freshet.PostID
	l.mu.Lock()
	for _, id := range ids {
		if _, ok := l.deleted[id]; ok {
			deleted = append(deleted, id)
		} else {
			unknown = append(unknown, id)
		}
	}
	l.mu.Unlock()
	facts, err := s.facts(ctx, unknown)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, f := range facts {
		if f.deleted {
			if len(l.deleted) >= deletedAtMost {
				clear(l.deleted)
			}
			l.deleted[id] = struct{}{}
		}
	}
	for _, id := range deleted {
		facts[id] = fact{found: true, deleted: true}
	}
	return facts, nil
}

func newestFirst(a, b freshet.PostID) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}
