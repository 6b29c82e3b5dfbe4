package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/hashicorp/go-multierror"
	"github.com/twmb/franz-go/pkg/kadm"
)

const (
	// joinPatience is how long a member goes on trying to get into the group. It outlasts an election; afterwards the
	// supervisor goes on, with a new processor.
	joinPatience = 40 * time.Second
	// joinGrace is how long a stop waits for the coordinator's answer to a join, which can be held back for as long as
	// another member takes to hand over.
	joinGrace = 3 * time.Second
	// shortSession: a session that ends by itself sooner is followed by a pause, lest a defect makes a busy loop.
	shortSession         = time.Second
	minRejoin, maxRejoin = 50 * time.Millisecond, 2 * time.Second
)

// member is the sarama.ConsumerGroup that goka sees: it stays in the group between sessions, for which goka itself
// would sleep 5 s.
type member struct {
	group  *Group
	inner  sarama.ConsumerGroup
	client sarama.Client
	adm    *kadm.Client

	mu    sync.Mutex
	end   context.CancelCauseFunc // of the Consume that is running
	stuck <-chan error            // tells when a Consume that was left behind returns, nil if there is none
}

func newMember(g *Group, brokers []string, clientID string) (*member, error) {
	cfg := *g.cfg.Config
	cfg.ClientID = clientID
	client, err := sarama.NewClient(brokers, &cfg)
	if err != nil {
		return nil, fmt.Errorf("group %s: connect to %v: %w", g.cfg.Name, brokers, err)
	}
	inner, err := sarama.NewConsumerGroupFromClient(g.cfg.Name, client)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("group %s: %w", g.cfg.Name, err), client.Close())
	}
	adm, err := newAdmin(brokers, optionsOf(&cfg))
	if err != nil {
		return nil, errors.Join(err, inner.Close(), client.Close())
	}
	m := &member{group: g, inner: inner, client: client, adm: adm}
	g.mu.Lock()
	g.member = m
	g.mu.Unlock()
	return m, nil
}

// Consume implements sarama.ConsumerGroup. Unlike sarama's it goes on with the next session, and returns when ctx ends
// (nil), or when the processor has to end: its error, or that of a follow-up, of Assigned, of an offset out of range,
// or of a group that cannot be joined.
func (m *member) Consume(ctx context.Context, topics []string, inner sarama.ConsumerGroupHandler) error {
	log := m.group.cfg.Logger
	lastGood := time.Now()
	pause := minRejoin
	for {
		began := time.Now()
		h := &handler{member: m, goka: inner}
		cause, err := m.consumeOnce(ctx, topics, h)
		h.over()

		switch {
		case errors.Is(err, sarama.ErrClosedConsumerGroup):
			return err
		case ctx.Err() != nil:
			if onlyCanceled(err) {
				return nil
			}
			return err
		case cause != nil && !errors.Is(cause, errReseat): // a follow-up has failed
			return cause
		case h.refused != nil:
			return h.refused
		case !h.begun && !errors.Is(cause, errReseat) && time.Since(lastGood) > joinPatience:
			return fmt.Errorf("group %s: not joined after %s: %w", m.group.cfg.Name, joinPatience, err)
		case !h.begun, errors.Is(cause, errReseat), onlyCanceled(err):
			if err != nil && !onlyCanceled(err) {
				log.Warn("group session ended, going on", "error", err)
			}
		default:
			return err
		}
		if h.begun {
			lastGood = time.Now()
		}
		if errors.Is(cause, errReseat) || h.begun && time.Since(began) > shortSession {
			pause = minRejoin
			continue
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, maxRejoin)
		case <-ctx.Done():
		}
	}
}

// consumeOnce is one session, with the reason why it was ended from here, if it was.
func (m *member) consumeOnce(parent context.Context, topics []string, h *handler) (cause, err error) {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	m.mu.Lock()
	m.end = end
	m.mu.Unlock()

	returned := make(chan error, 1)
	go func() { returned <- m.inner.Consume(ctx, topics, h) }()
	select {
	case err = <-returned:
	case <-parent.Done():
		timer := time.NewTimer(joinGrace)
		defer timer.Stop()
		select {
		case err = <-returned:
		case <-timer.C:
			if h.refuse() {
				m.mu.Lock()
				m.stuck = returned
				m.mu.Unlock()
				return nil, parent.Err()
			}
			err = <-returned // a session is ending, at goka's pace
		}
	}
	if ctx.Err() != nil && parent.Err() == nil {
		cause = context.Cause(ctx)
	}
	return cause, err
}

// endSession makes the running Consume return soon.
func (m *member) endSession(cause error) {
	m.mu.Lock()
	end := m.end
	m.mu.Unlock()
	if end != nil {
		end(cause)
	}
}

// Close implements sarama.ConsumerGroup. A join that still waits for the coordinator is left to end by itself.
func (m *member) Close() error {
	m.group.mu.Lock()
	if m.group.member == m {
		m.group.member = nil
	}
	m.group.mu.Unlock()

	m.mu.Lock()
	stuck := m.stuck
	m.mu.Unlock()
	if stuck == nil {
		return m.close()
	}
	m.group.cfg.Logger.Warn("the group's coordinator does not answer: leaving in the background")
	go func() {
		if err := <-stuck; err != nil {
			m.group.cfg.Logger.Debug("a join that was left behind", "error", err)
		}
		if err := m.close(); err != nil {
			m.group.cfg.Logger.Warn("leave the group", "error", err)
		}
	}()
	return nil
}

func (m *member) close() error {
	err := errors.Join(m.inner.Close(), m.client.Close())
	m.adm.Close()
	return err
}

// Errors, Pause, Resume, PauseAll and ResumeAll implement sarama.ConsumerGroup.
func (m *member) Errors() <-chan error                 { return m.inner.Errors() }
func (m *member) Pause(partitions map[string][]int32)  { m.inner.Pause(partitions) }
func (m *member) Resume(partitions map[string][]int32) { m.inner.Resume(partitions) }
func (m *member) PauseAll()                            { m.inner.PauseAll() }
func (m *member) ResumeAll()                           { m.inner.ResumeAll() }

// onlyCanceled says whether err, which may be many, tells of nothing but contexts that ended: a callback that gave up
// because its session was ending has not failed. It is true for nil.
func onlyCanceled(err error) bool {
	switch e := err.(type) { //nolint:errorlint // takes the tree apart itself
	case nil:
		return true
	case *multierror.Error:
		return allCanceled(e.WrappedErrors())
	case interface{ Unwrap() []error }:
		return allCanceled(e.Unwrap())
	case interface{ Unwrap() error }:
		return onlyCanceled(e.Unwrap()) && e.Unwrap() != nil
	}
	return err == context.Canceled //nolint:errorlint // a leaf
}

func allCanceled(errs []error) bool {
	for _, err := range errs {
		if !onlyCanceled(err) {
			return false
		}
	}
	return true
}
