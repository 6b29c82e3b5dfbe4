package cassandrastore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gocql/gocql"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/posts"
)

// The statements by kind of event, for posts and for posts_by_author. Which columns an event writes is what posts.Store
// says, and that a delete names the author too: it may be all that is known of a post.
const (
	createPost = `INSERT INTO posts (slice, id, author, reply, visibility, created_at, text)
		VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	createByAuthor = `INSERT INTO posts_by_author (author, bucket, id, reply, visibility, created_at, text)
		VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	editPost     = `INSERT INTO posts (slice, id, text, edited_at) VALUES (?, ?, ?, ?) USING TIMESTAMP ?`
	editByAuthor = `INSERT INTO posts_by_author (author, bucket, id, text, edited_at)
		VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?`
	deletePost     = `INSERT INTO posts (slice, id, author, deleted_at) VALUES (?, ?, ?, ?) USING TIMESTAMP ?`
	deleteByAuthor = `INSERT INTO posts_by_author (author, bucket, id, deleted_at) VALUES (?, ?, ?, ?) USING TIMESTAMP ?`

	noteAuthorBucket = `INSERT INTO author_buckets (author, bucket) VALUES (?, ?) USING TIMESTAMP 0`
)

// Apply implements posts.Store.
func (s *Store) Apply(ctx context.Context, events []posts.Event) error {
	writes := make([]write, 0, 2*len(events))
	noted := map[partition]struct{}{}
	for i := range events {
		both, err := writesOf(&events[i])
		if err != nil {
			return err
		}
		writes = append(writes, both[:]...)
		note := both[1].partition
		if _, ok := noted[note]; !ok && !s.authors.has(note) {
			noted[note] = struct{}{}
			writes = append(writes, write{one(note.first), noteAuthorBucket, []any{note.first, note.second}, rowBytes})
		}
	}
	if err := s.send(ctx, writes); err != nil {
		return s.fail(fmt.Sprintf("store %d events of posts", len(events)), err)
	}
	s.authors.add(noted)
	return nil
}

// writesOf are an event's writes to posts and to posts_by_author.
func writesOf(e *posts.Event) (both [2]write, err error) {
	if e.Offset < 0 {
		return both, fmt.Errorf("event of post %s: offset %d is negative", e.Post.ID, e.Offset)
	}
	p := &e.Post
	id, slice, author, bucket := int64(p.ID), sliceOf(p.ID), int64(p.Author), authorBucket(p.ID)
	w := func(statement string, args ...any) write {
		return write{statement: statement, args: append(args, e.Offset), bytes: rowBytes + len(p.Text)}
	}
	switch e.Kind {
	case freshet.PostCreated:
		reply, visibility, at := int64(p.ReplyTo), string(p.Visibility), millis(p.CreatedAt)
		both[0] = w(createPost, slice, id, author, reply, visibility, at, p.Text)
		both[1] = w(createByAuthor, author, bucket, id, reply, visibility, at, p.Text)
	case freshet.PostEdited:
		both[0] = w(editPost, slice, id, p.Text, millis(p.EditedAt))
		both[1] = w(editByAuthor, author, bucket, id, p.Text, millis(p.EditedAt))
	case freshet.PostDeleted:
		at := millis(p.DeletedAt)
		if at == 0 { // a delete that forgot its time is a delete all the same
			at = millis(p.ID.Time())
		}
		both[0] = w(deletePost, slice, id, author, at)
		both[1] = w(deleteByAuthor, author, bucket, id, at)
	default:
		return both, fmt.Errorf("event of post %s at offset %d: unknown kind %d", p.ID, e.Offset, e.Kind)
	}
	both[0].partition, both[1].partition = one(slice), two(author, bucket)
	return both, nil
}

// row is what both tables keep of a post beside its keys. Null is the zero value, so created is a pointer: it says
// whether the creation has come.
type row struct {
	reply           int64
	visibility      string
	text            string
	created         *time.Time
	edited, deleted time.Time
}

const rowColumns = "reply, visibility, text, created_at, edited_at, deleted_at"

func (r *row) columns() []any {
	return []any{&r.reply, &r.visibility, &r.text, &r.created, &r.edited, &r.deleted}
}

// known says whether readers are told of the post at all; listed, whether it is among the posts of its author.
func (r *row) known() bool  { return r.created != nil || !r.deleted.IsZero() }
func (r *row) listed() bool { return r.created != nil && r.deleted.IsZero() }

func (r *row) post(id freshet.PostID, author freshet.Number) freshet.Post {
	p := freshet.Post{
		ID: id, Author: author, Text: r.text, ReplyTo: freshet.PostID(r.reply), Visibility: freshet.Visibility(r.visibility),
		EditedAt: noTimeIfZero(r.edited), DeletedAt: r.deleted,
	}
	if r.created != nil {
		p.CreatedAt = noTimeIfZero(*r.created)
	}
	return p
}

