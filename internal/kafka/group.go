package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// DefaultMaxInFlight is the MaxInFlight of a GroupConfig that names none.
const DefaultMaxInFlight = 10_000

// GroupConfig says how a Group consumes.
type GroupConfig struct {
	// Name is the group's name in Kafka, the same that goka's group graph has.
	Name    string
	Brokers []string
	// Config is copied for every member; nil means Config(Name).
	Config *sarama.Config
	// MaxInFlight bounds, for each claim, the messages that are delivered and not settled (finished and followed up);
	// delivering pauses at the bound. Messages that only wait for a watermark cost no memory and do not count, so that
	// a watermark can never be waited for by a claim that it is waiting for. 0 means DefaultMaxInFlight.
	MaxInFlight int
	// Watermarked are the topics whose messages are released only once Release has passed them.
	Watermarked []string
	// Gathered are the topics that are read with BatchInput and of which the messages of a key that lie ready together
	// are handed over as one; each with how long a message may wait for others, 0 for not at all.
	Gathered map[string]time.Duration
	// HoldUntil is a topic, or empty. After each assignment the claims of every other topic are held back until this
	// topic's claim of the same partition number is finished up to the end that the partition had at the assignment.
	// The topic must not be compacted: its last record would have to be there.
	HoldUntil string
	// Assigned, unless nil, is called at the start of each session, before anything is processed, with the position of
	// each claim: what is committed, or wanted by a seek, and -1 where nothing is committed. It may return offsets to go
	// back to; those that are not lower than the position are ignored. They are committed before the session goes on.
	// Its context ends with the session. An error ends the processor. A position, and what is returned, may be below the
	// partition's start: see Removed.
	Assigned func(ctx context.Context, at map[TopicPartition]int64) (map[TopicPartition]int64, error)
	// Truth are the topics that are never shortened. Where records of one are missing, the processor ends with an
	// *OutOfRangeError: an operator has to decide what becomes of what they said.
	Truth []string
	// Removed, unless nil, is called after Assigned when a claim of any other topic stands below its partition's start,
	// with what was removed before the group had processed it. When it has returned nil, these claims begin at the start.
	// Its context is that of Assigned; an error ends the processor. It is called again for the same records if the
	// session ends before the new position is committed.
	Removed func(ctx context.Context, gone map[TopicPartition]Gone) error
	// Revoked, unless nil, is called once for each turn of Assigned, at the end of the session: the callbacks have
	// stopped and their deferred commits are done, and the last commit is yet to come, so Positions and Release still
	// work. It must return within a second or two.
	Revoked func()
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Group is a consumer group member for one goka processor at a time: it outlives the processors that a supervisor
// builds one after another, each through Builder. It is safe for concurrent use.
type Group struct {
	cfg GroupConfig

	mu       sync.Mutex
	member   *member  // of the processor that is running, or nil
	session  *session // that is running, from the moment its positions are known; or nil
	sessions uint64   // how many there have been
	seeks    []*seek  // not yet applied, in the order of the calls
	removed  map[string]int64
}

// NewGroup makes a Group; nothing is connected before the builder is called.
func NewGroup(cfg GroupConfig) *Group {
	if cfg.Config == nil {
		cfg.Config = Config(cfg.Name)
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = DefaultMaxInFlight
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Logger = cfg.Logger.With("group", cfg.Name)
	return &Group{cfg: cfg}
}

// Builder is for goka.WithConsumerGroupBuilder.
func (g *Group) Builder() goka.ConsumerGroupBuilder {
	return func(brokers []string, group, clientID string) (sarama.ConsumerGroup, error) {
		if group != g.cfg.Name {
			return nil, fmt.Errorf("consumer group %s was given to a processor of group %s", g.cfg.Name, group)
		}
		if len(g.cfg.Brokers) > 0 {
			brokers = g.cfg.Brokers
		}
		return newMember(g, brokers, clientID)
	}
}

// After registers, during the callback of a message, what has to be done once goka has marked it and everything that
// was delivered before it in its claim: followUp is called once, in the order of offsets within the claim, on a
// goroutine of the group, and must call done, from any goroutine. It may wait for room, but not for done: the next
// follow-up is started when it returns. The message is released after done(nil) only. done(err) ends the session, and
// the processor's Run returns err. Follow-ups of a session that has ended are dropped: their messages come again.
func (g *Group) After(topic string, partition int32, offset int64, followUp func(done func(error))) {
	if c := g.claim(TopicPartition{topic, partition}); c == nil || !c.after(offset, followUp) {
		g.cfg.Logger.Debug("follow-up dropped: its message is not in flight",
			"topic", topic, "partition", partition, "offset", offset)
	}
}

// Positions is how far each claim of a watermarked topic was finished at a moment.
type Positions struct {
	// Session is the session that the offsets belong to; 0 is none.
	Session uint64
	// Offsets are the offsets below which every message is finished.
	Offsets map[TopicPartition]int64
}

// Positions takes a snapshot of the claims of the watermarked topics.
func (g *Group) Positions() Positions {
	s := g.current()
	if s == nil {
		return Positions{}
	}
	p := Positions{Session: s.id, Offsets: map[TopicPartition]int64{}}
	for at, c := range s.claims {
		if c.watermarked {
			p.Offsets[at] = c.lag().Finished
		}
	}
	return p
}

// Release moves the watermarks to a snapshot that Positions took. Offsets never go down, and a snapshot of an older
// session is dropped.
func (g *Group) Release(p Positions) {
	s := g.current()
	if s == nil || s.id != p.Session {
		return
	}
	for at, offset := range p.Offsets {
		if c := s.claims[at]; c != nil {
			c.watermark(offset)
		}
	}
}

// Lag is how far a claim is behind.
type Lag struct {
	// Released is the offset that is, or is about to be, committed; Finished the one below which every message is
	// finished.
	Released, Finished int64
	// End is the partition's end as of the last fetch. A claim that is paused or held does not fetch.
	End int64
	// Behind is End - Released.
	Behind int64
	// InFlight is how many messages are delivered and not settled.
	InFlight int
	// Paused: InFlight has reached the bound. Held: HoldUntil holds the claim back.
	Paused, Held bool
}

// Lag tells of every claim of the session; it is empty while there is none.
func (g *Group) Lag() map[TopicPartition]Lag {
	lags := map[TopicPartition]Lag{}
	if s := g.current(); s != nil {
		for at, c := range s.claims {
			lags[at] = c.lag()
		}
	}
	return lags
}

// Assignment is the partitions of the session by topic, sorted; it is empty while there is no session.
func (g *Group) Assignment() map[string][]int32 {
	assigned := map[string][]int32{}
	if s := g.current(); s != nil {
		for at := range s.claims {
			assigned[at.Topic] = append(assigned[at.Topic], at.Partition)
		}
	}
	for _, partitions := range assigned {
		slices.Sort(partitions)
	}
	return assigned
}

// Idle says whether this member is in the group and has no partition: there are more members than partitions, and it
// waits for one to go.
func (g *Group) Idle() bool {
	s := g.current()
	return s != nil && len(s.claims) == 0
}

// Session is the number of the session that is running, 0 if none is. Numbers grow and are never used again.
func (g *Group) Session() uint64 {
	if s := g.current(); s != nil {
		return s.id
	}
	return 0
}

func (g *Group) current() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.session
}

func (g *Group) claim(at TopicPartition) *claim {
	if s := g.current(); s != nil {
		return s.claims[at]
	}
	return nil
}
