package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// left remembers the last unfollow of every pair that has one, from the log of follows, in a Pebble database: 32 bytes
// each. The table of following forgets a relation once the tree has let it go, and a feed goes on having the posts of
// before.
type left struct {
	db *pebble.DB
	*tail
}

// unfollow is the event that ended a relation last.
type unfollow struct {
	offset int64
	at     time.Time // of the record
}

func leftKey(follower, followee freshet.Number) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(follower)),
		uint64(followee))
}

// take notes unfollows. A record that cannot be read says nothing: it is a dead letter.
func (l *left) take(records []kafka.Fetched) error {
	batch := l.db.NewBatch()
	defer batch.Close() //nolint:errcheck // it was committed, or is dropped
	for _, r := range records {
		var e events.FollowEvent
		follower, err := freshet.ParseNumber(string(r.Key))
		if err != nil || proto.Unmarshal(r.Value, &e) != nil || e.GetKind() != events.FollowEvent_UNFOLLOW {
			continue
		}
		value := binary.BigEndian.AppendUint64(nil, uint64(r.Offset))
		value = binary.BigEndian.AppendUint64(value, uint64(r.Time.UnixMilli()))
		targets := e.GetTargets()
		if len(targets) == 0 {
			targets = []uint64{e.GetTarget()}
		}
		for _, target := range targets {
			if err := batch.Set(leftKey(follower, freshet.Number(target)), value, nil); err != nil {
				return err
			}
		}
	}
	return batch.Commit(pebble.NoSync)
}

// last is the last unfollow of a pair; false if there was none.
func (l *left) last(follower, followee freshet.Number) (unfollow, bool, error) {
	value, closer, err := l.db.Get(leftKey(follower, followee))
	if errors.Is(err, pebble.ErrNotFound) {
		return unfollow{}, false, nil
	}
	if err != nil {
		return unfollow{}, false, fmt.Errorf("look up whether %d followed %d once: %w", follower, followee, err)
	}
	u := unfollow{
		offset: int64(binary.BigEndian.Uint64(value)), at: time.UnixMilli(int64(binary.BigEndian.Uint64(value[8:]))),
	}
	return u, true, closer.Close()
}
