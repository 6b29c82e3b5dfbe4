package cassandrastore

import (
	"cmp"
	"context"
	"slices"

	"github.com/gocql/gocql"
	"golang.org/x/sync/errgroup"
)

// write is one statement of a batch.
type write struct {
	partition partition
	statement string
	args      []any
	bytes     int // about what it is for the server
}

// A batch is unlogged: it saves round trips and promises nothing, which is enough where every write may be repeated. It
// holds up to maxPartitions partitions or up to batchBytes, above which a node, as it comes, complains in its log; and
// of a single partition, which is one write for the node, up to partitionRows and partitionBytes.
const (
	maxPartitions  = 10
	batchBytes     = 5 << 10
	partitionRows  = 200
	partitionBytes = 64 << 10

	// maxInFlight is how many requests of a Store may be under way. More only wait in the server's queue.
	maxInFlight = 32
	// rowBytes is about what a row takes beside its text.
	rowBytes = 150
)

// send carries out writes in any order, several batches at once. After an error any of them may have been carried out.
func (s *Store) send(ctx context.Context, writes []write) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, batch := range batches(writes) {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return cmp.Or(g.Wait(), ctx.Err())
		}
		g.Go(func() error {
			defer func() { <-s.slots }()
			return s.execute(ctx, batch)
		})
	}
	return g.Wait()
}

// execute sends one batch to a replica of its first partition.
func (s *Store) execute(ctx context.Context, writes []write) error {
	if len(writes) == 1 {
		return s.session.Query(writes[0].statement, writes[0].args...).WithContext(ctx).Exec()
	}
	batch := s.session.NewBatch(gocql.UnloggedBatch).WithContext(ctx)
	for _, w := range writes {
		batch.Entries = append(batch.Entries, gocql.BatchEntry{Stmt: w.statement, Args: w.args, Idempotent: true})
	}
	return s.session.ExecuteBatch(batch)
}

// batches cuts writes into batches. Writes of a partition, and partitions that lie on the same replicas, come together.
func batches(writes []write) [][]write {
	type placed struct {
		write
		token int64
	}
	order := make([]placed, len(writes))
	for i, w := range writes {
		order[i] = placed{w, w.partition.token()}
	}
	slices.SortStableFunc(order, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.token, b.token), a.partition.compare(b.partition))
	})
	var all [][]write
	var open []write // the batch that fills
	partitions, bytes := 0, 0
	for i, w := range order {
		another := i == 0 || w.partition != order[i-1].partition
		if another {
			partitions++
		}
		bytes += w.bytes
		full := bytes > batchBytes || partitions > maxPartitions
		if partitions == 1 {
			full = len(open) >= partitionRows || bytes > partitionBytes
		}
		if full && len(open) > 0 {
			all = append(all, open)
			open, partitions, bytes = nil, 1, w.bytes
		}
		open = append(open, w.write)
	}
	if len(open) > 0 {
		all = append(all, open)
	}
	return all
}

func (p partition) compare(other partition) int {
	return cmp.Or(cmp.Compare(p.first, other.first), cmp.Compare(p.second, other.second))
}
