package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Gone is records that were removed from a partition before the group had processed them: those from From up to, not
// including, To. Of a compacted topic, or after an aborted transaction, there were fewer.
type Gone struct{ From, To int64 }

// Removed is how many records of each topic were removed before this process, which had to process them, could: by
// retention, or by hand. The count begins when the process does.
func (g *Group) Removed() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.removed)
}

// skipRemoved lets the claims that stand below their partition's start begin there, once GroupConfig.Removed has done
// what makes good for what they skip, and says what that is. Until then nothing is committed, so whoever comes after a
// crash finds it again.
func (h *handler) skipRemoved(ctx context.Context, at map[TopicPartition]place) (map[TopicPartition]Gone, error) {
	cfg := h.member.group.cfg
	gone := map[TopicPartition]Gone{}
	for tp, p := range at {
		if p.at < p.start {
			gone[tp] = Gone{p.at, p.start}
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	where := slices.SortedFunc(maps.Keys(gone), compareTopicPartition)
	ranges := make([]string, len(where))
	for i, tp := range where {
		ranges[i] = fmt.Sprintf("%s/%d from %d to %d", tp.Topic, tp.Partition, gone[tp].From, gone[tp].To)
	}
	cfg.Logger.Error("records were removed from the log before the group had processed them: it goes on with the first "+
		"that is left", "removed", ranges)
	if cfg.Removed != nil {
		if err := cfg.Removed(ctx, gone); err != nil {
			return nil, fmt.Errorf("group %s: make good for removed records (%v): %w", cfg.Name, ranges, err)
		}
	}
	for tp := range gone {
		p := at[tp]
		p.at, p.moved, p.none = p.start, true, false
		at[tp] = p
	}
	return gone, nil
}

// countRemoved is for what was removed once the group has committed that it goes on behind that.
func (g *Group) countRemoved(gone map[TopicPartition]Gone) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.removed == nil {
		g.removed = map[string]int64{}
	}
	for tp, records := range gone {
		g.removed[tp.Topic] += records.To - records.From
	}
}
