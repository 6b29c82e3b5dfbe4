package cassandrastore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/gocql/gocql"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/posts"
)

// A post that is saved has every column but created_at, without which readers are not told of it; see schema.cql.
const (
	savePost = `INSERT INTO posts (slice, id, author, reply, visibility, text, unpublished)
		VALUES (?, ?, ?, ?, ?, ?, true) USING TIMESTAMP -2`
	unmarkPost = `INSERT INTO posts (slice, id, unpublished) VALUES (?, ?, false) USING TIMESTAMP -1`

	// sweepsName is the only row of the table.
	sweepsName = string(freshet.Posts)
	firstSlot  = `UPDATE sweeps SET first = ? WHERE name = ? IF first = null`
)

// Save implements posts.Marks. A post is one write to one partition.
func (s *Store) Save(ctx context.Context, saved []freshet.Post) error {
	writes := make([]write, len(saved))
	for i := range saved {
		p := &saved[i]
		slice := sliceOf(p.ID)
		writes[i] = write{one(slice), savePost, []any{
			slice, int64(p.ID), int64(p.Author), int64(p.ReplyTo), string(p.Visibility), p.Text,
		}, rowBytes + len(p.Text)}
	}
	if err := s.send(ctx, writes); err != nil {
		return s.fail(fmt.Sprintf("save %d posts", len(saved)), err)
	}
	return nil
}

// Unmark implements posts.Marks.
func (s *Store) Unmark(ctx context.Context, ids []freshet.PostID) error {
	writes := make([]write, len(ids))
	for i, id := range ids {
		slice := sliceOf(id)
		writes[i] = write{one(slice), unmarkPost, []any{slice, int64(id)}, rowBytes}
	}
	if err := s.send(ctx, writes); err != nil {
		return s.fail(fmt.Sprintf("unmark %d posts", len(ids)), err)
	}
	return nil
}

// Marked implements posts.Marks. It reads the partitions of ten seconds of posts, without their texts.
func (s *Store) Marked(ctx context.Context, slot posts.Slot) ([]freshet.PostID, error) {
	var mu sync.Mutex
	var marked []freshet.PostID
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(slicesReadAtOnce)
	for i := range int64(slicesAtOnce) {
		g.Go(func() error {
			iter := s.query(ctx, "SELECT id, unpublished FROM posts WHERE slice = ?", int64(slot)*slicesAtOnce+i).Iter()
			var id int64
			var unpublished bool
			for iter.Scan(&id, &unpublished) {
				if unpublished {
					mu.Lock()
					marked = append(marked, freshet.PostID(id))
					mu.Unlock()
				}
				unpublished = false
			}
			return iter.Close()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, s.fail(fmt.Sprintf("look for unpublished posts of %s", slot.Begin().UTC()), err)
	}
	slices.Sort(marked)
	return marked, nil
}

// slicesReadAtOnce is small: looking for marked posts is never urgent.
const slicesReadAtOnce = 4

// Saved implements posts.Marks.
func (s *Store) Saved(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	saved := map[freshet.PostID]freshet.Post{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(slicesReadAtOnce)
	for _, id := range ids {
		g.Go(func() error {
			var author int64
			var unpublished bool
			var r row
			err := s.query(ctx, "SELECT author, unpublished, "+rowColumns+" FROM posts WHERE slice = ? AND id = ?",
				sliceOf(id), int64(id)).Scan(append([]any{&author, &unpublished}, r.columns()...)...)
			if errors.Is(err, gocql.ErrNotFound) {
				return nil
			}
			if err == nil && unpublished && !r.known() {
				p := r.post(id, freshet.Number(author))
				p.CreatedAt = id.Time().UTC()
				mu.Lock()
				saved[id] = p
				mu.Unlock()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, s.fail(fmt.Sprintf("read %d saved posts", len(ids)), err)
	}
	return saved, nil
}

// Sweeps implements posts.Marks.
func (s *Store) Sweeps(ctx context.Context) (posts.Sweeps, error) {
	var sweeps posts.Sweeps
	err := s.query(ctx, "SELECT first, opened, closed, swept FROM sweeps WHERE name = ?", sweepsName).
		Scan(&sweeps.First, &sweeps.Opened, &sweeps.Closed, &sweeps.Swept)
	if err != nil && !errors.Is(err, gocql.ErrNotFound) {
		return posts.Sweeps{}, s.fail("read where unpublished posts may be", err)
	}
	return sweeps, nil
}

// NoteSweeps implements posts.Marks. The first slot is decided by all replicas together, once.
func (s *Store) NoteSweeps(ctx context.Context, noted posts.Sweeps) error {
	if noted.First != 0 {
		before := map[string]any{}
		_, err := s.query(ctx, firstSlot, int64(noted.First), sweepsName).SerialConsistency(gocql.LocalSerial).
			MapScanCAS(before)
		if err != nil {
			return s.fail("note where the first unpublished post may be", err)
		}
	}
	var writes []write
	for _, column := range []struct {
		statement string
		slot      posts.Slot
	}{
		{"INSERT INTO sweeps (name, opened) VALUES (?, ?) USING TIMESTAMP ?", noted.Opened},
		{"INSERT INTO sweeps (name, closed) VALUES (?, ?) USING TIMESTAMP ?", noted.Closed},
		{"INSERT INTO sweeps (name, swept) VALUES (?, ?) USING TIMESTAMP ?", noted.Swept},
	} {
		if column.slot != 0 {
			args := []any{sweepsName, int64(column.slot), int64(column.slot)}
			writes = append(writes, write{statement: column.statement, args: args, bytes: rowBytes})
		}
	}
	if len(writes) == 0 {
		return nil
	}
	if err := s.execute(ctx, writes); err != nil {
		return s.fail("note where unpublished posts may be", err)
	}
	return nil
}
