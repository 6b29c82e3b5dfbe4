package cassandrastore

import (
	"context"
	"fmt"

	"github.com/gocql/gocql"

	"freshet"
	"freshet/internal/posts"
)

// progressTopic is the partition of the table. There is one topic so far.
const progressTopic = string(freshet.Posts)

const (
	setPosition = `INSERT INTO progress (topic, partition, position) VALUES (?, ?, ?) USING TIMESTAMP ?`
	setThrough  = `INSERT INTO progress (topic, partition, through) VALUES (?, ?, ?) USING TIMESTAMP ?`
)

// Progress implements posts.Store. It reads one partition, however many there are of the topic.
func (s *Store) Progress(ctx context.Context) (map[int32]posts.Progress, error) {
	iter := s.query(ctx, "SELECT partition, position, through FROM progress WHERE topic = ?", progressTopic).Iter()
	all := map[int32]posts.Progress{}
	var partition int32
	var p posts.Progress
	for iter.Scan(&partition, &p.Offset, &p.Through) {
		all[partition] = p
		p = posts.Progress{}
	}
	if err := iter.Close(); err != nil {
		return nil, s.fail("read how far it is", err)
	}
	return all, nil
}

// SetProgress implements posts.Store.
func (s *Store) SetProgress(ctx context.Context, partition int32, p posts.Progress) error {
	batch := s.session.NewBatch(gocql.UnloggedBatch).WithContext(ctx)
	set := func(statement string, value int64) {
		batch.Entries = append(batch.Entries, gocql.BatchEntry{
			Stmt: statement, Args: []any{progressTopic, partition, value, value}, Idempotent: true,
		})
	}
	set(setPosition, p.Offset)
	if !p.Through.IsZero() {
		set(setThrough, p.Through.UnixMilli())
	}
	if err := s.session.ExecuteBatch(batch); err != nil {
		return s.fail(fmt.Sprintf("note the progress of partition %d", partition), err)
	}
	return nil
}
