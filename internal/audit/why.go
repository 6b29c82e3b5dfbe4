package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/processors/following"
)

// Who is an account.
type Who struct {
	ID     freshet.AccountID `json:"id,omitempty"` // empty: the directory does not know the number
	Number freshet.Number    `json:"number"`
	Closed bool              `json:"closed,omitempty"`
}

func (w Who) String() string {
	if w.ID == "" {
		return fmt.Sprintf("account number %d", w.Number)
	}
	return string(w.ID)
}

// Event is a record of the log.
type Event struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	At        time.Time `json:"at"` // by the clock of the process that wrote it
	// Flushed, of posts: fan-out has committed the offset.
	Flushed bool `json:"flushed"`
}

// The ways on which posts of an author come to a reader.
const (
	Pushed = "pushed" // by the author's tree into the feed
	Merged = "merged" // the reader merges the author's outbox, because its tree has not reported the reader since the
	// feed was built, or because the author was pulled once
	Pulled = "pulled" // the author's posts are not delivered; readers merge the outbox
	Own    = "own"
)

// The states of a feed in Redis.
const (
	Cold       = "cold"
	Building   = "building"
	Warm       = "warm"
	Recovering = "recovering"
	Lost       = "lost"
)

// Entry is what is known of a post and a reader: whether the post belongs into the reader's feed, and where it is.
type Entry struct {
	Account Who       `json:"account"`
	Post    string    `json:"post"`
	Author  *Who      `json:"author,omitempty"` // nil: nobody knows the post
	Created time.Time `json:"created"`          // by the id

	// The relation of the reader to the author.
	Follows   bool      `json:"follows"`
	Since     time.Time `json:"since,omitzero"` // of the follow's event; zero: not known
	SinceAt   *Event    `json:"since_event,omitempty"`
	Applied   bool      `json:"applied"` // the author's tree has reported the reader
	TreeHolds bool      `json:"tree_holds"`
	LeftAt    *Event    `json:"left_event,omitempty"` // the last unfollow
	Mutes     bool      `json:"mutes,omitempty"`
	Blocks    bool      `json:"blocks,omitempty"`
	BlockedBy bool      `json:"blocked_by,omitempty"`

	// The post.
	Visibility freshet.Visibility `json:"visibility,omitempty"`
	Edited     time.Time          `json:"edited,omitzero"`
	Deleted    bool               `json:"deleted"`
	Event      *Event             `json:"event,omitempty"`
	DeletedBy  *Event             `json:"deleted_event,omitempty"`
	Tier       string             `json:"tier,omitempty"`

	// Where it is.
	Feed     string         `json:"feed"`            // the state of the reader's feed
	Full     bool           `json:"full,omitempty"`  // the feed has as many posts as Redis keeps of one
	Floor    freshet.PostID `json:"floor,omitempty"` // posts below come from the post store
	InFeed   bool           `json:"in_feed"`         // in Redis, log of the block included
	InOutbox bool           `json:"in_outbox"`
	InRedis  bool           `json:"body_in_redis"`
	InStore  bool           `json:"in_store"`

	// Belongs: by definition the post is in the feed. Found: a reader finds it, as things are.
	Belongs bool `json:"belongs"`
	Found   bool `json:"found"`
	// Verdict is one sentence, and Because the facts that lead to it, in sentences.
	Verdict string   `json:"verdict"`
	Because []string `json:"because"`
}

// Difference is what an audit has found in a list.
type Difference struct {
	// List is feed, outbox, tree or served; Kind missing, extra, misordered or corrupt.
	List string `json:"list"`
	Kind string `json:"kind"`
	// Account is whose list it is. Follower is set where the list is a tree, Author and Post where it has posts.
	Account  Who    `json:"account"`
	Author   *Who   `json:"author,omitempty"`
	Post     string `json:"post,omitempty"`
	Follower *Who   `json:"follower,omitempty"`
	// Reason is why it is a difference, in a sentence.
	Reason string `json:"reason"`
	// Facts are those of a post, unless there are more differences than were to be explained.
	Facts *Entry `json:"facts,omitempty"`
}

