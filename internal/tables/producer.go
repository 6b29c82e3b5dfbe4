package tables

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"freshet"
	"freshet/internal/crash"
)

// ErrChangelogCut is wrapped by the error for an acknowledgement below the offset up to which the storage holds its
// changelog: the topic was made anew, or the brokers have lost its end. The storage has been emptied by then; a
// processor that starts again recovers it.
var ErrChangelogCut = errors.New("the changelog is shorter than the local table")

// tableSuffix ends the name of a group's table, by goka's convention.
const tableSuffix = "-table"

// WrapProducer returns a producer for the holder, a processor: rows of its table name their writer's epoch, and are
// made known to their storage when Kafka has acknowledged them, before goka learns of it. So whatever is committed
// after that is on its way to disk already, behind everything acknowledged before. From now on, until the producer is
// closed, storages of the table that are opened take their partition over.
func (h Holder) WrapProducer(p goka.Producer) goka.Producer {
	wrapped := &producer{Producer: p, tables: h.tables, group: h.owner.name, table: h.owner.name + tableSuffix,
		partitions: h.partitions}
	h.tables.mu.Lock()
	defer h.tables.mu.Unlock()
	h.tables.producers[wrapped.group] = wrapped
	return wrapped
}

type producer struct {
	goka.Producer
	tables       *Tables
	group, table string
	partitions   int32

	mu     sync.RWMutex // goka's producer panics when it is used after Close
	closed bool
	laters sync.WaitGroup
}

// Emit implements goka's Producer.
func (p *producer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka's Producer.
func (p *producer) EmitWithHeaders(topic, key string, value []byte, headers goka.Headers) *goka.Promise {
	if topic != p.table {
		return p.emit(topic, key, value, headers)
	}
	at := place{owner{processorKind, p.group}, topic, freshet.PartitionOf(key, p.partitions)}
	s := p.tables.lookup(at)
	if s == nil || s.own == nil {
		return failed(fmt.Errorf("write row %q of %s: %w", key, at, errNotOwned))
	}
	return s.send(s.own, key, value, headers)
}

// emit is the producer's own, until it is closed.
func (p *producer) emit(topic, key string, value []byte, headers goka.Headers) *goka.Promise {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return failed(fmt.Errorf("write a record with key %q to %s: %w", key, topic, errNotOwned))
	}
	return p.Producer.EmitWithHeaders(topic, key, value, headers)
}

func failed(err error) *goka.Promise {
	_, finish := goka.NewPromiseWithFinisher()
	return finish(nil, err)
}

// Close implements goka's Producer.
func (p *producer) Close() error {
	p.tables.mu.Lock()
	if p.tables.producers[p.group] == p {
		delete(p.tables.producers, p.group)
	}
	p.tables.mu.Unlock()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.laters.Wait()
	return p.Producer.Close()
}

// later runs something that emits, in the name of an acknowledgement, which must not wait for others.
func (p *producer) later(emit func()) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.closed {
		p.laters.Go(emit)
	}
}

// send writes a record with the owner's epoch, and sees to its acknowledgement.
func (s *storage) send(own *ownership, key string, value []byte, headers goka.Headers) *goka.Promise {
	crash.At(crash.RowSet)
	promise, finish := goka.NewPromiseWithFinisher()
	own.producer.emit(s.place.topic, key, value, headers.Merged(own.header())).ThenWithMessage(
		func(msg *sarama.ProducerMessage, err error) {
			if err != nil || msg == nil {
				s.giveUp(err)
				finish(msg, err)
				return
			}
			s.acknowledged(acknowledgement{key, value, func(err error) { finish(msg, err) }}, msg.Offset)
		})
	return promise
}

// acknowledgement is one that has not been passed on yet.
type acknowledgement struct {
	key    string
	value  []byte
	finish func(error)
}

// acknowledged is told, in the order of the changelog, of each record that this storage's owner wrote, and passes that
// on when it is sure of the record's place.
func (s *storage) acknowledged(a acknowledgement, offset int64) {
	crash.At(crash.RowAcknowledged)
	s.mu.Lock()
	s.unsure = append(s.unsure, a)
	waiting := s.unsure
	sure, err := s.placed(waiting, offset)
	if sure {
		s.unsure = nil
	}
	own := s.own
	s.mu.Unlock()
	if !sure {
		own.producer.later(func() { s.send(own, own.fenceKey, own.fenceID, nil) })
		return
	}
	for _, a := range waiting {
		a.finish(err)
	}
}

// giveUp passes on what is not sure yet as failed: nothing will come that makes it sure.
func (s *storage) giveUp(err error) {
	s.mu.Lock()
	waiting := s.unsure
	s.unsure = nil
	s.mu.Unlock()
	for _, a := range waiting {
		a.finish(fmt.Errorf("a row of %s, whose place in the changelog is not known: %w", s.place, err))
	}
}

// placed finds the last of these records to be at offset, and what that says of the others; sure is false while it says
// nothing. A record that arrived twice, because the first answer was lost, is acknowledged without an offset, which is
// 0. The next one with an offset shows whether all are ours: then there are as many offsets between as records.
func (s *storage) placed(waiting []acknowledgement, offset int64) (sure bool, err error) {
	switch {
	case !s.live:
		return true, fmt.Errorf("%s, at offset %d: %w", s.place, offset, errNotOwned)
	case s.gap:
		return true, fmt.Errorf("%w: %s holds it up to offset %d only", ErrIntruder, s.place, s.offset)
	case offset == 0:
		return false, nil
	case offset <= s.offset:
		err := fmt.Errorf("%w: %s got offset %d for a row, and holds the changelog up to %d",
			ErrChangelogCut, s.place, offset, s.offset)
		return true, errors.Join(err, s.wipe())
	case offset != s.offset+int64(len(waiting)):
		// These rows do not go to disk: the foreign record may be the fence of a new owner, and they void.
		s.gap = true
		return true, fmt.Errorf("%w: %s holds it up to offset %d, and the %d rows behind that end at offset %d",
			ErrIntruder, s.place, s.offset, len(waiting), offset)
	}
	for _, a := range waiting {
		if !strings.HasPrefix(a.key, fencePrefix) { // a beat is no row
			s.settle(a.key, a.value)
			s.ack(a.key, a.value)
		}
	}
	s.moveTo(offset)
	s.last = offset
	return true, s.flushIfLarge()
}

// settle removes from a key's pending values the one acknowledged, and those before it: acknowledgements come in order,
// so these have failed, and the changelog has something newer.
func (s *storage) settle(key string, value []byte) {
	values := s.pending[key]
	for i, v := range values {
		if (v == nil) != (value == nil) || !bytes.Equal(v, value) {
			continue
		}
		if i == len(values)-1 {
			delete(s.pending, key)
		} else {
			s.pending[key] = values[i+1:]
		}
		return
	}
}
