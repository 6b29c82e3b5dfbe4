package offsets

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Plan looks up where the group stands and plans a reset. Without partitions it is for all; one that does not exist is
// an error that wraps ErrUnknown.
func (c *Cluster) Plan(ctx context.Context, in Input, to Target, partitions []int32) (Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	standings, err := c.standings(ctx, in.Group(), in.Topic())
	if err != nil {
		return Plan{}, err
	}
	for _, partition := range partitions {
		if !slices.ContainsFunc(standings, func(s Standing) bool { return s.Partition == partition }) {
			return Plan{}, fmt.Errorf("%w partition %d: %s has 0 to %d", ErrUnknown, partition, in.Topic(), len(standings)-1)
		}
	}
	snapshot := Snapshot{Standings: slices.DeleteFunc(standings, func(s Standing) bool {
		return len(partitions) > 0 && !slices.Contains(partitions, s.Partition)
	})}
	if to.kind == toTime {
		if err := c.findTime(ctx, in.Topic(), to.time, &snapshot); err != nil {
			return Plan{}, err
		}
	}
	return NewPlan(in, to, snapshot), nil
}

func (c *Cluster) findTime(ctx context.Context, topic string, at time.Time, into *Snapshot) error {
	failed := func(err error) error { return fmt.Errorf("look up times in %s: %w", topic, err) }
	// Records are stamped in milliseconds, and one of the same millisecond may be older.
	found, err := listed(c.adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topic))
	if err != nil {
		return failed(err)
	}
	newest, err := listed(c.adm.ListMaxTimestampOffsets(ctx, topic))
	if err != nil {
		return failed(err)
	}
	into.AtTime = map[int32]int64{}
	found.Each(func(o kadm.ListedOffset) {
		if o.Timestamp >= 0 {
			into.AtTime[o.Partition] = o.Offset
		}
	})
	newest.Each(func(o kadm.ListedOffset) {
		if t := time.UnixMilli(o.Timestamp); o.Timestamp >= 0 && t.After(into.Newest) {
			into.Newest = t
		}
	})
	return nil
}
