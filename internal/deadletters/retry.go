package deadletters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// ErrForeign is wrapped by the errors for letters that do not tell where their message lay.
var ErrForeign = errors.New("it does not say which group gave it up, and where its message lay; it can only be dropped")

// Overtaken are the letters whose message was followed, in its partition, by another one about the same, and the offset
// of the last of those. Tried again, the message would be processed as if it had come after it. For a post that means
// another event of the post, for everything else another message with the same key. What is among letters does not
// count if the group is the same, for Retry keeps the order.
func (b *Box) Overtaken(ctx context.Context, letters []*Letter) (map[ID]int64, error) {
	type subject struct {
		kafka.TopicPartition
		key, post string
	}
	of := func(topic string, partition int32, key, value []byte) subject {
		return subject{kafka.TopicPartition{Topic: topic, Partition: partition}, string(key), b.postIn(topic, value)}
	}
	type place struct {
		kafka.TopicPartition
		offset int64
	}
	among := map[place][]string{} // groups
	first := map[kafka.TopicPartition]int64{}
	later := map[subject][]int64{} // offsets of messages about what letters are about
	var topics []string
	for _, l := range letters {
		if l.foreign() {
			return nil, fmt.Errorf("%s: %w", l.ID, ErrForeign)
		}
		tp := kafka.TopicPartition{Topic: l.Topic, Partition: l.Partition}
		if at, seen := first[tp]; !seen || l.Offset < at {
			first[tp] = l.Offset
		}
		if !slices.Contains(topics, l.Topic) {
			topics = append(topics, l.Topic)
		}
		later[of(l.Topic, l.Partition, l.Key, l.Value)] = nil
		at := place{tp, l.Offset}
		among[at] = append(among[at], l.Group)
	}
	if len(letters) == 0 {
		return nil, nil
	}
	spans, err := b.spans(ctx, topics...)
	if err != nil {
		return nil, err
	}
	spans = slices.DeleteFunc(spans, func(s span) bool {
		_, wanted := first[kafka.TopicPartition{Topic: s.topic, Partition: s.partition}]
		return !wanted
	})
	for i := range spans {
		s := &spans[i]
		s.from = max(s.from, first[kafka.TopicPartition{Topic: s.topic, Partition: s.partition}])
	}
	err = b.scan(ctx, spans, func(r *kgo.Record) error {
		s := of(r.Topic, r.Partition, r.Key, r.Value)
		if _, asked := later[s]; asked {
			later[s] = append(later[s], r.Offset)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	overtaken := map[ID]int64{}
	for _, l := range letters {
		s := of(l.Topic, l.Partition, l.Key, l.Value)
		for _, offset := range slices.Backward(later[s]) {
			if offset > l.Offset && !slices.Contains(among[place{s.TopicPartition, offset}], l.Group) {
				overtaken[l.ID] = offset
				break
			}
		}
	}
	return overtaken, nil
}

// postIn is the id of the post that a message is about; empty for messages that are about their key as a whole.
func (b *Box) postIn(topic string, value []byte) string {
	if topic != b.names.Topic(freshet.Posts) && topic != b.names.Topic(freshet.Replays) {
		return ""
	}
	var event events.PostEvent
	if proto.Unmarshal(value, &event) != nil {
		return ""
	}
	return strconv.FormatUint(event.GetId(), 10)
}

// Retry writes the messages of letters to where they came from, byte for byte, in their order, and closes the letters.
// Only the group that gave a message up processes it again; other groups of freshet pass over it. A crash in between
// leaves letters open whose messages are on their way already.
func (b *Box) Retry(ctx context.Context, letters ...*Letter) error {
	letters = slices.Clone(letters)
	slices.SortStableFunc(letters, func(x, y *Letter) int {
		return cmp.Or(strings.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition),
			cmp.Compare(x.Offset, y.Offset))
	})
	records := make([]*kgo.Record, len(letters))
	for i, l := range letters {
		if l.foreign() {
			return fmt.Errorf("%s: %w", l.ID, ErrForeign)
		}
		records[i] = l.again()
	}
	for at := 0; at < len(records); at += retryAtOnce {
		end := min(at+retryAtOnce, len(records))
		if err := b.client.ProduceSync(ctx, records[at:end]...).FirstErr(); err != nil {
			return fmt.Errorf("write messages of dead letters to %s: %w", records[at].Topic, err)
		}
		if err := b.close(ctx, "retried", letters[at:end]...); err != nil {
			return err
		}
	}
	return nil
}

// retryAtOnce is how many messages are written before their letters are closed.
const retryAtOnce = 500

// again is the message, for the group that gave it up.
func (l *Letter) again() *kgo.Record {
	r := &kgo.Record{Topic: l.Topic, Partition: l.Partition, Key: l.Key, Value: l.Value, Timestamp: l.Time}
	for _, h := range l.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader(h))
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: kafka.HeaderOnly, Value: []byte(l.Group)},
		kgo.RecordHeader{Key: kafka.HeaderTries, Value: strconv.AppendInt(nil, int64(l.Tries), 10)})
	return r
}
