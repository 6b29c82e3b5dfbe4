// Package replay has a group process a range of posts again, while it goes on with what is new. Records of posts are
// copied into the topic replays, which the same processor reads with the same code; nothing is stopped, and where the
// group stands in posts does not change.
//
//	spec.go    what is replayed: a range, partitions, an author
//	state.go   how far a replay is, where every operator's machine sees it
//	ranges.go  the range in offsets, and what of it retention has removed
//	replay.go  beginning, pausing, resuming and cancelling
//	copy.go    copying, at a rate, and waiting until the group has done it
//	author.go  which account is meant
//	store.go   what retention has removed, from the post store
package replay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"freshet"
	"freshet/internal/offsets"
)

// Spec is what is replayed. It is kept with the state, so that another machine can go on.
type Spec struct {
	// From is where the range begins; To is where it ends, without what is there.
	From Bound `json:"from"`
	To   Bound `json:"to"`
	// Partitions are those of posts; none are all.
	Partitions []int32 `json:"partitions,omitempty"`
	// Author: only what this author wrote.
	Author *freshet.Number `json:"author,omitempty"`
	// Truncated: a part of the range may have been removed by retention.
	Truncated bool `json:"truncated,omitempty"`
	// Store: the posts are read from the post store, and not from the log. From and To are then times or posts.
	Store bool `json:"store,omitempty"`
}

// Bound is an end of a range: a time, the id of a post, or an offset, which is the same one in each partition.
type Bound struct {
	kind   boundKind
	time   time.Time
	post   freshet.PostID
	offset int64
}

type boundKind int

const (
	byTime boundKind = iota + 1
	byPost
	byOffset
)

const postPrefix = "post:"

// ParseBound reads a time with its zone, how long ago (2h30m, PT2H30M), post:ID, or an offset.
func ParseBound(s string, now time.Time) (Bound, error) {
	if id, ok := strings.CutPrefix(s, postPrefix); ok {
		post, err := freshet.ParsePostID(id)
		return Bound{kind: byPost, post: post}, err
	}
	if offset, err := strconv.ParseInt(s, 10, 64); err == nil && offset >= 0 {
		return Bound{kind: byOffset, offset: offset}, nil
	}
	if d, err := offsets.ParseDuration(s); err == nil {
		return At(now.Add(-d)), nil
	}
	t, err := offsets.ParseTime(s)
	if err != nil {
		return Bound{}, fmt.Errorf("%w; or how long ago (2h30m), post:ID, or an offset", err)
	}
	return At(t), nil
}

// At is the bound of a time, to the millisecond, which is how exact Kafka is.
func At(t time.Time) Bound { return Bound{kind: byTime, time: t.Truncate(time.Millisecond)} }

func (b Bound) String() string {
	switch b.kind {
	case byPost:
		return postPrefix + b.post.String()
	case byOffset:
		return strconv.FormatInt(b.offset, 10)
	}
	return b.time.UTC().Format(time.RFC3339Nano)
}

// MarshalText writes what ParseBound reads.
func (b Bound) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (b *Bound) UnmarshalText(text []byte) error {
	var err error
	*b, err = ParseBound(string(text), time.Time{})
	return err
}

var (
	// ErrRange is wrapped by the errors for a range that has nothing in it, or is none.
	ErrRange = errors.New("nothing to replay")
	// ErrTruncated is wrapped by the error for a range of which retention has removed a part.
	ErrTruncated = errors.New("a part of the range is gone")
)

// Validate refuses what is no range.
func (s Spec) Validate() error {
	f, t := s.From, s.To
	var after bool
	switch {
	case f.kind == 0 || t.kind == 0:
		return errors.New("a replay has a beginning and an end")
	case f.kind == byTime && t.kind == byTime:
		after = !f.time.Before(t.time)
	case f.kind == byPost && t.kind == byPost:
		after = f.post >= t.post
	case f.kind == byOffset && t.kind == byOffset:
		after = f.offset >= t.offset
	}
	switch {
	case after && f == t:
		return fmt.Errorf("%w: it begins and ends at %s, and the end is not in it", ErrRange, f)
	case after:
		return fmt.Errorf("%w: it begins at %s, which is after its end, %s", ErrRange, f, t)
	case s.Store && (f.kind == byOffset || t.kind == byOffset):
		return errors.New("the post store knows no offsets: give times, or posts")
	}
	return nil
}

// posts are the ids of the posts in the range, from and below, as far as it says so by posts; and for a range of times,
// those that were minted in it.
func (s Spec) posts() (from, below freshet.PostID) {
	below = 1<<63 - 1
	switch s.From.kind {
	case byPost:
		from = s.From.post
	case byTime:
		from = freshet.FirstPostID(s.From.time)
	}
	switch s.To.kind {
	case byPost:
		below = s.To.post
	case byTime:
		below = freshet.FirstPostID(s.To.time)
	}
	return from, below
}

// judgesPosts says whether records have to be decoded to know whether they are in the range.
func (s Spec) judgesPosts() bool { return s.From.kind == byPost || s.To.kind == byPost }
