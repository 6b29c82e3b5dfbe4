package feeds

import (
	"context"
	"errors"

	"freshet"
)

// Conn runs operations on Redis. Each operation touches one zone and is atomic, but for the plain reads that say
// otherwise. Do runs the operations of one Redis node in the order given and those of different nodes in any order;
// when it returns an error, any of them may have run. It never repeats an operation by itself: a repeated one could
// hide that Redis lost something in between.
//
// There are two: Redis, and the model of Redis that the simulator breaks on purpose; one suite of tests holds them
// together.
type Conn interface {
	Do(ctx context.Context, ops ...Op) error
}

// Op is one of the operations below. The first group of fields of each is what is asked, the second the answer.
type Op interface {
	// InZone is the zone that the operation touches.
	InZone(l Layout) Zone
}

// ErrAway is wrapped by the errors of Do when Redis did not answer.
var ErrAway = errors.New("redis does not answer")

var (
	// ErrBusy is wrapped by the error for a block that changed whenever it was about to be changed.
	ErrBusy = errors.New("the block changes all the time")
	// ErrLostZone is wrapped by the error for what cannot be done in a zone that Redis has lost and nobody has recovered.
	ErrLostZone = errors.New("redis has lost the zone")
)

// ZoneState is a zone's token, empty when Redis has lost the zone, and whether its recovery is still under way.
type ZoneState struct {
	Token      string
	Recovering bool
}

// Well says that nothing the zone should hold is known to be missing.
func (s ZoneState) Well() bool { return s.Token != "" && !s.Recovering }

// ReadZone reads a zone's state.
type ReadZone struct {
	Zone Zone

	State ZoneState
}

// Open moves a writer's counter in a zone by one, and only then reads the zone: whatever is lost after this, the
// counter shows. A counter that has already gone back, below Known under Known's token, is left as it is: were it
// moved, looking often enough would hide the loss.
type Open struct {
	Zone   Zone
	Writer string
	Known  Known

	Token      string // empty: lost, or never there
	Counter    int64
	Marks      map[Input]int64
	Recovering map[Input]int64
}

// Advance moves a writer's counter from Counter to Counter+1 if the zone's token is Token and the counter there is
// Counter, and then sets Marks and clears what they have passed from the list that the zone waits for. Otherwise it
// does nothing: Redis has lost something. Marks may be nil.
type Advance struct {
	Zone    Zone
	Writer  string
	Token   string
	Counter int64
	Marks   map[Input]int64

	OK bool
}

// Recover replaces the token Old by New, makes the zone wait for Ends (or later ones that it already waits for), sets
// the marks, and starts the writer's counter at 1. It does nothing when the token is not Old, or the counter is not
// where Open left it: a zone that is empty can have been lost once more, and the ends were asked before that.
type Recover struct {
	Zone     Zone
	Writer   string
	Old, New string
	Counter  int64
	Ends     map[Input]int64
	Marks    map[Input]int64

	OK bool
}

// PutBody writes a post's body, if the zone's token is Token, the post is not deleted, and no body of a later event is
// there. Bodies expire after BodyLife.
type PutBody struct {
	Post   freshet.PostID
	Token  string
	Offset int64 // of the event in posts, or rather its rank; see freshet.PostEvent
	Body   []byte
	// Replace writes only where an earlier body is: an edit that the post store has must not leave the old text in Redis,
	// and must not bring back a post whose tombstone has expired.
	Replace bool

	OK bool
}

// PutTombstone marks a post as deleted, for BodyLife. Only for deletes that are in the log.
type PutTombstone struct {
	Post freshet.PostID
}

// ReadBody reads a body, and the state of its zone. The state is read with the body or after it. Those of a zone that
// are asked for together share Waits: nobody changes it.
type ReadBody struct {
	Post freshet.PostID

	Body    []byte // nil: none
	Offset  int64
	Deleted bool
	State   ZoneState
	Waits   map[Input]int64 // what the zone waits for while it is being recovered
}

// AppendOutbox appends post ids, 8 bytes each, to an author's outbox.
type AppendOutbox struct {
	Author freshet.Number
	IDs    []byte

	Length int64 // of the outbox, in bytes
}

// ReadOutbox reads an author's outbox, and the state of its zone after it.
type ReadOutbox struct {
	Author freshet.Number

	Value []byte
	State ZoneState
}

