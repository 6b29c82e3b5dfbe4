package pebblestore

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"freshet"
	"freshet/internal/posts"
)

// Save implements posts.Marks. What a row has from an event stays.
func (s *Store) Save(ctx context.Context, saved []freshet.Post) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.commit(func(b *pebble.Batch) error {
		for i := range saved {
			row, err := s.record(saved[i].ID)
			if err != nil {
				return err
			}
			row.save(saved[i])
			if err := put(b, saved[i].ID, &row); err != nil {
				return err
			}
			if err := b.Set(markKey(saved[i].ID), []byte{1}, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// save notes what no event has said yet. Readers are told of a row only when one has.
func (r *record) save(p freshet.Post) {
	if r.created == never {
		r.post.Author, r.post.ReplyTo, r.post.Visibility = p.Author, p.ReplyTo, p.Visibility
	}
	if r.texted == never {
		r.post.Text = p.Text
	}
}

// Unmark implements posts.Marks.
func (s *Store) Unmark(ctx context.Context, ids []freshet.PostID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.commit(func(b *pebble.Batch) error {
		for _, id := range ids {
			if err := b.Delete(markKey(id), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Marked implements posts.Marks.
func (s *Store) Marked(ctx context.Context, slot posts.Slot) (ids []freshet.PostID, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	from, to := freshet.FirstPostID(slot.Begin()), freshet.FirstPostID((slot + 1).Begin())
	err = s.scan(ctx, markKey(from), markKey(to), func(key, _ []byte) (bool, error) {
		ids = append(ids, freshet.PostID(lastNumber(key)))
		return true, nil
	})
	return ids, err
}

// Saved implements posts.Marks.
func (s *Store) Saved(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	saved := map[freshet.PostID]freshet.Post{}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		marked, err := s.has(markKey(id))
		if err != nil {
			return nil, err
		}
		if !marked {
			continue
		}
		row, err := s.record(id)
		if err != nil {
			return nil, err
		}
		if !row.known() {
			p := row.post
			p.CreatedAt = id.Time().UTC()
			saved[id] = p
		}
	}
	return saved, nil
}

func (s *Store) has(key []byte) (there bool, err error) {
	err = s.get(key, func(value []byte) error {
		there = value != nil
		return nil
	})
	return there, err
}

const sweepsV1 = 1

// Sweeps implements posts.Marks.
func (s *Store) Sweeps(ctx context.Context) (sweeps posts.Sweeps, err error) {
	if err := ctx.Err(); err != nil {
		return sweeps, err
	}
	err = s.get([]byte{sweepsRow}, func(value []byte) (err error) {
		if value != nil {
			sweeps, err = decodeSweeps(value)
		}
		return err
	})
	return sweeps, err
}

// NoteSweeps implements posts.Marks.
func (s *Store) NoteSweeps(ctx context.Context, noted posts.Sweeps) error {
	return s.commit(func(b *pebble.Batch) error {
		all, err := s.Sweeps(ctx)
		if err != nil {
			return err
		}
		if all.First == 0 {
			all.First = noted.First
		}
		value := []byte{sweepsV1}
		for _, slot := range []posts.Slot{
			all.First, max(all.Opened, noted.Opened), max(all.Closed, noted.Closed), max(all.Swept, noted.Swept),
		} {
			value = binary.AppendVarint(value, int64(slot))
		}
		return b.Set([]byte{sweepsRow}, value, nil)
	})
}

func decodeSweeps(value []byte) (posts.Sweeps, error) {
	d := decoder{rest: value}
	if v := d.byte(); d.err == nil && v != sweepsV1 {
		return posts.Sweeps{}, fmt.Errorf("the value is of version %d; this program knows version %d", v, sweepsV1)
	}
	s := posts.Sweeps{
		First: posts.Slot(d.varint()), Opened: posts.Slot(d.varint()),
		Closed: posts.Slot(d.varint()), Swept: posts.Slot(d.varint()),
	}
	return s, d.err
}
