package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Lookup asks the cluster for offsets. It is safe for concurrent use.
type Lookup struct{ adm *kadm.Client }

// NewLookup makes a client for look-ups; Close ends it. It connects when it is first used, and gives up on a request
// that Kafka does not answer for 15 seconds. opts are those of ClientOptions.
func NewLookup(brokers []string, opts ...kgo.Opt) (*Lookup, error) {
	adm, err := newAdmin(brokers, opts)
	if err != nil {
		return nil, err
	}
	return &Lookup{adm}, nil
}

// Close closes the connections.
func (l *Lookup) Close() { l.adm.Close() }

// Ends is the end, the offset of the next record, of every partition of the topics.
func (l *Lookup) Ends(ctx context.Context, topics ...string) (map[TopicPartition]int64, error) {
	listed, err := l.adm.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the end offsets of %v: %w", topics, err)
	}
	ends := map[TopicPartition]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[TopicPartition{o.Topic, o.Partition}] = o.Offset })
	return ends, nil
}

// Committed is the committed offset of every partition of the topics for which the group has one.
func (l *Lookup) Committed(ctx context.Context, group string, topics ...string) (map[TopicPartition]int64, error) {
	fetched, err := l.adm.FetchOffsetsForTopics(ctx, group, topics...)
	if err == nil {
		err = fetched.Error()
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		return map[TopicPartition]int64{}, nil // it has never committed anything
	}
	if err != nil {
		return nil, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	committed := map[TopicPartition]int64{}
	fetched.Each(func(o kadm.OffsetResponse) {
		if o.At >= 0 {
			committed[TopicPartition{o.Topic, o.Partition}] = o.At
		}
	})
	return committed, nil
}
