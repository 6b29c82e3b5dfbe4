package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Fetched is a record as a Reader reads it.
type Fetched struct {
	Partition int32
	Offset    int64
	Time      time.Time // when its producer made it, by the producer's clock, to the millisecond
	Key       []byte
	Value     []byte
}

// Reader reads partitions of a topic from given offsets on, for itself: it is no member of a group and commits nothing.
// It is for one goroutine.
type Reader struct {
	client *kgo.Client
	topic  string
}

// readAtOnce bounds what a Reader fetches from a broker at once, in bytes.
const readAtOnce = 8 << 20

// OpenReader makes a reader that begins, in each partition of from, at the offset there. Where that has been removed it
// begins at what is left, which shows by the offsets of the records. It connects with the first Poll. opts are those of
// ClientOptions.
func OpenReader(brokers []string, topic string, from map[int32]int64, opts ...kgo.Opt) (*Reader, error) {
	at := make(map[int32]kgo.Offset, len(from))
	for partition, offset := range from {
		at[partition] = kgo.NewOffset().At(offset)
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(readAtOnce),
		kgo.FetchMaxPartitionBytes(readAtOnce / 8),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make a reader of %s at %v: %w", topic, brokers, err)
	}
	return &Reader{client, topic}, nil
}

// Poll waits for records and returns up to max of them, those of a partition in their order. It returns none when ctx
// ends. Records may come with an error about other partitions; after an error, reading goes on where it was.
func (r *Reader) Poll(ctx context.Context, most int) ([]Fetched, error) {
	fetches := r.client.PollRecords(ctx, most)
	var errs []error
	fetches.EachError(func(_ string, partition int32, err error) {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, fmt.Errorf("read partition %d of %s: %w", partition, r.topic, err))
		}
	})
	records := make([]Fetched, 0, fetches.NumRecords())
	fetches.EachRecord(func(record *kgo.Record) {
		records = append(records, Fetched{
			record.Partition, record.Offset, record.Timestamp, record.Key, record.Value,
		})
	})
	return records, errors.Join(errs...)
}

// Close ends the reader.
func (r *Reader) Close() { r.client.Close() }

// Starts is the offset of the first record of every partition of a topic that has not been removed.
func (l *Lookup) Starts(ctx context.Context, topic string) (map[int32]int64, error) {
	listed, err := l.adm.ListStartOffsets(ctx, topic)
	return offsetsOf(topic, listed, err)
}

// Since is, for every partition of a topic, the offset of the first record that is of a time or later; the end if there
// is none.
func (l *Lookup) Since(ctx context.Context, topic string, at time.Time) (map[int32]int64, error) {
	listed, err := l.adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topic)
	return offsetsOf(topic, listed, err)
}

func offsetsOf(topic string, listed kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	offsets := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { offsets[o.Partition] = o.Offset })
	return offsets, nil
}
