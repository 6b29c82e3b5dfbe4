package tables

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

// ErrChangelogCut is wrapped by the error for an acknowledgement below the offset up to which the storage holds its
// changelog: the topic was made anew, or the brokers have lost its end. The storage has been emptied by then; a
// processor that starts again recovers it.
var ErrChangelogCut = errors.New("the changelog is shorter than the local table")

// tableSuffix ends the name of a group's table, by goka's convention.
const tableSuffix = "-table"

// WrapProducer returns a producer that tells the storages of ProcessorBuilder which rows Kafka has acknowledged. Each
// goes to the processor's own storage before goka learns of the acknowledgement, so whatever is committed after that is
// on its way to disk already, behind everything acknowledged before.
func (t *Tables) WrapProducer(p goka.Producer) goka.Producer {
	return &producer{Producer: p, tables: t}
}

type producer struct {
	goka.Producer
	tables *Tables
}

// Emit implements goka's Producer.
func (p *producer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka's Producer.
func (p *producer) EmitWithHeaders(topic, key string, value []byte, headers goka.Headers) *goka.Promise {
	group, ok := strings.CutSuffix(topic, tableSuffix)
	if !ok {
		return p.Producer.EmitWithHeaders(topic, key, value, headers)
	}
	opens := p.tables.opens.Load()
	promise, finish := goka.NewPromiseWithFinisher()
	sent := p.Producer.EmitWithHeaders(topic, key, value, headers)
	sent.ThenWithMessage(func(msg *sarama.ProducerMessage, err error) {
		if err == nil && msg != nil {
			at := place{owner: owner{processorKind, group}, topic: topic, partition: msg.Partition}
			// A storage that was opened after the row was sent has nothing of it pending; it finds the row in the
			// changelog, now or at its next start.
			if s := p.tables.lookup(at); s != nil && s.born <= opens {
				err = s.acknowledged(key, value, msg.Offset)
			}
		}
		finish(msg, err)
	})
	return promise
}

// acknowledged is told, in the order of the changelog, of each row that this storage's processor produced.
func (s *storage) acknowledged(key string, value []byte, offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live {
		return nil
	}
	if offset != 0 && offset <= s.offset {
		err := fmt.Errorf("%w: %s got offset %d for a row, and holds the changelog up to %d",
			ErrChangelogCut, s.place, offset, s.offset)
		return errors.Join(err, s.wipe())
	}
	switch next := s.offset + 1 + s.nameless; {
	case s.gap:
	case offset == 0:
		// A record that arrived twice, because the first answer was lost, is acknowledged without an offset, and the
		// first of a partition looks the same. The next one that has an offset shows whether they are all ours: then
		// there are as many offsets between as there were such records.
		s.nameless++
	case offset == next:
		s.moveTo(offset)
		s.nameless = 0
	default:
		s.noteGap(offset)
	}
	s.last = max(s.last, offset)
	s.settle(key, value)
	s.ack(key, value)
	return s.flushIfLarge()
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
