package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// acknowledgeGrace is how long the end of a session waits for follow-ups that have been started: what is acknowledged
// in time need not be repeated.
const acknowledgeGrace = time.Second

// session is the time between two rebalances: the claims, and what must not outlive them.
type session struct {
	id     uint64
	member *member
	real   sarama.ConsumerGroupSession
	ctx    context.Context // ends with sarama's session
	claims map[TopicPartition]*claim

	mu      sync.Mutex
	closed  bool
	workers sync.WaitGroup // follow-up loops
	open    int            // follow-ups started and not acknowledged
	quiet   chan struct{}  // closed when open comes down to 0, nil if nobody waits
}

func newSession(id uint64, m *member, sess sarama.ConsumerGroupSession, at map[TopicPartition]place) *session {
	cfg := m.group.cfg
	s := &session{id: id, member: m, real: sess, ctx: sess.Context(), claims: map[TopicPartition]*claim{}}
	for tp, p := range at {
		s.claims[tp] = newClaim(s, tp, p, slices.Contains(cfg.Watermarked, tp.Topic))
	}
	if cfg.HoldUntil == "" {
		return s
	}
	for tp, c := range s.claims {
		first := s.claims[TopicPartition{cfg.HoldUntil, tp.Partition}]
		if first == nil || tp.Topic == cfg.HoldUntil {
			continue
		}
		if first.opens == nil {
			first.opens, first.openAt = make(chan struct{}), first.end
			first.openGate()
		}
		c.gate = first.opens
	}
	return s
}

// owns is a *NotOwnedError if the session lacks a partition.
func (s *session) owns(offsets map[TopicPartition]int64) error {
	return notOwned(s.member.group.cfg.Name, offsets, func(tp TopicPartition) bool { return s.claims[tp] != nil })
}

// spawn starts a goroutine that ends when the session's context does; false if the session is over.
func (s *session) spawn(loop func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.workers.Go(loop)
	return true
}

func (s *session) started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
}

func (s *session) acknowledged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.open == 0 && s.quiet != nil {
		close(s.quiet)
		s.quiet = nil
	}
}

// fail ends the session and the processor's Run because a follow-up has failed.
func (s *session) fail(at TopicPartition, offset int64, err error) {
	if s.ctx.Err() == nil {
		s.member.endSession(fmt.Errorf("follow-up of %s/%d at offset %d: %w", at.Topic, at.Partition, offset, err))
	}
}

// drain waits, for a moment, until the follow-ups that were started are acknowledged and their goroutines are gone.
func (s *session) drain() {
	timer := time.NewTimer(acknowledgeGrace)
	defer timer.Stop()

	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		s.workers.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-timer.C:
		s.member.group.cfg.Logger.Warn("a follow-up does not return: left behind", "session", s.id)
		return
	}

	s.mu.Lock()
	open := s.open
	if open > 0 {
		s.quiet = make(chan struct{})
	}
	quiet := s.quiet
	s.mu.Unlock()
	if open == 0 {
		return
	}
	select {
	case <-quiet:
	case <-timer.C:
		s.member.group.cfg.Logger.Info("follow-ups not acknowledged in time will be repeated", "session", s.id)
	}
}

// marks is the session as goka sees it: its marks go to the claims.
type marks struct {
	sarama.ConsumerGroupSession
	s *session
}

func (m marks) MarkMessage(msg *sarama.ConsumerMessage, _ string) {
	m.MarkOffset(msg.Topic, msg.Partition, msg.Offset+1, "")
}

// MarkOffset takes goka's mark, which speaks of the one message below offset.
func (m marks) MarkOffset(topic string, partition int32, offset int64, _ string) {
	if c := m.s.claims[TopicPartition{topic, partition}]; c != nil {
		c.finish(offset - 1)
	}
}

// ResetOffset does nothing: offsets go down at the start of a session only.
func (m marks) ResetOffset(string, int32, int64, string) {}

// delivered is a claim as goka sees it.
type delivered struct {
	sarama.ConsumerGroupClaim
	messages <-chan *sarama.ConsumerMessage
}

func (d delivered) Messages() <-chan *sarama.ConsumerMessage { return d.messages }

func notOwned(group string, offsets map[TopicPartition]int64, owned func(TopicPartition) bool) error {
	var missing []TopicPartition
	for tp := range offsets {
		if !owned(tp) {
			missing = append(missing, tp)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.SortFunc(missing, compareTopicPartition)
	return &NotOwnedError{Group: group, Partitions: missing}
}
