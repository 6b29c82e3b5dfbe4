package replay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"freshet/internal/offsets"
)

// idSlack is how much earlier than the time in its id, or later, a post may be in the log, by the clocks of the API
// processes: what lies further away is not looked at.
const idSlack = 10 * time.Minute

// ranges looks the range up in each partition of posts.
func (r *Replayer) ranges(ctx context.Context, s Spec) ([]Part, error) {
	starts, err := r.listed(r.adm.ListStartOffsets(ctx, r.posts))
	if err != nil {
		return nil, err
	}
	ends, err := r.listed(r.adm.ListEndOffsets(ctx, r.posts))
	if err != nil {
		return nil, err
	}
	from, err := r.offsetsOf(ctx, s.From, -idSlack)
	if err != nil {
		return nil, err
	}
	to, err := r.offsetsOf(ctx, s.To, idSlack)
	if err != nil {
		return nil, err
	}
	for _, partition := range s.Partitions {
		if _, ok := ends[partition]; !ok {
			return nil, fmt.Errorf("%w partition %d: %s has 0 to %d", offsets.ErrUnknown, partition, r.posts, len(ends)-1)
		}
	}
	var parts []Part
	var gone []string
	for partition := range int32(len(ends)) {
		if len(s.Partitions) > 0 && !slices.Contains(s.Partitions, partition) {
			continue
		}
		start, end := starts[partition].Offset, ends[partition].Offset
		p := Part{Partition: partition, From: end, To: end}
		if o, ok := from[partition]; ok {
			p.From = o.Offset
		}
		if o, ok := to[partition]; ok {
			p.To = o.Offset
		}
		if p.From > end || s.To.kind == byOffset && p.To > end {
			return nil, fmt.Errorf("%w: partition %d of %s has %d to %d", ErrRange, partition, r.posts, start, end)
		}
		if s.From.kind == byOffset {
			p.Missing = max(min(start, p.To)-p.From, 0)
		} else if start > 0 && p.From == start {
			p.Missing = start // at most: nobody knows of when they were
		}
		if p.Missing > 0 {
			gone = append(gone, fmt.Sprintf("%d (%d records at most)", partition, p.Missing))
		}
		p.From = max(p.From, start)
		p.To = max(p.To, p.From)
		p.Next = p.From
		parts = append(parts, p)
	}
	if len(gone) > 0 && !s.Truncated {
		return nil, fmt.Errorf("%w: retention has removed what was before in partition %s of %s; --allow-truncated replays "+
			"what is left, --from-store reads what is gone from the post store", ErrTruncated, strings.Join(gone, ", "), r.posts)
	}
	if _, total := (State{Parts: parts}).Progress(); total == 0 {
		return nil, fmt.Errorf("%w: no record of %s is from %s on and before %s", ErrRange, r.posts, s.From, s.To)
	}
	return parts, nil
}

// offsetsOf is where a bound lies in each partition; where nothing is that late it lies nowhere.
func (r *Replayer) offsetsOf(ctx context.Context, b Bound, slack time.Duration) (map[int32]kadm.ListedOffset, error) {
	at := b.time
	switch b.kind {
	case byOffset:
		found, err := r.listed(r.adm.ListEndOffsets(ctx, r.posts))
		for partition, o := range found {
			o.Offset = b.offset
			found[partition] = o
		}
		return found, err
	case byPost:
		if slack > 0 {
			return map[int32]kadm.ListedOffset{}, nil // its edits and its delete may come at any time
		}
		at = b.post.Time().Add(slack)
	}
	found, err := r.listed(r.adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), r.posts))
	for partition, o := range found {
		if o.Timestamp < 0 {
			delete(found, partition)
		}
	}
	return found, err
}

func (r *Replayer) listed(found kadm.ListedOffsets, err error) (map[int32]kadm.ListedOffset, error) {
	if err == nil {
		err = found.Error()
	}
	if err == nil && len(found[r.posts]) == 0 {
		err = fmt.Errorf("%w topic: is the prefix right?", offsets.ErrUnknown)
	}
	if err != nil {
		return nil, fmt.Errorf("look up offsets in %s: %w", r.posts, err)
	}
	return found[r.posts], nil
}