// describe says of a finding what is known of it.
func (a *Auditor) describe(ctx context.Context, f finding, explain bool) (Difference, error) {
	d := Difference{List: f.list, Kind: f.kind, Reason: reasons[[2]string{f.list, f.kind}]}
	var err error
	if d.Account, err = a.who(f.account); err != nil {
		return d, err
	}
	switch {
	case f.list == ListTree:
		follower, err := a.who(f.author)
		d.Follower = &follower
		return d, err
	case f.post == 0:
		return d, nil
	}
	d.Post = f.post.String()
	if f.kind != Misordered {
		author, err := a.who(f.author)
		if err != nil {
			return d, err
		}
		d.Author = &author
	}
	if !explain {
		return d, nil
	}
	entry, err := a.Why(ctx, f.account, f.post)
	d.Facts = &entry
	return d, err
}

func (s *Sources) who(n freshet.Number) (Who, error) {
	account, found, err := s.accounts.ByNumber(n)
	if err != nil || !found {
		return Who{Number: n}, err
	}
	return Who{account.ID, n, account.Closed}, nil
}

// Account finds an account by its id.
func (s *Sources) Account(id freshet.AccountID) (freshet.Account, bool, error) {
	return s.accounts.ByID(id)
}

// Why says why a post is in a reader's feed, or is not.
func (s *Sources) Why(ctx context.Context, reader freshet.Number, post freshet.PostID) (Entry, error) {
	e := Entry{Post: post.String(), Created: post.Time()}
	var err error
	if e.Account, err = s.who(reader); err != nil {
		return e, err
	}
	facts, err := s.facts(ctx, []freshet.PostID{post})
	if err != nil {
		return e, err
	}
	f := facts[post]
	e.InRedis, e.InStore, e.Deleted = f.body, f.stored, f.deleted
	row, err := s.rows.Row(reader)
	if err != nil {
		return e, err
	}
	if f.body || f.stored {
		if err := s.whoseIs(ctx, &e, f.post, row); err != nil {
			return e, err
		}
	}
	if err := s.whereIs(ctx, &e, f.post, row); err != nil {
		return e, err
	}
	e.say()
	return e, nil
}

// whoseIs fills in the author, the relation and the events.
func (s *Sources) whoseIs(ctx context.Context, e *Entry, post freshet.Post, row *freshet.Following) error {
	author, err := s.who(post.Author)
	if err != nil {
		return err
	}
	e.Author, e.Visibility, e.Edited = &author, post.Visibility, post.EditedAt
	r, err := s.relationship(e.Account.Number, post.Author)
	if err != nil {
		return err
	}
	e.Follows, e.Mutes, e.Blocks, e.BlockedBy = r.Follows, r.Mutes, r.Blocks, r.BlockedBy
	e.Belongs = !e.Deleted && freshet.InFeed(post, r)
	if e.TreeHolds, err = s.trees.Holds(post.Author, e.Account.Number); err != nil {
		return err
	}
	if relation, ok := row.Relation(post.Author); ok {
		e.Applied = relation.Applied
		if e.SinceAt, err = s.followEvent(ctx, e.Account.Number, following.OffsetOf(relation.Version)); err != nil {
			return err
		}
		if e.SinceAt != nil && relation.Follows {
			e.Since = e.SinceAt.At
		}
	}
	ended, once, err := s.left.last(e.Account.Number, post.Author)
	if err != nil {
		return err
	}
	if once {
		e.LeftAt = &Event{
			Topic: s.cfg.Names.Topic(freshet.Follows), Partition: s.partitionOf(e.Account.Number), Offset: ended.offset,
			At: ended.at.UTC(),
		}
	}
	return s.events(ctx, e, post)
}

func (s *Sources) partitionOf(n freshet.Number) int32 {
	return freshet.PartitionOf(n.Key(), int32(len(s.size)))
}

// followEvent is the event at an offset of the follower's partition; nil if it is not there any more.
func (s *Sources) followEvent(ctx context.Context, follower freshet.Number, offset int64) (*Event, error) {
	topic, partition := s.cfg.Names.Topic(freshet.Follows), s.partitionOf(follower)
	r, err := s.record(ctx, topic, partition, offset)
	if err != nil || r.Offset != offset {
		return nil, err
	}
	return &Event{Topic: topic, Partition: partition, Offset: offset, At: r.Time.UTC()}, nil
}

