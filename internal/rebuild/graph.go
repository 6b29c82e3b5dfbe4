package rebuild

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"freshet"
	"freshet/internal/audit"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/processors/following"
)

// Graph has the rows of following state all their relations again, in their turn among all other messages, and takes
// those followers out of trees whose rows know of no relation.
type Graph struct {
	Brokers []string
	Names   freshet.Names
	Sarama  func(clientID string) *sarama.Config
	Sources *audit.Sources
	// Rate is how many rows have their turn each second; 0: as fast as it goes. A row's turn is a statement for each
	// relation, and a report of each.
	Rate     float64
	Progress Progress
}

// GraphSummary is what was stated.
type GraphSummary struct {
	// Rows had their turn; Wrong followers were in trees and are told to be no followers; Left differences between trees
	// and rows are still there.
	Rows  int `json:"rows"`
	Wrong int `json:"wrong"`
	Left  int `json:"left"`
}

// settleTimeout is how long Run waits, without anything getting better, until trees agree with the rows.
const settleTimeout = time.Minute

// Run states the relations of accounts, or of all for none, and waits until trees and rows agree. Trees are compared as
// a whole, whoever the accounts are.
func (g Graph) Run(ctx context.Context, accounts []freshet.Number) (s GraphSummary, err error) {
	turns, err := g.emitter(g.Names.Loop(freshet.FollowingGroup), following.LoopCodec)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, turns.Finish()) }()
	statements, err := g.emitter(g.Names.Topic(freshet.Followers), statement)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, statements.Finish()) }()
	if len(accounts) == 0 {
		if accounts, err = g.Sources.Followers(); err != nil {
			return s, err
		}
	}
	writes, at := newWrites(), pace{rate: g.Rate}
	turn := func(n freshet.Number) error {
		return writes.add(ctx, func() (*goka.Promise, error) { return turns.Emit(n.Key(), following.Turn()) })
	}
	for i, n := range accounts {
		if err := errors.Join(turn(n), at.spend(ctx, 1)); err != nil {
			return s, err
		}
		s.Rows++
		g.Progress("having rows state their relations", i+1, len(accounts))
	}
	if err := writes.wait(ctx); err != nil {
		return s, err
	}
	told := map[audit.TreeDifference]bool{}
	for moved := time.Now(); ; {
		before := s.Left
		s.Left = 0
		err := g.Sources.CompareTrees(ctx, func(differ []audit.TreeDifference) error {
			s.Left += len(differ)
			for _, d := range differ {
				if told[d] {
					continue
				}
				told[d] = true
				if !d.Holds { // the row says it again
					if err := turn(d.Follower); err != nil {
						return err
					}
					continue
				}
				state, absent, err := g.Sources.Absent(d)
				if err != nil {
					return err
				}
				if !absent {
					continue
				}
				s.Wrong++
				emit := func() (*goka.Promise, error) { return statements.Emit(d.Author.Key(), state) }
				if err := writes.add(ctx, emit); err != nil {
					return err
				}
			}
			return writes.wait(ctx)
		})
		if err != nil || s.Left == 0 {
			return s, err
		}
		if s.Left != before {
			moved = time.Now()
		}
		g.Progress("waiting until trees agree with the rows", 0, s.Left)
		if time.Since(moved) > settleTimeout {
			return s, fmt.Errorf("%d followers are still wrong; do following and fan-out run?", s.Left)
		}
		if err := (&pace{rate: 2}).spend(ctx, 1); err != nil {
			return s, err
		}
	}
}

var statement kafka.Codec[events.FollowerState, *events.FollowerState]

func (g Graph) emitter(topic string, codec goka.Codec) (*goka.Emitter, error) {
	return kafka.NewEmitter(g.Brokers, "rebuild-"+topic, g.Sarama, topic, codec)
}

// writesAhead is how many writes may be unacknowledged.
const writesAhead = 512

// writes bounds what is unacknowledged, and keeps the first error.
type writes struct {
	room  chan struct{}
	mu    sync.Mutex
	first error
}

func newWrites() *writes { return &writes{room: make(chan struct{}, writesAhead)} }

func (w *writes) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

func (w *writes) add(ctx context.Context, emit func() (*goka.Promise, error)) error {
	select {
	case w.room <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	promise, err := emit()
	if err != nil {
		<-w.room
		return fmt.Errorf("write to Kafka: %w", err)
	}
	promise.Then(func(err error) {
		w.mu.Lock()
		if w.first == nil && err != nil {
			w.first = fmt.Errorf("write to Kafka: %w", err)
		}
		w.mu.Unlock()
		<-w.room
	})
	return w.err()
}

// wait waits until everything is acknowledged.
func (w *writes) wait(ctx context.Context) error {
	for taken := range writesAhead {
		select {
		case w.room <- struct{}{}:
		case <-ctx.Done():
			for range taken {
				<-w.room
			}
			return context.Cause(ctx)
		}
	}
	for range writesAhead {
		<-w.room
	}
	return w.err()
}
