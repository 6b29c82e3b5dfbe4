package cassandrastore

import (
	"context"
	"fmt"

	"freshet"
	"freshet/internal/posts"
)

const (
	setFollower = `INSERT INTO followers (followee, bucket, follower, follows) VALUES (?, ?, ?, ?) USING TIMESTAMP ?`

	noteFollowerBucket = `INSERT INTO follower_buckets (followee, bucket) VALUES (?, ?) USING TIMESTAMP 0`
)

// ApplyFollowers implements posts.Store.
func (s *Store) ApplyFollowers(ctx context.Context, changes []posts.FollowerChange) error {
	writes := make([]write, 0, len(changes))
	noted := map[partition]struct{}{}
	for _, c := range changes {
		if c.Version < 0 {
			return fmt.Errorf("account %d follows %d: version %d is negative", c.Follower, c.Followee, c.Version)
		}
		where := two(int64(c.Followee), followerBucket(c.Follower))
		writes = append(writes, write{where, setFollower,
			[]any{where.first, where.second, int64(c.Follower), c.Follows, c.Version}, rowBytes})
		// Somebody who never followed needs no bucket; a later "follows" notes it.
		if _, ok := noted[where]; !ok && c.Follows && !s.followees.has(where) {
			noted[where] = struct{}{}
			writes = append(writes, write{one(where.first), noteFollowerBucket, []any{where.first, where.second}, rowBytes})
		}
	}
	if err := s.send(ctx, writes); err != nil {
		return s.fail(fmt.Sprintf("store %d changes of followers", len(changes)), err)
	}
	s.followees.add(noted)
	return nil
}

// Followers implements posts.Store.
func (s *Store) Followers(
	ctx context.Context, followee, from freshet.Number, limit int,
) ([]freshet.Number, error) {
	if limit <= 0 {
		return nil, nil
	}
	next := func(ctx context.Context, after *int64) ([]int64, error) {
		above := followerBucket(from) - 1
		if after != nil {
			above = *after
		}
		return s.buckets(ctx, "SELECT bucket FROM follower_buckets WHERE followee = ? AND bucket > ? LIMIT ?",
			int64(followee), above, bucketsAtOnce)
	}
	read := func(ctx context.Context, bucket int64, limit int) ([]freshet.Number, error) {
		return s.followersInBucket(ctx, followee, bucket, from, limit)
	}
	page, err := list(ctx, limit, next, read)
	if err != nil {
		return nil, s.fail(fmt.Sprintf("list the followers of account %d", followee), err)
	}
	return page, nil
}

func (s *Store) followersInBucket(
	ctx context.Context, followee freshet.Number, bucket int64, from freshet.Number, limit int,
) ([]freshet.Number, error) {
	iter := s.query(ctx,
		"SELECT follower, follows FROM followers WHERE followee = ? AND bucket = ? AND follower >= ?",
		int64(followee), bucket, int64(from)).PageSize(pageOf(limit)).Prefetch(0).Iter()
	var page []freshet.Number
	var follower int64
	var follows bool
	for len(page) < limit && iter.Scan(&follower, &follows) {
		if follows {
			page = append(page, freshet.Number(follower))
		}
	}
	return page, iter.Close()
}
