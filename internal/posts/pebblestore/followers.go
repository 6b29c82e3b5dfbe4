package pebblestore

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"freshet"
	"freshet/internal/posts"
)

// ApplyFollowers implements posts.Store.
func (s *Store) ApplyFollowers(ctx context.Context, changes []posts.FollowerChange) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.commit(func(b *pebble.Batch) error {
		type pair struct{ followee, follower freshet.Number }
		rows := make(map[pair]follower, len(changes))
		for _, c := range changes {
			p := pair{c.Followee, c.Follower}
			row, ok := rows[p]
			if !ok {
				var err error
				if row, err = s.follower(c.Followee, c.Follower); err != nil {
					return err
				}
			}
			if c.Version > row.version {
				row = follower{version: c.Version, follows: c.Follows}
			}
			rows[p] = row
		}
		for p, row := range rows {
			if err := b.Set(followerKey(p.followee, p.follower), row.encode(), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Followers implements posts.Store.
func (s *Store) Followers(
	ctx context.Context, followee, from freshet.Number, limit int,
) ([]freshet.Number, error) {
	if limit <= 0 {
		return nil, nil
	}
	var page []freshet.Number
	end := after(followerPrefix(followee))
	err := s.scan(ctx, followerKey(followee, from), end, func(key, value []byte) (bool, error) {
		row, err := decodeFollower(value)
		if err != nil {
			return false, corrupt(key, err)
		}
		if row.follows {
			page = append(page, freshet.Number(lastNumber(key)))
		}
		return len(page) < limit, nil
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// follower is the value of a follower row.
type follower struct {
	version int64
	follows bool
}

const followerV1 = 1

func (f follower) encode() []byte {
	b := binary.AppendVarint([]byte{followerV1}, f.version)
	if f.follows {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeFollower(b []byte) (follower, error) {
	d := decoder{rest: b}
	if v := d.byte(); d.err == nil && v != followerV1 {
		return follower{}, fmt.Errorf("the value is of version %d; this program knows version %d", v, followerV1)
	}
	f := follower{version: d.varint(), follows: d.byte() == 1}
	return f, d.err
}

// follower reads a row; one that does not exist is older than every version.
func (s *Store) follower(followee, number freshet.Number) (follower, error) {
	f := follower{version: never}
	err := s.get(followerKey(followee, number), func(value []byte) (err error) {
		if value != nil {
			f, err = decodeFollower(value)
		}
		return err
	})
	return f, err
}
