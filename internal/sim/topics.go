package sim

import (
	"time"

	"freshet"
)

// topic is a Kafka topic: partitions of records.
type topic struct {
	w     *world
	name  string
	parts [][]*record
}

// record lies in a log. Its value is one of the domain's, never changed.
type record struct {
	topic     *topic
	partition int
	offset    int64
	key       string
	value     any
	at        time.Time // when it was sent
	epoch     int64     // of its writer, in a table
	fence     bool      // in a table: no row, but the beginning of an epoch
	released  bool      // fan-out has released it since the last loss that could have undone that
}

func newTopic(w *world, name string) *topic {
	return &topic{w: w, name: name, parts: make([][]*record, w.partitions)}
}

func (t *topic) partition(key string) int {
	return int(freshet.PartitionOf(key, int32(t.w.partitions)))
}

func (t *topic) end(partition int) int64 { return int64(len(t.parts[partition])) }

func (t *topic) append(r *record) {
	r.topic, r.offset = t, t.end(r.partition)
	t.parts[r.partition] = append(t.parts[r.partition], r)
	t.w.truth.appended(r)
}

// producer keeps the order of what it sends to a partition, as Kafka's idempotent producer does. Acknowledgements
// come late; what was not acknowledged when a process died may be in the log or not.
type producer struct {
	w      *world
	owner  *proc
	queues []*queue
}

type queue struct {
	topic     *topic
	partition int
	records   []*sent
	landed    int // of records: in the log, not acknowledged
}

type sent struct {
	*record
	deadline time.Time // zero: none
	ack      func(err error)
}

func (p *producer) send(t *topic, key string, value any, ack func(error)) *sent {
	s := &sent{record: &record{partition: t.partition(key), key: key, value: value, at: p.owner.now()}, ack: ack}
	for _, q := range p.queues {
		if q.topic == t && q.partition == s.partition {
			q.records = append(q.records, s)
			return s
		}
	}
	p.queues = append(p.queues, &queue{topic: t, partition: s.partition, records: []*sent{s}})
	return s
}

func (p *producer) empty() bool {
	for _, q := range p.queues {
		if len(q.records) > 0 {
			return false
		}
	}
	return true
}

// step lets one record into the log, or an acknowledgement back.
func (p *producer) step() bool {
	if len(p.queues) == 0 {
		return false
	}
	start := p.w.rng.IntN(len(p.queues))
	for i := range p.queues {
		q := p.queues[(start+i)%len(p.queues)]
		if len(q.records) == 0 || q.landed == 0 && p.w.shut(q.topic) {
			continue
		}
		if q.landed == 0 || q.landed < len(q.records) && p.w.chance(2) && !p.w.shut(q.topic) {
			return p.land(q)
		}
		if !p.owner.runs() {
			continue // a paused process reads no answers
		}
		s := q.records[0]
		q.records, q.landed = q.records[1:], q.landed-1
		s.ack(nil)
		return true
	}
	return false
}

// land puts the next record of a queue into its log, or fails it when its time is over.
func (p *producer) land(q *queue) bool {
	s := q.records[q.landed]
	if !s.deadline.IsZero() && p.w.now.After(s.deadline) {
		if !p.owner.runs() {
			return false
		}
		q.records = append(q.records[:q.landed:q.landed], q.records[q.landed+1:]...)
		s.ack(errTimeout)
		return true
	}
	q.topic.append(s.record)
	q.landed++
	return true
}

// drain waits for every acknowledgement, as a session does before it ends.
func (p *producer) drain() {
	for !p.empty() {
		for _, q := range p.queues {
			for len(q.records) > 0 {
				if q.landed == 0 && !p.land(q) || q.landed == 0 {
					continue
				}
				s := q.records[0]
				q.records, q.landed = q.records[1:], q.landed-1
				s.ack(nil)
			}
		}
	}
}

// die ends the producer with its process: of each queue some more may get into the log.
func (p *producer) die() {
	for _, q := range p.queues {
		for q.landed < len(q.records) && p.w.chance(2) && !p.w.shut(q.topic) {
			if s := q.records[q.landed]; !s.deadline.IsZero() && p.w.now.After(s.deadline) {
				break
			}
			q.topic.append(q.records[q.landed].record)
			q.landed++
		}
	}
	p.queues = nil
}
