package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freshet"
	"freshet/internal/kafka"
)

// ends are the ends of a topic's partitions.
func (s *Sources) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	found, err := s.lookup.Ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends := make(map[int32]int64, len(found))
	for at, end := range found {
		ends[at.Partition] = end
	}
	return ends, nil
}

// committed is where fan-out stands in a topic: at its start where it has committed nothing.
func (s *Sources) committed(ctx context.Context, topic string) (map[int32]int64, error) {
	at, err := s.lookup.Starts(ctx, topic)
	if err != nil {
		return nil, err
	}
	found, err := s.lookup.Committed(ctx, s.cfg.Names.Group(freshet.FanoutGroup), topic)
	for p, offset := range found {
		at[p.Partition] = max(at[p.Partition], offset)
	}
	return at, err
}

// recordTimeout bounds the reading of single records and short spans.
const recordTimeout = 30 * time.Second

// record reads the record at an offset, or the next one that is there.
func (s *Sources) record(ctx context.Context, topic string, partition int32, offset int64) (kafka.Fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	reader, err := kafka.OpenReader(s.cfg.Brokers, topic, map[int32]int64{partition: offset}, s.options...)
	if err != nil {
		return kafka.Fetched{}, err
	}
	defer reader.Close()
	for ctx.Err() == nil {
		records, err := reader.Poll(ctx, 1)
		if len(records) > 0 {
			return records[0], nil
		}
		if err != nil {
			return kafka.Fetched{}, err
		}
	}
	return kafka.Fetched{}, fmt.Errorf("read %s/%d at %d: %w", topic, partition, offset, context.Cause(ctx))
}

// span calls take for every record from from up to ends.
func (s *Sources) span(
	ctx context.Context, topic string, from, ends map[int32]int64, take func(kafka.Fetched),
) error {
	next := map[int32]int64{}
	for partition, end := range ends {
		if from[partition] < end {
			next[partition] = from[partition]
		}
	}
	if len(next) == 0 {
		return nil
	}
	reader, err := kafka.OpenReader(s.cfg.Brokers, topic, next, s.options...)
	if err != nil {
		return err
	}
	defer reader.Close()
	for len(next) > 0 {
		waiting, cancel := context.WithTimeout(ctx, recordTimeout)
		records, err := reader.Poll(waiting, pollRecords)
		cancel()
		if len(records) == 0 {
			return errors.Join(fmt.Errorf("%s gives no records", topic), err, context.Cause(ctx))
		}
		for _, r := range records {
			if r.Offset < ends[r.Partition] {
				take(r)
			}
			if r.Offset+1 >= ends[r.Partition] {
				delete(next, r.Partition)
			}
		}
	}
	return nil
}
