package pebblestore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"freshet"
	"freshet/internal/posts"
)

// Apply implements posts.Store.
func (s *Store) Apply(ctx context.Context, events []posts.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.commit(func(b *pebble.Batch) error {
		rows := make(map[freshet.PostID]*record, len(events))
		for _, e := range events {
			row, ok := rows[e.Post.ID]
			if !ok {
				r, err := s.record(e.Post.ID)
				if err != nil {
					return err
				}
				row = &r
				rows[e.Post.ID] = row
			}
			if err := row.apply(e); err != nil {
				return err
			}
		}
		for id, row := range rows {
			if err := put(b, id, row); err != nil {
				return err
			}
		}
		return nil
	})
}

// put writes a row and its place in the author's list.
func put(b *pebble.Batch, id freshet.PostID, row *record) error {
	value, err := row.encode()
	if err != nil {
		return err
	}
	if err := b.Set(postKey(id), value, nil); err != nil {
		return err
	}
	switch {
	case row.listed():
		return b.Set(authorKey(row.post.Author, id), nil, nil)
	case row.known():
		return b.Delete(authorKey(row.post.Author, id), nil)
	}
	return nil
}

// record reads a post's row; a row that does not exist is an empty record.
func (s *Store) record(id freshet.PostID) (record, error) {
	r := newRecord()
	err := s.get(postKey(id), func(value []byte) (err error) {
		if value != nil {
			r, err = decodeRecord(value)
		}
		return err
	})
	r.post.ID = id
	return r, err
}

// Posts implements posts.Store.
func (s *Store) Posts(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	found := make(map[freshet.PostID]freshet.Post, len(ids))
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, err := s.record(id)
		if err != nil {
			return nil, err
		}
		if r.known() {
			found[id] = r.post
		}
	}
	return found, nil
}

// ByAuthor implements posts.Store.
func (s *Store) ByAuthor(
	ctx context.Context, author freshet.Number, before freshet.PostID, limit int,
) ([]freshet.Post, error) {
	if limit <= 0 {
		return nil, nil
	}
	prefix := authorPrefix(author)
	start := prefix
	if before > 0 {
		start = authorKey(author, before-1)
	}
	var page []freshet.Post
	err := s.scan(ctx, start, after(prefix), func(key, _ []byte) (bool, error) {
		r, err := s.record(freshet.PostID(^lastNumber(key)))
		// A delete may have come between the list and the row.
		if err == nil && r.listed() {
			page = append(page, r.post)
		}
		return len(page) < limit, err
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// IDsByAuthor implements posts.Store.
func (s *Store) IDsByAuthor(ctx context.Context, author freshet.Number, limit int) ([]freshet.PostID, error) {
	if limit <= 0 {
		return nil, nil
	}
	var ids []freshet.PostID
	prefix := authorPrefix(author)
	err := s.scan(ctx, prefix, after(prefix), func(key, _ []byte) (bool, error) {
		ids = append(ids, freshet.PostID(^lastNumber(key)))
		return len(ids) < limit, nil
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}