// events looks for the events of a post in the log: near the time of its id, and, of its delete, anywhere behind it.
func (s *Sources) events(ctx context.Context, e *Entry, post freshet.Post) error {
	topic, partition := s.cfg.Names.Topic(freshet.Posts), s.partitionOf(post.Author)
	since, err := s.lookup.Since(ctx, topic, post.ID.Time().Add(-clockSkew))
	if err != nil {
		return err
	}
	ends, err := s.ends(ctx, topic)
	if err != nil {
		return err
	}
	committed, err := s.committed(ctx, topic)
	if err != nil {
		return err
	}
	to := ends
	if !e.Deleted {
		if to, err = s.lookup.Since(ctx, topic, post.ID.Time().Add(emitters.ProduceTimeout+clockSkew)); err != nil {
			return err
		}
	}
	one := func(of map[int32]int64) map[int32]int64 { return map[int32]int64{partition: of[partition]} }
	return s.span(ctx, topic, one(since), one(to), func(r kafka.Fetched) {
		var m events.PostEvent
		if proto.Unmarshal(r.Value, &m) != nil || freshet.PostID(m.GetId()) != post.ID {
			return
		}
		at := &Event{
			Topic: topic, Partition: partition, Offset: r.Offset, At: r.Time.UTC(), Flushed: r.Offset < committed[partition],
		}
		switch m.GetKind() {
		case events.PostEvent_CREATED:
			e.Event = at
		case events.PostEvent_DELETED:
			e.DeletedBy = at
		default:
		}
	})
}

// whereIs fills in where the post is.
func (s *Sources) whereIs(ctx context.Context, e *Entry, post freshet.Post, row *freshet.Following) error {
	id, err := freshet.ParsePostID(e.Post)
	if err != nil {
		return err
	}
	reader := e.Account.Number
	read := &feeds.ReadBlock{Block: reader.Block(), Slot: int(reader.Slot())}
	outbox := &feeds.ReadOutbox{Author: post.Author}
	if err := s.cfg.Conn.Do(ctx, read, outbox); err != nil {
		return fmt.Errorf("read the feed of account %d: %w", reader, err)
	}
	ids, loaded, err := outbox.Posts(s.cfg.Layout.FeedLength)
	if err == nil && e.Author != nil {
		e.InOutbox = contains(ids, id)
	}
	given := e.InOutbox || !loaded && e.InStore // what an outbox lacks that was not loaded yet comes with the load
	pulled, err := s.tiers.Pulled()
	if err != nil {
		return err
	}
	feed, logged, err := read.Feed(reader.Slot())
	switch {
	case read.State.Token == "":
		e.Feed = Lost
	case read.State.Recovering:
		e.Feed = Recovering
	case errors.Is(err, feeds.ErrNoFeed), errors.Is(err, feeds.ErrCorrupt): // a corrupt one is made cold when it is read
		e.Feed = Cold
	case err != nil:
		return err
	case feed.Building:
		e.Feed = Building
	default:
		e.Feed = Warm
	}
	e.Floor = s.cfg.Layout.Floor(feed.IDs)
	e.Full = e.Floor > 0
	e.InFeed = contains(feed.IDs, id) || contains(logged, id)
	if e.Author == nil {
		return nil
	}
	relation, _ := row.Relation(post.Author)
	switch a := (account{number: reader, row: row, feed: feed, pulled: pulled}); {
	case post.Author == reader:
		e.Tier = Own
	case s.tiers.Now(post.Author):
		e.Tier = Pulled
	case a.delivers(relation) && e.Feed == Warm:
		e.Tier = Pushed
	default:
		e.Tier = Merged
	}
	below := e.Full && id < e.Floor
	e.Found = e.Belongs && (below && e.InStore || !below && (e.InFeed || e.Tier != Pushed && given))
	return nil
}

func contains(ids []freshet.PostID, id freshet.PostID) bool {
	for _, has := range ids {
		if has == id {
			return true
		}
	}
	return false
}

// IsMissing says that the post belongs into the feed, is not found there, and is not on its way.
func (e *Entry) IsMissing() bool {
	onItsWay := e.Event != nil && !e.Event.Flushed || e.Feed == Recovering || e.Feed == Lost || e.Feed == Building
	return e.Belongs && !e.Found && !onItsWay
}
