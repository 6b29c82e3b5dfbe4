package rebuild

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"

	"freshet"
	"freshet/internal/audit"
	"freshet/internal/kafka"
	"freshet/internal/posts"
)

// Store stores every event that the log of posts has once more. Each column of a row knows the offset that wrote it, so
// nothing older replaces anything newer, whatever the archive does meanwhile.
type Store struct {
	Brokers []string
	Names   freshet.Names
	Sarama  func(clientID string) *sarama.Config
	Store   posts.Store
	// Rate is how many events are stored each second; 0: as fast as it goes.
	Rate     float64
	Progress Progress
}

// StoreSummary is what was read and stored.
type StoreSummary struct {
	Events int `json:"events"`
	// Unread records cannot be read; they are dead letters.
	Unread int `json:"unread"`
	// Removed is how many records were in the log once and are not any more; they cannot be stored again.
	Removed int64 `json:"removed"`
}

// eventsAtOnce are stored by one call.
const eventsAtOnce = 512

// Run reads the log from its beginning up to the ends that it has now.
func (r Store) Run(ctx context.Context) (s StoreSummary, err error) {
	topic, opts := r.Names.Topic(freshet.Posts), kafka.ClientOptions(r.Sarama)
	lookup, err := kafka.NewLookup(r.Brokers, opts...)
	if err != nil {
		return s, err
	}
	defer lookup.Close()
	starts, err := lookup.Starts(ctx, topic)
	if err != nil {
		return s, err
	}
	ends, err := lookup.Ends(ctx, topic)
	if err != nil {
		return s, err
	}
	left, total, done := map[int32]int64{}, 0, 0
	for at, end := range ends {
		s.Removed += starts[at.Partition]
		if n := end - starts[at.Partition]; n > 0 {
			left[at.Partition] = end
			total += int(n)
		}
	}
	if total == 0 {
		return s, nil
	}
	reader, err := kafka.OpenReader(r.Brokers, topic, starts, opts...)
	if err != nil {
		return s, err
	}
	defer reader.Close()
	for at := (pace{rate: r.Rate}); len(left) > 0; {
		records, err := reader.Poll(ctx, eventsAtOnce)
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		if err != nil && len(records) == 0 {
			return s, err
		}
		stored := audit.Events(records)
		if err := r.Store.Apply(ctx, stored); err != nil {
			return s, fmt.Errorf("store %d events: %w", len(stored), err)
		}
		s.Events += len(stored)
		s.Unread += len(records) - len(stored)
		for _, record := range records {
			if end, wanted := left[record.Partition]; wanted && record.Offset+1 >= end {
				delete(left, record.Partition)
			}
		}
		done = min(done+len(records), total)
		r.Progress("storing events of posts", done, total)
		if err := at.spend(ctx, len(records)); err != nil {
			return s, err
		}
	}
	return s, nil
}
