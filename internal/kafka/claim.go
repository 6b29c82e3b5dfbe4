package kafka

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// claim is one topic's partition during one session: its tracker, and what waits for the tracker to move.
type claim struct {
	at          TopicPartition
	s           *session
	watermarked bool
	limit       int // messages in flight
	gathers     bool
	linger      time.Duration // how long a window of a claim that gathers waits for more
	end         int64

	gate      chan struct{} // closed when the claim may deliver; nil if it always may
	openAt    int64         // where Finished has to come for opens to be closed
	opens     chan struct{} // the gate that this claim opens for others, or nil
	openOnce  sync.Once
	room, due chan struct{} // capacity 1: there may be room again; a follow-up may be due

	mu        sync.Mutex
	tracker   *Tracker
	forwarded int64 // what sarama has been told
	real      sarama.ConsumerGroupClaim
	followUps []followUp // by offset
	working   bool       // followUpLoop runs
	waiting   bool       // for room
	held      bool
	gathered  map[int64][]int64 // by the first one's offset: the others that go by it and are not finished
}

type followUp struct {
	offset int64
	run    func(done func(error))
}

func newClaim(s *session, at TopicPartition, p place, watermarked bool) *claim {
	cfg := s.member.group.cfg
	linger, gathers := cfg.Gathered[at.Topic]
	return &claim{
		at: at, s: s, watermarked: watermarked, limit: cfg.MaxInFlight, end: p.end,
		gathers: gathers, linger: linger, gathered: map[int64][]int64{},
		room:      make(chan struct{}, 1),
		due:       make(chan struct{}, 1),
		tracker:   NewTracker(p.at, watermarked),
		forwarded: p.at,
	}
}

// finish is goka's mark of one message.
func (c *claim) finish(offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tracker.Finish(offset) {
		return
	}
	if others, ok := c.gathered[offset]; ok {
		delete(c.gathered, offset)
		for _, other := range others {
			c.tracker.Finish(other)
		}
	}
	c.moved()
}

func (c *claim) followedUp(offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tracker.FollowedUp(offset) {
		c.moved()
	}
}

func (c *claim) watermark(upTo int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tracker.Watermark(upTo)
	c.moved()
}

// moved passes on what a step of the tracker has set free. It holds c.mu, so what sarama is told never goes back.
func (c *claim) moved() {
	if released := c.tracker.Released(); released > c.forwarded {
		c.forwarded = released
		c.s.real.MarkOffset(c.at.Topic, c.at.Partition, released, "")
	}
	if c.waiting && c.tracker.InFlight() < c.limit {
		poke(c.room)
	}
	if len(c.followUps) > 0 && c.followUps[0].offset < c.tracker.Finished() {
		poke(c.due)
	}
	c.openGate()
}

// openGate lets the claims go on that waited for this one.
func (c *claim) openGate() {
	if c.opens != nil && c.tracker.Finished() >= c.openAt {
		c.openOnce.Do(func() { close(c.opens) })
	}
}

// handover is how many messages lie between a claim and goka: fewer switches between their goroutines.
const handover = 64

// deliver moves messages from sarama to goka until there are no more or ctx ends.
func (c *claim) deliver(ctx context.Context, from <-chan *sarama.ConsumerMessage, to chan<- *sarama.ConsumerMessage) {
	defer close(to)
	if !c.waitForGate(ctx) {
		return
	}
	if c.gathers {
		c.gather(ctx, from, to)
		return
	}
	for {
		select {
		case msg, ok := <-from:
			if !ok || !c.track(ctx, msg.Offset) {
				return
			}
			select {
			case to <- msg:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// waitForGate pauses the claim at sarama while it is held, so that it does not stand in the way of the others of its
// broker.
func (c *claim) waitForGate(ctx context.Context) bool {
	if c.gate == nil {
		return true
	}
	select {
	case <-c.gate:
		return true
	default:
	}
	partition := map[string][]int32{c.at.Topic: {c.at.Partition}}
	c.setHeld(true)
	c.s.member.inner.Pause(partition)
	defer func() {
		c.s.member.inner.Resume(partition)
		c.setHeld(false)
	}()
	select {
	case <-c.gate:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *claim) setHeld(held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
}

// track waits for room and notes the message as delivered; false if ctx ended first.
func (c *claim) track(ctx context.Context, offset int64) bool {
	for !c.tracked(offset) {
		select {
		case <-c.room:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// tracked notes the message as delivered; false if there is no room.
func (c *claim) tracked(offset int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = c.tracker.InFlight() >= c.limit
	if !c.waiting {
		c.tracker.Deliver(offset)
	}
	return !c.waiting
}

// after registers a follow-up; false if the message is not in flight.
func (c *claim) after(offset int64, run func(done func(error))) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tracker.Follow(offset) {
		return false
	}
	i := len(c.followUps) // callbacks run in order, so it is nearly always the end
	for i > 0 && c.followUps[i-1].offset > offset {
		i--
	}
	c.followUps = slices.Insert(c.followUps, i, followUp{offset, run})
	if !c.working {
		c.working = c.s.spawn(c.followUpLoop)
	}
	return true
}

// followUpLoop starts the follow-ups that are due, until the session ends.
func (c *claim) followUpLoop() {
	for {
		next, ok := c.nextDue()
		if !ok {
			select {
			case <-c.due:
				continue
			case <-c.s.ctx.Done():
				return
			}
		}
		if c.s.ctx.Err() != nil {
			return
		}
		c.s.started()
		var once sync.Once
		next.run(func(err error) {
			once.Do(func() {
				defer c.s.acknowledged()
				if err != nil {
					c.s.fail(c.at, next.offset, err)
					return
				}
				c.followedUp(next.offset)
			})
		})
	}
}

func (c *claim) nextDue() (followUp, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.followUps) == 0 || c.followUps[0].offset >= c.tracker.Finished() {
		return followUp{}, false
	}
	next := c.followUps[0]
	c.followUps[0] = followUp{}
	c.followUps = c.followUps[1:]
	return next, true
}

func (c *claim) begin(from sarama.ConsumerGroupClaim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.real = from
}

func (c *claim) lag() Lag {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := Lag{
		Released: c.tracker.Released(),
		Finished: c.tracker.Finished(),
		End:      c.end,
		InFlight: c.tracker.InFlight(),
		Paused:   c.waiting,
		Held:     c.held,
	}
	if c.real != nil {
		l.End = max(l.End, c.real.HighWaterMarkOffset())
	}
	l.Behind = l.End - l.Released
	return l
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
