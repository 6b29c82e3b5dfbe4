package deadletters

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/kafka"
)

// headerCloses is on a record that closes a letter: its offset, in the record's partition. headerHow says how.
const (
	headerCloses = "dead-letter-closes"
	headerHow    = "dead-letter-closed-as"
)

// ErrUnknown is wrapped by the errors for letters that are not open: they never were, are closed, or were removed with
// their retention.
var ErrUnknown = errors.New("there is no such dead letter")

// Filter says which letters are meant. The zero value is all that are open.
type Filter struct {
	IDs    []ID
	Group  string // by its name in Kafka
	Topic  string // likewise
	Reason string // is in the reason, whatever the case
}

func (f *Filter) wants(l *Letter) bool {
	return (f.Group == "" || l.Group == f.Group) && (f.Topic == "" || l.Topic == f.Topic) &&
		(f.Reason == "" || strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason)))
}

// Box is the dead letters of a deployment. It is for one goroutine.
type Box struct {
	brokers []string
	topic   string
	names   freshet.Names
	options []kgo.Opt
	client  *kgo.Client
	adm     *kadm.Client
}

// Open connects. opts are those of kafka.ClientOptions.
func Open(ctx context.Context, brokers []string, names freshet.Names, opts ...kgo.Opt) (*Box, error) {
	if _, err := kafka.Reach(ctx, brokers, opts...); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ClientID("freshet-dlq"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka at %s: %w", strings.Join(brokers, ","), err)
	}
	return &Box{
		brokers: brokers, topic: names.Topic(freshet.DeadLetters), names: names, options: opts,
		client: client, adm: kadm.NewClient(client),
	}, nil
}

// Close ends the connections.
func (b *Box) Close() { b.client.Close() }

// Each calls f with every open letter that is meant, those of a partition in their order, and stops at its first error.
// An ID that is of none of them is an ErrUnknown. Letters are not kept: there may be more of them than fit into memory.
func (b *Box) Each(ctx context.Context, filter Filter, f func(*Letter) error) error {
	wanted := map[ID]bool{}
	for _, id := range filter.IDs {
		wanted[id] = true
	}
	spans, err := b.spans(ctx, b.topic)
	if err != nil {
		return err
	}
	closed := map[ID]bool{}
	err = b.scan(ctx, spans, func(r *kgo.Record) error {
		if id, ok := closes(r); ok {
			closed[id] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = b.scan(ctx, spans, func(r *kgo.Record) error {
		id := ID{r.Partition, r.Offset}
		if _, closing := closes(r); closing || closed[id] || len(filter.IDs) > 0 && !wanted[id] {
			return nil
		}
		l := letterOf(r)
		if !filter.wants(l) {
			return nil
		}
		delete(wanted, id)
		return f(l)
	})
	if err != nil {
		return err
	}
	for id := range wanted {
		return fmt.Errorf("%s: %w: freshet dlq list shows those that are open", id, ErrUnknown)
	}
	return nil
}

// closes is the letter that a record closes, if it is such a record.
func closes(r *kgo.Record) (ID, bool) {
	for _, h := range r.Headers {
		if h.Key == headerCloses {
			offset, err := strconv.ParseInt(string(h.Value), 10, 64)
			return ID{r.Partition, offset}, err == nil
		}
	}
	return ID{}, false
}

// Drop closes letters: their messages are given up for good.
func (b *Box) Drop(ctx context.Context, letters ...*Letter) error {
	return b.close(ctx, "dropped", letters...)
}

func (b *Box) close(ctx context.Context, how string, letters ...*Letter) error {
	records := make([]*kgo.Record, len(letters))
	for i, l := range letters {
		records[i] = &kgo.Record{Topic: b.topic, Partition: l.ID.Partition, Key: l.Key, Headers: []kgo.RecordHeader{
			{Key: headerCloses, Value: strconv.AppendInt(nil, l.ID.Offset, 10)}, {Key: headerHow, Value: []byte(how)},
		}}
	}
	if err := b.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("note in %s that letters were %s: %w", b.topic, how, err)
	}
	return nil
}

// span is a part of a partition: from, and to, which is behind it.
type span struct {
	topic     string
	partition int32
	from, to  int64
}

// spans are all that topics hold now.
func (b *Box) spans(ctx context.Context, topics ...string) ([]span, error) {
	starts, err := b.adm.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask where %s begin: %w", strings.Join(topics, ", "), err)
	}
	ends, err := b.adm.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask where %s end: %w", strings.Join(topics, ", "), err)
	}
	var spans []span
	starts.Each(func(o kadm.ListedOffset) {
		if end, ok := ends.Lookup(o.Topic, o.Partition); ok && end.Offset > o.Offset {
			spans = append(spans, span{o.Topic, o.Partition, o.Offset, end.Offset})
		}
	})
	return spans, nil
}

// silence is how long Kafka may say nothing while something is read that it has said it has.
const silence = 30 * time.Second

// scan calls f with the records of spans, those of a partition in their order.
func (b *Box) scan(ctx context.Context, spans []span, f func(*kgo.Record) error) error {
	at, left := map[string]map[int32]kgo.Offset{}, map[kafka.TopicPartition]int64{}
	for _, s := range spans {
		if s.from >= s.to {
			continue
		}
		if at[s.topic] == nil {
			at[s.topic] = map[int32]kgo.Offset{}
		}
		at[s.topic][s.partition] = kgo.NewOffset().At(s.from)
		left[kafka.TopicPartition{Topic: s.topic, Partition: s.partition}] = s.to
	}
	if len(left) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.brokers...), kgo.ClientID("freshet-dlq"), kgo.ConsumePartitions(at),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond),
	}, b.options...)...)
	if err != nil {
		return fmt.Errorf("make a reader: %w", err)
	}
	defer client.Close()
	for len(left) > 0 {
		waiting, cancel := context.WithTimeoutCause(ctx, silence, errSilent)
		fetches := client.PollRecords(waiting, 1000)
		err := context.Cause(waiting)
		cancel()
		if fetches.Empty() && err != nil {
			return fmt.Errorf("read %d partitions: %w", len(left), err)
		}
		if err := fetches.Err(); err != nil && ctx.Err() != nil {
			return fmt.Errorf("read dead letters: %w", err)
		}
		for records := fetches.RecordIter(); !records.Done(); {
			r := records.Next()
			tp := kafka.TopicPartition{Topic: r.Topic, Partition: r.Partition}
			to, wanted := left[tp]
			if !wanted {
				continue
			}
			if r.Offset < to {
				if err := f(r); err != nil {
					return err
				}
			}
			if r.Offset >= to-1 {
				delete(left, tp)
				client.PauseFetchPartitions(map[string][]int32{r.Topic: {r.Partition}})
			}
		}
	}
	return nil
}

var errSilent = fmt.Errorf("kafka has said nothing for %s", silence)
