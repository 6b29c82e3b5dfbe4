package offsets

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Plan looks up where the group stands and plans a reset. A topic or partition that does not exist is an error that
// wraps ErrUnknown.
func (c *Cluster) Plan(ctx context.Context, scope Scope, to Target, allow Allow) (Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	g, err := c.describe(ctx, scope.Group())
	if err != nil {
		return Plan{}, err
	}
	var from []Snapshot
	for _, part := range scope.parts {
		standings, err := c.standings(ctx, scope.Group(), part.topic)
		if err != nil {
			return Plan{}, err
		}
		for _, partition := range part.partitions {
			if !slices.ContainsFunc(standings, func(s Standing) bool { return s.Partition == partition }) {
				return Plan{}, fmt.Errorf("%w partition %d: %s has 0 to %d", ErrUnknown, partition, part.topic, len(standings)-1)
			}
		}
		snapshot := Snapshot{Topic: part.topic, Standings: slices.DeleteFunc(standings, func(s Standing) bool {
			return len(part.partitions) > 0 && !slices.Contains(part.partitions, s.Partition)
		})}
		if to.kind == toTime {
			if err := c.findTime(ctx, to.time, &snapshot); err != nil {
				return Plan{}, err
			}
		}
		from = append(from, snapshot)
	}
	p := NewPlan(scope, to, from, allow)
	p.Members = g.Members
	return p, nil
}

func (c *Cluster) findTime(ctx context.Context, at time.Time, into *Snapshot) error {
	failed := func(err error) error { return fmt.Errorf("look up times in %s: %w", into.Topic, err) }
	// Records are stamped in milliseconds, and one of the same millisecond may be older.
	found, err := listed(c.adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), into.Topic))
	if err != nil {
		return failed(err)
	}
	newest, err := listed(c.adm.ListMaxTimestampOffsets(ctx, into.Topic))
	if err != nil {
		return failed(err)
	}
	into.AtTime = map[int32]Found{}
	found.Each(func(o kadm.ListedOffset) {
		if o.Timestamp >= 0 {
			into.AtTime[o.Partition] = Found{o.Offset, time.UnixMilli(o.Timestamp)}
		}
	})
	newest.Each(func(o kadm.ListedOffset) {
		if t := time.UnixMilli(o.Timestamp); o.Timestamp >= 0 && t.After(into.Newest) {
			into.Newest = t
		}
	})
	if into.Horizon, err = c.horizon(ctx, into.Topic); err != nil {
		return failed(err)
	}
	return nil
}

// horizon is the time before which the topic's retention removes records, the zero time if it removes none by age.
func (c *Cluster) horizon(ctx context.Context, topic string) (time.Time, error) {
	configs, err := c.adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return time.Time{}, err
	}
	config, err := configs.On(topic, nil)
	if err == nil {
		err = config.Err
	}
	if err != nil {
		return time.Time{}, err
	}
	for _, setting := range config.Configs {
		if ms, err := strconv.ParseInt(setting.MaybeValue(), 10, 64); setting.Key == "retention.ms" && err == nil && ms >= 0 {
			return time.Now().Add(-time.Duration(ms) * time.Millisecond), nil
		}
	}
	return time.Time{}, nil
}

// Export is where the groups stand, a row for each partition: of one group, or for an empty name of all. Where a group
// has committed nothing the row has the start, from which it would begin; these rows are also in begins.
func (c *Cluster) Export(ctx context.Context, name string) (rows, begins []Row, err error) {
	groups, err := c.Groups(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	for _, g := range groups {
		for _, t := range g.Topics {
			for _, s := range t.Partitions {
				row := Row{g.Name, t.Name, s.Partition, s.Committed}
				if s.Committed == Nothing {
					row.Offset = s.Start
					begins = append(begins, row)
				}
				rows = append(rows, row)
			}
		}
	}
	return rows, begins, nil
}
