package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// handler is the sarama.ConsumerGroupHandler of one session, around goka's.
type handler struct {
	member *member
	goka   sarama.ConsumerGroupHandler

	refused  error // why the processor has to end, set by Setup
	begun    bool  // the session's positions are settled and goka's Setup was called
	assigned bool  // Assigned had its turn, so Revoked has to
	session  *session

	mu    sync.Mutex
	state handlerState
}

type handlerState int

const (
	joining handlerState = iota
	joined               // Setup was called
	left                 // nobody waits any more: Setup must do nothing
)

// refuse makes a Setup that is yet to come fail; false if it has come already.
func (h *handler) refuse() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == joined {
		return false
	}
	h.state = left
	return true
}

// Setup implements sarama.ConsumerGroupHandler.
func (h *handler) Setup(sess sarama.ConsumerGroupSession) error {
	h.mu.Lock()
	if h.state == left {
		h.mu.Unlock()
		return context.Canceled
	}
	h.state = joined
	h.mu.Unlock()

	if err := h.prepare(sess); err != nil {
		return err
	}
	h.begun = true
	if err := h.goka.Setup(marks{sess, h.session}); err != nil {
		if sess.Context().Err() != nil { // taken away while tables were recovered
			orDefaultLogger(h.member.group.cfg.Logger).Debug("the session ended while tables were recovered", "error", err)
			return context.Canceled
		}
		return err
	}
	return nil
}

// prepare finds where every claim begins, and commits that where it is not what is committed, before anything is
// processed: from here on a crash changes nothing.
func (h *handler) prepare(sess sarama.ConsumerGroupSession) error {
	g := h.member.group
	ctx, cancel := context.WithTimeout(sess.Context(), prepareTimeout)
	defer cancel()
	at, err := places(ctx, h.member.adm, g.cfg.Name, sess.Claims())
	if err != nil {
		return err
	}
	applied, err := h.applySeeks(g.takeSeeks(), at)
	if err == nil {
		err = h.inRange(at)
	}
	if err == nil {
		err = h.assign(sess, at)
	}
	var gone map[TopicPartition]Gone
	if err == nil {
		gone, err = h.skipRemoved(sess.Context(), at)
	}
	if err != nil {
		h.refused = err
		g.giveBack(applied, err)
		return err
	}
	// Assigned may have taken its time.
	ctx, cancel = context.WithTimeout(sess.Context(), prepareTimeout)
	defer cancel()
	if err := commitMoved(ctx, h.member.adm, g.cfg.Name, sess, at); err != nil {
		g.giveBack(applied, err)
		return err
	}
	g.countRemoved(gone)
	for _, k := range applied {
		if k.done != nil {
			k.done <- nil
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions++
	h.session = newSession(g.sessions, h.member, sess, at)
	g.session = h.session
	if len(at) == 0 {
		g.cfg.Logger.Info("this process has no partition: the group has more members than partitions; it waits as a spare")
	}
	return nil
}

// assign asks Assigned for offsets to go back to.
func (h *handler) assign(sess sarama.ConsumerGroupSession, at map[TopicPartition]place) error {
	cfg := h.member.group.cfg
	h.assigned = true
	if cfg.Assigned == nil {
		return nil
	}
	positions := make(map[TopicPartition]int64, len(at))
	for tp, p := range at {
		positions[tp] = p.at
		if p.none {
			positions[tp] = -1
		}
	}
	back, err := cfg.Assigned(sess.Context(), positions)
	if err != nil {
		return fmt.Errorf("group %s: assigned %v: %w", cfg.Name, sess.Claims(), err)
	}
	for tp, offset := range back {
		if p, ok := at[tp]; ok && offset < p.at {
			p.at, p.moved = offset, true
			at[tp] = p
		}
	}
	return h.inRange(at)
}

// applySeeks moves the places in the order of the calls. It returns the seeks that were applied; those that nobody
// waits for stay so whatever happens to the session.
func (h *handler) applySeeks(taken []*seek, at map[TopicPartition]place) ([]*seek, error) {
	cfg := h.member.group.cfg
	var applied []*seek
	for i, k := range taken {
		if k.done != nil {
			if err := h.allows(k, at); err != nil {
				k.done <- err
				continue
			}
		}
		for tp, offset := range k.offsets {
			p, owned := at[tp]
			switch {
			case !owned:
				cfg.Logger.Warn("seek of a partition that this member does not own is left out",
					"topic", tp.Topic, "partition", tp.Partition, "offset", offset)
				continue
			case !h.allowed(tp, offset, p): // and the later ones go to the next session, this one is dropped
				return append(applied, taken[i+1:]...), h.outOfRange(tp, offset, p)
			}
			p.at, p.moved, p.none = offset, true, false
			at[tp] = p
		}
		applied = append(applied, k)
	}
	return applied, nil
}

// allows says why a seek that somebody waits for is not possible.
func (h *handler) allows(k *seek, at map[TopicPartition]place) error {
	owned := func(tp TopicPartition) bool { _, ok := at[tp]; return ok }
	if err := notOwned(h.member.group.cfg.Name, k.offsets, owned); err != nil {
		return err
	}
	for tp, offset := range k.offsets {
		if p := at[tp]; !p.holds(offset) {
			return h.outOfRange(tp, offset, p)
		}
	}
	return nil
}

func (h *handler) inRange(at map[TopicPartition]place) error {
	for tp, p := range at {
		if !h.allowed(tp, p.at, p) {
			return h.outOfRange(tp, p.at, p)
		}
	}
	return nil
}

// allowed says whether a claim may stand at an offset. Below the start, skipRemoved moves it.
func (h *handler) allowed(tp TopicPartition, offset int64, p place) bool {
	return p.holds(offset) || offset < p.start && !slices.Contains(h.member.group.cfg.Truth, tp.Topic)
}

func (h *handler) outOfRange(tp TopicPartition, offset int64, p place) error {
	return &OutOfRangeError{
		Group: h.member.group.cfg.Name, TopicPartition: tp, Offset: offset, Start: p.start, End: p.end,
	}
}

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (h *handler) ConsumeClaim(sess sarama.ConsumerGroupSession, from sarama.ConsumerGroupClaim) error {
	c := h.session.claims[TopicPartition{from.Topic(), from.Partition()}]
	c.begin(from)
	ctx, cancel := context.WithCancel(h.session.ctx)
	messages := make(chan *sarama.ConsumerMessage, handover)
	var delivering sync.WaitGroup
	delivering.Go(func() { c.deliver(ctx, from.Messages(), messages) })
	err := h.goka.ConsumeClaim(marks{sess, h.session}, delivered{from, messages})
	cancel()
	delivering.Wait()
	return err
}

// Cleanup implements sarama.ConsumerGroupHandler. sarama commits for the last time after it, and calls it after a Setup
// that failed, too.
func (h *handler) Cleanup(sess sarama.ConsumerGroupSession) error {
	var err error
	if h.begun {
		// Callbacks end here, and their deferred commits are waited for.
		err = h.goka.Cleanup(marks{sess, h.session})
		began := time.Now()
		h.session.drain()
		h.member.group.cfg.Logger.Debug("group session drained", "session", h.session.id, "took", time.Since(began))
	}
	h.over()
	return err
}

// over ends the session for the rest of the program, once.
func (h *handler) over() {
	g := h.member.group
	if h.assigned {
		h.assigned = false
		if g.cfg.Revoked != nil {
			g.cfg.Revoked()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session == h.session {
		g.session = nil
	}
}