// Posts implements posts.Store.
func (s *Store) Posts(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	found := make(map[freshet.PostID]*freshet.Post, len(ids))
	for _, id := range ids {
		found[id] = nil
	}
	if len(found) == 0 {
		return map[freshet.PostID]freshet.Post{}, nil
	}
	results := make(chan *freshet.Post, len(found))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxInFlight)
	for id := range found {
		g.Go(func() error {
			p, err := s.post(ctx, id)
			if p != nil {
				results <- p
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, s.fail(fmt.Sprintf("read %d posts", len(found)), err)
	}
	close(results)
	all := make(map[freshet.PostID]freshet.Post, len(results))
	for p := range results {
		all[p.ID] = *p
	}
	return all, nil
}

// post is nil if readers are not told of it.
func (s *Store) post(ctx context.Context, id freshet.PostID) (*freshet.Post, error) {
	var author int64
	var r row
	err := s.query(ctx, "SELECT author, "+rowColumns+" FROM posts WHERE slice = ? AND id = ?", sliceOf(id), int64(id)).
		Scan(append([]any{&author}, r.columns()...)...)
	if errors.Is(err, gocql.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !r.known() {
		return nil, err
	}
	p := r.post(id, freshet.Number(author))
	return &p, nil
}

// pageOf is how many rows are asked for at once when limit are wanted. Some may have to be passed over.
func pageOf(limit int) int { return min(max(limit, 20), 1000) }

// ByAuthor implements posts.Store.
func (s *Store) ByAuthor(
	ctx context.Context, author freshet.Number, before freshet.PostID, limit int,
) ([]freshet.Post, error) {
	if limit <= 0 {
		return nil, nil
	}
	last := freshet.PostID(math.MaxInt64)
	if before > 0 {
		last = min(last, before-1)
	}
	read := func(ctx context.Context, bucket int64, limit int) ([]freshet.Post, error) {
		return s.postsInBucket(ctx, author, bucket, last, limit)
	}
	page, err := list(ctx, limit, s.authorBuckets(author, last), read)
	if err != nil {
		return nil, s.fail(fmt.Sprintf("list the posts of account %d", author), err)
	}
	return page, nil
}

// IDsByAuthor implements posts.Store.
func (s *Store) IDsByAuthor(ctx context.Context, author freshet.Number, limit int) ([]freshet.PostID, error) {
	if limit <= 0 {
		return nil, nil
	}
	read := func(ctx context.Context, bucket int64, limit int) ([]freshet.PostID, error) {
		return s.idsInBucket(ctx, author, bucket, limit)
	}
	ids, err := list(ctx, limit, s.authorBuckets(author, math.MaxInt64), read)
	if err != nil {
		return nil, s.fail(fmt.Sprintf("list the ids of the posts of account %d", author), err)
	}
	return ids, nil
}

// authorBuckets goes down the buckets of an author's posts, beginning with that of last.
func (s *Store) authorBuckets(
	author freshet.Number, last freshet.PostID,
) func(ctx context.Context, after *int64) ([]int64, error) {
	return func(ctx context.Context, after *int64) ([]int64, error) {
		below := authorBucket(last) + 1
		if after != nil {
			below = *after
		}
		return s.buckets(ctx, "SELECT bucket FROM author_buckets WHERE author = ? AND bucket < ? LIMIT ?",
			int64(author), below, bucketsAtOnce)
	}
}

func (s *Store) idsInBucket(
	ctx context.Context, author freshet.Number, bucket int64, limit int,
) ([]freshet.PostID, error) {
	iter := s.query(ctx, "SELECT id, created_at, deleted_at FROM posts_by_author WHERE author = ? AND bucket = ?",
		int64(author), bucket).PageSize(pageOf(limit)).Prefetch(0).Iter()
	var ids []freshet.PostID
	var id int64
	for r := (row{}); len(ids) < limit && iter.Scan(&id, &r.created, &r.deleted); r = (row{}) {
		if r.listed() {
			ids = append(ids, freshet.PostID(id))
		}
	}
	return ids, iter.Close()
}

func (s *Store) postsInBucket(
	ctx context.Context, author freshet.Number, bucket int64, last freshet.PostID, limit int,
) ([]freshet.Post, error) {
	iter := s.query(ctx, "SELECT id, "+rowColumns+" FROM posts_by_author WHERE author = ? AND bucket = ? AND id <= ?",
		int64(author), bucket, int64(last)).PageSize(pageOf(limit)).Prefetch(0).Iter()
	var page []freshet.Post
	for len(page) < limit {
		var id int64
		var r row
		if !iter.Scan(append([]any{&id}, r.columns()...)...) {
			break
		}
		if r.listed() {
			page = append(page, r.post(freshet.PostID(id), author))
		}
	}
	return page, iter.Close()
}

func (s *Store) buckets(ctx context.Context, statement string, args ...any) ([]int64, error) {
	iter := s.query(ctx, statement, args...).Iter()
	var all []int64
	var bucket int64
	for iter.Scan(&bucket) {
		all = append(all, bucket)
	}
	return all, iter.Close()
}

// millis is t in milliseconds since 1970; 0 stands for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func noTimeIfZero(t time.Time) time.Time {
	if t.UnixMilli() == 0 {
		return time.Time{}
	}
	return t
}
