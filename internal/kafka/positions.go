package kafka

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// prepareTimeout bounds the look-ups and commits at the start of a session. It outlasts the restart of a broker.
const prepareTimeout = 15 * time.Second

// OutOfRangeError says that a group stands, or was told to go, where its partition has no records: the offset was never
// written (the topic was made anew, or a broker has lost its end), or it was removed from a topic of GroupConfig.Truth.
// Nothing is skipped: an operator has to decide.
type OutOfRangeError struct {
	Group string
	TopicPartition
	// Offset is the committed or wanted offset; the partition has Start to End, where End is the next to be written.
	Offset, Start, End int64
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("group %s: offset %d of %s/%d is outside of its range %d to %d: "+
		"records are missing; reset the group's offset to go on", e.Group, e.Offset, e.Topic, e.Partition, e.Start, e.End)
}

// NotOwnedError lists the partitions of a seek that this member of the group does not own.
type NotOwnedError struct {
	Group      string
	Partitions []TopicPartition
}

func (e *NotOwnedError) Error() string {
	return fmt.Sprintf("group %s: this member does not own %v: seek at the member that does", e.Group, e.Partitions)
}

func compareTopicPartition(a, b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// place is where a claim begins, and the range that its partition has.
type place struct {
	at         int64
	start, end int64
	moved      bool // at is not what is committed
	none       bool // nothing was committed: at is the start
}

func (p place) holds(offset int64) bool { return offset >= p.start && offset <= p.end }

// newAdmin connects a client for look-ups; it gives up on a request after a while so that no session hangs in it.
func newAdmin(brokers []string, opts []kgo.Opt) (*kadm.Client, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.RetryTimeout(prepareTimeout)},
		opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make a Kafka admin client for %v: %w", brokers, err)
	}
	return kadm.NewClient(client), nil
}

// places looks up where the group stands in the claims. A claim without a commit begins at the start of its partition.
func places(ctx context.Context, adm *kadm.Client, group string, claims map[string][]int32) (
	map[TopicPartition]place, error) {
	topics := make([]string, 0, len(claims))
	for topic := range claims {
		topics = append(topics, topic)
	}
	found := map[TopicPartition]place{}
	if len(topics) == 0 {
		return found, nil
	}
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("group %s: list the start offsets of %v: %w", group, topics, err)
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("group %s: list the end offsets of %v: %w", group, topics, err)
	}
	commits, err := adm.FetchOffsetsForTopics(ctx, group, topics...)
	if err != nil {
		return nil, fmt.Errorf("group %s: fetch the committed offsets: %w", group, err)
	}
	for topic, partitions := range claims {
		for _, partition := range partitions {
			start, _ := starts.Lookup(topic, partition)
			end, _ := ends.Lookup(topic, partition)
			commit, ok := commits.Lookup(topic, partition)
			for _, err := range []error{start.Err, end.Err, commit.Err} {
				if err != nil {
					return nil, fmt.Errorf("group %s: look up the offsets of %s/%d: %w", group, topic, partition, err)
				}
			}
			p := place{at: commit.At, start: start.Offset, end: end.Offset}
			if !ok || commit.At < 0 {
				p.at, p.none = start.Offset, true
			}
			found[TopicPartition{topic, partition}] = p
		}
	}
	return found, nil
}

// commitMoved commits the places that moved and reads them back, because sarama's Commit does not tell whether it has
// worked.
func commitMoved(ctx context.Context, adm *kadm.Client, group string, sess sarama.ConsumerGroupSession,
	to map[TopicPartition]place) error {
	moved := map[TopicPartition]int64{}
	topics := map[string]bool{}
	for at, p := range to {
		if p.moved {
			moved[at] = p.at
			topics[at.Topic] = true
			// The first lowers, the second raises: one of them takes effect.
			sess.ResetOffset(at.Topic, at.Partition, p.at, "")
			sess.MarkOffset(at.Topic, at.Partition, p.at, "")
		}
	}
	if len(moved) == 0 {
		return nil
	}
	names := make([]string, 0, len(topics))
	for topic := range topics {
		names = append(names, topic)
	}
	for {
		sess.Commit()
		commits, err := adm.FetchOffsetsForTopics(ctx, group, names...)
		if err != nil {
			return fmt.Errorf("group %s: read back the offsets that a seek committed: %w", group, err)
		}
		pending := 0
		for at, offset := range moved {
			if commit, ok := commits.Lookup(at.Topic, at.Partition); !ok || commit.Err != nil || commit.At != offset {
				pending++
			}
		}
		if pending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("group %s: %d of %d offsets of a seek are not committed: %w", group, pending, len(moved),
				context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
