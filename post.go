package freshet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// PostID is 63 bits and ordered by time: 41 bits of milliseconds since Epoch, 10 bits of node, 12 bits of sequence.
// It is minted once, by the API process that took the post, and carried in the event.
type PostID uint64

// Epoch is the zero of PostID's clock. 41 bits of milliseconds last until 2094.
var Epoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	nodeBits     = 10
	sequenceBits = 12

	// Nodes is how many API processes can be told apart by a PostID.
	Nodes = 1 << nodeBits
)

// ParsePostID reads what String wrote.
func ParsePostID(s string) (PostID, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("post id %q: want a decimal number from 1 to 2^63-1", s)
	}
	return PostID(n), nil
}

func (p PostID) String() string { return strconv.FormatUint(uint64(p), 10) }

// Time is when the id was minted, to the millisecond.
func (p PostID) Time() time.Time {
	return Epoch.Add(time.Duration(p>>(nodeBits+sequenceBits)) * time.Millisecond)
}

// FirstPostID is the lowest id that can be minted at t or later.
func FirstPostID(t time.Time) PostID {
	ms := t.Sub(Epoch).Milliseconds()
	if ms < 0 {
		return 0
	}
	return PostID(ms) << (nodeBits + sequenceBits)
}

// Visibility says who may see a post.
type Visibility string

const (
	// Public posts are for everyone who is not blocked.
	Public Visibility = "public"
	// FollowersOnly posts are for the author and the author's followers.
	FollowersOnly Visibility = "followers"
)

// MaxText is the length of the longest post, in characters.
const MaxText = 10_000

// Post is a post with its current text.
type Post struct {
	ID         PostID
	Author     Number
	Text       string
	ReplyTo    PostID // 0: a reply to nothing
	Visibility Visibility
	CreatedAt  time.Time
	EditedAt   time.Time // zero: never
	DeletedAt  time.Time // zero: not deleted
}

// PostEventKind says what happened to a post.
type PostEventKind int

// The kinds of PostEvent.
const (
	PostCreated PostEventKind = iota + 1
	PostEdited
	PostDeleted
)

// PostEvent is a record of the posts topic. All events of a post lie in one partition, that of its author, so that
// their offsets give their order.
type PostEvent struct {
	Kind PostEventKind
	// Post is whole when Kind is PostCreated. An edit has the new Text and EditedAt, and repeats ID, Author, ReplyTo
	// and Visibility, so that it says all that Redis keeps of a post; a delete has ID, Author and DeletedAt.
	Post Post
	// Saved is said of a creation that was saved in the post store before it was published: whoever finds it there and
	// does not know that it was published publishes it again, at any time. So it ranks below everything else that is said
	// of the post, wherever it lies in the log.
	Saved bool
}

// Rank orders what is said of a post, given the record's offset: what ranks higher is what the post is like. It is the
// offset, but for creations that may come again behind an edit.
func (e PostEvent) Rank(offset int64) int64 {
	if e.Saved {
		return 0
	}
	return offset
}

// SavedLate is the age, by its id, from which on the creation of a post that was saved first is late: an earlier record
// may have told of the post, and its author have changed it. It is more than the first attempt takes to get into the
// log, and less than what is left of a crash waits to be published.
const SavedLate = 20 * time.Second

// ErrStoreAway is wrapped by errors of a post store that does not answer now: another attempt may succeed.
var ErrStoreAway = errors.New("the post store does not answer")

// ErrUnsettled is wrapped by errors about a post that is found nowhere, and so young that it may be on its way: nobody
// can say yet whether there is one.
var ErrUnsettled = errors.New("it is not known yet whether there is such a post")

// ErrNode is returned by NewMinter for a node that does not fit into a PostID.
var ErrNode = errors.New("the node of a post id is from 0 to 1023")

// Minter makes post ids that rise within a process and are unique among any Nodes processes started in a row. It is
// safe for concurrent use.
type Minter struct {
	node  PostID
	now   func() time.Time
	mu    sync.Mutex
	last  int64 // milliseconds since Epoch of the last id
	count int64 // ids minted in that millisecond
}

// NewMinter makes a minter for a node, which is the offset modulo Nodes of the record that this process wrote to the
// nodes topic when it started. now is time.Now outside tests.
func NewMinter(node int64, now func() time.Time) (*Minter, error) {
	if node < 0 || node >= Nodes {
		return nil, fmt.Errorf("%w: got %d", ErrNode, node)
	}
	return &Minter{node: PostID(node), now: now, last: -1}, nil
}

// Mint returns an id above all earlier ones. A clock that stepped back is waited out, as is a millisecond whose 4,096
// ids are used up; it returns early, with the context's error, when ctx ends.
func (m *Minter) Mint(ctx context.Context) (PostID, error) {
	for {
		id, wait := m.try()
		if wait == 0 {
			return id, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, fmt.Errorf("mint a post id: the clock is %s behind the last id: %w", wait, ctx.Err())
		}
	}
}

func (m *Minter) try() (PostID, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ms := m.now().Sub(Epoch).Milliseconds()
	switch {
	case ms < m.last:
		return 0, time.Duration(m.last-ms) * time.Millisecond
	case ms > m.last:
		m.last, m.count = ms, 0
	case m.count == 1<<sequenceBits:
		return 0, time.Millisecond
	}
	id := PostID(ms)<<(nodeBits+sequenceBits) | m.node<<sequenceBits | PostID(m.count)
	m.count++
	return id, 0
}
