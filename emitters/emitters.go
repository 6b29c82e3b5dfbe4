// Package emitters writes the records that start everything: registrations, profiles, follows, posts and node starts.
//
// One method for each kind of record. It encodes, keys the record as the topic wants it and returns the record's
// Position once Kafka has acknowledged it; the forms that end in Async hand it to a callback instead, for imports that
// keep many writes in flight.
//
//	emitters.go   opening, closing, and the one path that every write takes
//	records.go    the methods, one per kind of record
//	position.go   Position and its form in the Freshet-Position header
//	batch.go      many posts written to Kafka at once
//	show.go       writing posts into Redis
//	publisher.go  posts written to Kafka, and then to Redis for who has just written them
package emitters

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// ProduceTimeout bounds a write that was given no nearer deadline: from the call to Kafka's acknowledgement.
const ProduceTimeout = 10 * time.Second

// inFlight is how many writes a topic may have unacknowledged. Not more, because sarama takes a message without
// blocking only while its buffer for the topic has room (ChannelBufferSize, which kafka.Config sets to this), and a
// write must be able to give up when its context ends.
const inFlight = 1024

// A batch of more than fewPosts is large: what is in flight of all large ones together leaves half of the places to
// others, who otherwise would wait for a batch at each of their posts.
const (
	fewPosts      = 64
	largeInFlight = inFlight / 2
)

// ErrUnavailable is wrapped by the errors of writes that Kafka did not acknowledge in time. Such a write may still
// arrive: all that writes here say may be repeated.
var ErrUnavailable = errors.New("kafka did not acknowledge the write")

// Emitters writes to all topics of a deployment. Its methods are safe for concurrent use until Close.
type Emitters struct {
	names   freshet.Names
	streams map[freshet.Topic]*stream
}

// stream is one topic's emitter and the places for its writes in flight.
type stream struct {
	emitter *goka.Emitter
	slots   chan struct{}
	large   chan struct{} // for those of large batches, beside a place in slots
}

// codecs are those of the topics that this package writes.
var codecs = map[freshet.Topic]goka.Codec{
	freshet.Registrations: kafka.Codec[events.Registration, *events.Registration]{},
	freshet.Profiles:      kafka.Codec[events.Profile, *events.Profile]{},
	freshet.Follows:       kafka.Codec[events.FollowEvent, *events.FollowEvent]{},
	freshet.Posts:         kafka.Codec[events.PostEvent, *events.PostEvent]{},
	freshet.NodeStarts:    kafka.Codec[events.NodeStart, *events.NodeStart]{},
}

// Topics are those that this package writes, sorted.
func Topics() []freshet.Topic { return slices.Sorted(maps.Keys(codecs)) }

// New opens an emitter, with a producer of its own, for each topic that this package writes. config makes the settings
// of a producer; nil means kafka.Config.
func New(brokers []string, names freshet.Names, config func(clientID string) *sarama.Config) (*Emitters, error) {
	e := &Emitters{names: names, streams: make(map[freshet.Topic]*stream)}
	for topic, codec := range codecs {
		name := names.Topic(topic)
		emitter, err := kafka.NewEmitter(brokers, "emitter-"+string(topic), config, name, codec)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open an emitter for %s at %v: %w", name, brokers, err), e.Close())
		}
		e.streams[topic] = &stream{
			emitter: emitter, slots: make(chan struct{}, inFlight), large: make(chan struct{}, largeInFlight),
		}
	}
	return e, nil
}

// Close waits until every write in flight is acknowledged or has failed, and closes the connections. Writes must have
// ended, or been refused by their callers, before.
func (e *Emitters) Close() error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for topic, s := range e.streams {
		wg.Go(func() {
			if err := s.emitter.Finish(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("close the emitter for %s: %w", e.names.Topic(topic), err))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Outcome is what became of a write: where it lies, if Err is nil.
type Outcome struct {
	Position Position
	Err      error
}

// write waits for the acknowledgement, at most until ctx ends or ProduceTimeout is over.
func (e *Emitters) write(ctx context.Context, topic freshet.Topic, key string, message any) (Position, error) {
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > ProduceTimeout {
		bounded, cancel := context.WithTimeout(ctx, ProduceTimeout)
		defer cancel()
		ctx = bounded
	}
	done := make(chan Outcome, 1)
	err := e.start(ctx, topic, key, message, func(p Position, err error) { done <- Outcome{p, err} })
	if err != nil {
		return Position{}, err
	}
	select {
	case o := <-done:
		return o.Position, o.Err
	case <-ctx.Done():
		return Position{}, fmt.Errorf("write to %s under key %q: %w: %w",
			e.names.Topic(topic), key, ErrUnavailable, context.Cause(ctx))
	}
}

// start hands a write to the producer and calls done with its outcome, from the producer's goroutine: done must not
// block. It waits for a place among the writes in flight, until ctx ends; when start returns an error, done is not
// called.
func (e *Emitters) start(
	ctx context.Context, topic freshet.Topic, key string, message any, done func(Position, error),
) error {
	s, name := e.streams[topic], e.names.Topic(topic)
	if ctx.Err() != nil {
		return fmt.Errorf("write to %s under key %q: %w: %w", name, key, ErrUnavailable, context.Cause(ctx))
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("write to %s under key %q: too many writes in flight: %w: %w",
			name, key, ErrUnavailable, context.Cause(ctx))
	}
	promise, err := s.emitter.Emit(key, message)
	if err != nil {
		<-s.slots
		return fmt.Errorf("write to %s under key %q: %w", name, key, err)
	}
	promise.ThenWithMessage(func(m *sarama.ProducerMessage, err error) {
		<-s.slots
		if err != nil {
			done(Position{}, fmt.Errorf("write to %s under key %q: %w", name, key, unavailable(err)))
			return
		}
		done(Position{Topic: topic, Partition: m.Partition, Offset: m.Offset, Key: key}, nil)
	})
	return nil
}

// unavailable adds ErrUnavailable to every failure that the same write could survive at another time; a record that
// Kafka will never take is the caller's.
func unavailable(err error) error {
	var refused *sarama.ProducerError
	if errors.As(err, &refused) {
		var config sarama.ConfigurationError
		if errors.Is(refused.Err, sarama.ErrMessageSizeTooLarge) || errors.As(refused.Err, &config) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
