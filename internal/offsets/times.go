package offsets

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// timesTimeout bounds reading a record of each partition. What has not come by then has no time in the listing.
const timesTimeout = 5 * time.Second

// Describe is Groups, with the time of the record that each group processes next in each partition: how far behind it
// is in time, and not only in records.
func (c *Cluster) Describe(ctx context.Context, name string) ([]Group, error) {
	groups, err := c.Groups(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if err := c.findNext(ctx, g); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// findNext reads the next record of each partition in which the group is behind.
func (c *Cluster) findNext(ctx context.Context, g Group) error {
	from := map[string]map[int32]kgo.Offset{}
	missing := map[string]map[int32]*Standing{}
	for _, t := range g.Topics {
		for i := range t.Partitions {
			s := &t.Partitions[i]
			if s.Lag() == 0 {
				continue
			}
			if from[t.Name] == nil {
				from[t.Name], missing[t.Name] = map[int32]kgo.Offset{}, map[int32]*Standing{}
			}
			from[t.Name][s.Partition] = kgo.NewOffset().At(s.Position())
			missing[t.Name][s.Partition] = s
		}
	}
	if len(from) == 0 {
		return nil
	}
	// A broker answers with a batch at least, so the least that can be asked for is enough.
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.ConsumePartitions(from), kgo.FetchMaxPartitionBytes(1), kgo.FetchMaxWait(100 * time.Millisecond),
	}, c.opts...)...)
	if err != nil {
		return fmt.Errorf("look up the times of records: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, timesTimeout)
	defer cancel()
	for len(missing) > 0 && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			s := missing[r.Topic][r.Partition]
			if s == nil {
				return
			}
			s.Next = r.Timestamp
			delete(missing[r.Topic], r.Partition)
			if len(missing[r.Topic]) == 0 {
				delete(missing, r.Topic)
			}
		})
	}
	return nil
}
