package replay

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/offsets"
	"freshet/processors/directory"
)

// Author is the number of an account, given by its id, or by the number itself behind a '#'. The directory's table in
// Kafka tells it.
func (r *Replayer) Author(ctx context.Context, id string) (freshet.Number, error) {
	if number, ok := strings.CutPrefix(id, freshet.NumberKeyPrefix); ok {
		return freshet.ParseNumber(number)
	}
	table := r.cfg.Names.Table(freshet.DirectoryGroup)
	ends, err := r.lookup.Ends(ctx, table)
	if err != nil {
		return 0, err
	}
	partition := freshet.PartitionOf(id, int32(len(ends)))
	end := int64(0)
	for at, offset := range ends {
		if at.Partition == partition {
			end = offset
		}
	}
	unknown := fmt.Errorf("%w account %s: no table row has it", offsets.ErrUnknown, id)
	if end == 0 {
		return 0, unknown
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.cfg.Brokers...), kgo.ClientID("freshet-replay"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{table: {partition: kgo.NewOffset().AtStart()}}),
	}, r.cfg.Clients...)...)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", table, err)
	}
	defer client.Close()
	var row *events.DirectoryRow
	for next := int64(0); next < end; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("read %s: %w", table, err)
		}
		if err := fetches.Err(); err != nil {
			return 0, fmt.Errorf("read %s: %w", table, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			next = rec.Offset + 1
			if string(rec.Key) != id {
				return
			}
			value, _ := directory.Table.Decode(rec.Value) // its error is always nil
			row, _ = value.(*events.DirectoryRow)
		})
	}
	if row == nil {
		return 0, unknown
	}
	return freshet.Number(row.GetNumber()), nil
}