// RewriteOutbox replaces the value Old, as it was read, by New, keeping what was appended since, if the zone's token is
// Token and Old still stands at the beginning. An empty Old stands at the beginning of nothing but an empty value: what
// is there now may have been rewritten, not only appended.
type RewriteOutbox struct {
	Author   freshet.Number
	Token    string
	Old, New []byte

	OK bool
}

// DropOutbox removes an outbox that cannot be read, and with it the zone's token and watermarks, if the token is Token.
// No counter shows that the outbox is lost, and the post store may lack what it held. So the zone is made to look like
// one that Redis has lost, and recovery brings the posts again.
type DropOutbox struct {
	Author freshet.Number
	Token  string

	OK bool
}

// AppendLog appends entries to a block's log.
type AppendLog struct {
	Block   uint64
	Entries []byte

	Length int64 // of the log, in bytes
}

// ReadBlock reads a block's log, then its feeds, then the state of its zone: an entry that compaction moves in between
// is seen twice, never missed. Only one slot's feed is read when Slot is not AllSlots.
type ReadBlock struct {
	Block uint64
	Slot  int

	Log        []byte
	Generation string // empty: the block has no feeds
	Feeds      map[byte][]byte
	State      ZoneState
}

// ErrNoFeed is returned by ReadBlock.Feed for a cold account.
var ErrNoFeed = errors.New("no feed is kept for the account")

// Feed decodes a slot's feed, and the ids that the log holds for it, in the order of the log. Errors are ErrNoFeed or
// wrap ErrCorrupt.
func (o *ReadBlock) Feed(slot byte) (Feed, []freshet.PostID, error) {
	value, warm := o.Feeds[slot]
	if !warm {
		return Feed{}, nil, ErrNoFeed
	}
	feed, err := DecodeFeed(value)
	if err != nil {
		return Feed{}, nil, err
	}
	var logged []freshet.PostID
	err = decodeLog(o.Log, func(s byte, id freshet.PostID) {
		if s == slot {
			logged = append(logged, id)
		}
	})
	return feed, logged, err
}

// AllSlots asks ReadBlock for every slot.
const AllSlots = -1

// SwapFeed sets a slot's value, or makes the slot cold when Value is nil, and draws the next generation, if the zone's
// token is Token and the block's generation is Generation.
type SwapFeed struct {
	Block      uint64
	Slot       byte
	Token      string
	Generation string
	Next       string
	Value      []byte

	OK bool
}

// Compact puts Feeds in the place of a block's feeds, unless it is nil, draws the next generation with it, and cuts
// Log, as it was read, from the beginning of the log, keeping what was appended since; if the zone's token is Token,
// the generation is Generation, and Log still stands at the beginning. Next is never the same twice, whether it is
// drawn or not.
type Compact struct {
	Block      uint64
	Token      string
	Generation string
	Next       string
	Log        []byte
	Feeds      map[byte][]byte

	OK bool
}

// InZone implements Op.
func (o *ReadZone) InZone(Layout) Zone { return o.Zone }

// InZone implements Op.
func (o *Open) InZone(Layout) Zone { return o.Zone }

// InZone implements Op.
func (o *Advance) InZone(Layout) Zone { return o.Zone }

// InZone implements Op.
func (o *Recover) InZone(Layout) Zone { return o.Zone }

// InZone implements Op.
func (o *PutBody) InZone(l Layout) Zone { return l.OfPost(o.Post) }

// InZone implements Op.
func (o *PutTombstone) InZone(l Layout) Zone { return l.OfPost(o.Post) }

// InZone implements Op.
func (o *ReadBody) InZone(l Layout) Zone { return l.OfPost(o.Post) }

// InZone implements Op.
func (o *AppendOutbox) InZone(l Layout) Zone { return l.OfAuthor(o.Author) }

// InZone implements Op.
func (o *ReadOutbox) InZone(l Layout) Zone { return l.OfAuthor(o.Author) }

// InZone implements Op.
func (o *RewriteOutbox) InZone(l Layout) Zone { return l.OfAuthor(o.Author) }

// InZone implements Op.
func (o *DropOutbox) InZone(l Layout) Zone { return l.OfAuthor(o.Author) }

// InZone implements Op.
func (o *AppendLog) InZone(l Layout) Zone { return l.OfBlock(o.Block) }

// InZone implements Op.
func (o *ReadBlock) InZone(l Layout) Zone { return l.OfBlock(o.Block) }

// InZone implements Op.
func (o *SwapFeed) InZone(l Layout) Zone { return l.OfBlock(o.Block) }

// InZone implements Op.
func (o *Compact) InZone(l Layout) Zone { return l.OfBlock(o.Block) }
