package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/processors/fanout"
)

// A network is put in place where a processor that has just started finds it: in the topics of the tables. What follows
// from follow events, reports and subtotals would be the same rows, and take hours for a million accounts.

// produce writes rows into a table's topic. Close waits for all of them.
type produce struct {
	b      *bench
	topic  string
	failed atomic.Pointer[error]
	rows   int
}

func (b *bench) produce(group freshet.Group) *produce {
	return &produce{b: b, topic: b.servers.names.Table(group)}
}

func (p *produce) row(ctx context.Context, key string, row proto.Message) error {
	value, err := proto.Marshal(row)
	if err != nil {
		return fmt.Errorf("encode the row %q of %s: %w", key, p.topic, err)
	}
	p.rows++
	record := &kgo.Record{
		Topic: p.topic, Partition: freshet.PartitionOf(key, p.b.Partitions), Key: []byte(key), Value: value,
	}
	p.b.servers.kgo.Produce(ctx, record, func(_ *kgo.Record, err error) {
		if err != nil {
			p.failed.CompareAndSwap(nil, &err)
		}
	})
	return p.err()
}

func (p *produce) err() error {
	if err := p.failed.Load(); err != nil {
		return fmt.Errorf("write %s: %w", p.topic, *err)
	}
	return nil
}

func (p *produce) close(ctx context.Context) error {
	if err := p.b.servers.kgo.Flush(ctx); err != nil {
		return fmt.Errorf("write %s: %w", p.topic, err)
	}
	return p.err()
}

// putTrees writes the follower trees.
func (b *bench) putTrees(ctx context.Context, authors []author) error {
	p := b.produce(freshet.FanoutGroup)
	for i, a := range authors {
		b.Progress("write follower trees", i, len(authors))
		var failed error
		tree(fanout.Address{Author: a.number}, a.followers, func(at fanout.Address, n *fanout.Node) {
			if failed == nil {
				failed = p.row(ctx, at.Key(), fanout.EncodeNode(n))
			}
		})
		if failed != nil {
			return failed
		}
	}
	b.Progress("write follower trees", len(authors), len(authors))
	return p.close(ctx)
}

// rowVersion is that of every row and feed that is put in place: the feeds are built from the rows as they are.
const rowVersion = 1

// putRows writes whom each account follows, and the directory.
func (b *bench) putRows(ctx context.Context, n *network) error {
	follows := make([][]freshet.Number, n.count)
	for _, a := range n.authors { // by number of the author, if the authors are in order
		for _, follower := range a.followers {
			place := n.place(follower)
			follows[place] = append(follows[place], a.number)
		}
	}
	rows, accounts := b.produce(freshet.FollowingGroup), b.produce(freshet.DirectoryGroup)
	now := time.Now().UnixMilli()
	for place, followed := range follows {
		if place%1000 == 0 {
			b.Progress("write accounts and follows", place, n.count)
		}
		number, id := n.number(place), n.id(place)
		row := &freshet.Following{Version: rowVersion}
		for _, account := range followed {
			row.SetRelation(freshet.Relation{Account: account, Follows: true, Applied: true, AppliedAt: rowVersion})
		}
		if err := rows.row(ctx, number.Key(), events.EncodeFollowing(row)); err != nil {
			return err
		}
		account := &events.DirectoryRow{Id: string(id), Number: uint64(number), CreatedAt: now}
		if err := accounts.row(ctx, string(id), account); err != nil {
			return err
		}
		if err := accounts.row(ctx, freshet.NumberKey(number), &events.DirectoryRow{Id: string(id)}); err != nil {
			return err
		}
	}
	b.Progress("write accounts and follows", n.count, n.count)
	return accounts.close(ctx)
}

// openZones gives the zones of a Redis that holds nothing their first token, as the first start of fan-out does.
func openZones(ctx context.Context, conn feeds.Conn, layout feeds.Layout) (string, error) {
	const token = "1-bench"
	ops := make([]feeds.Op, layout.Zones)
	for zone := range ops {
		ops[zone] = &feeds.Recover{Zone: feeds.Zone(zone), Writer: "bench", New: token}
	}
	if err := conn.Do(ctx, ops...); err != nil {
		return "", fmt.Errorf("open the zones: %w", err)
	}
	return token, nil
}

// warm makes the feeds of all accounts warm, as their readers would: entries old posts each. The logs of the blocks are
// filled to anywhere below the limit, so that from the first entry on as many blocks are compacted as in the long run.
func (b *bench) warm(ctx context.Context, conn feeds.Conn, layout feeds.Layout, n *network, logLimit int) error {
	token, err := openZones(ctx, conn, layout)
	if err != nil {
		return err
	}
	feed := feeds.Feed{Header: feeds.Header{Read: feeds.DayOf(time.Now()), RowVersion: rowVersion}}
	old := freshet.FirstPostID(time.Now().Add(-time.Hour))
	for i := range b.Entries {
		feed.IDs = append(feed.IDs, old-freshet.PostID(i)<<22)
	}
	values := map[byte][]byte{}
	for slot := range byte(freshet.SlotsPerBlock) {
		values[slot] = feed.Encode()
	}
	blocks := n.blocks()
	const together = 16
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for worker := range 2 {
		g.Go(func() error {
			rng := rand.New(rand.NewPCG(b.Seed, uint64(worker)))
			for at := worker * together; at < len(blocks); at += 2 * together {
				var ops []feeds.Op
				for _, block := range blocks[at:min(at+together, len(blocks))] {
					ops = append(ops, &feeds.Compact{
						Block: block, Token: token, Next: fmt.Sprintf("bench%d", block), Feeds: values,
					})
					if logLimit == 0 || b.Entries == 0 {
						continue
					}
					// Piece by piece, so that Redis gives it as much room as logs have that grow.
					for log := range slices.Chunk(oldLog(rng, rng.IntN(logLimit), old), 200*9) {
						ops = append(ops, &feeds.AppendLog{Block: block, Entries: log})
					}
				}
				if err := conn.Do(ctx, ops...); err != nil {
					return fmt.Errorf("make feeds warm: %w", err)
				}
				b.Progress("make feeds warm", int(done.Add(together)), len(blocks))
			}
			return nil
		})
	}
	return g.Wait()
}

// oldLog is a log of about so many bytes whose entries are newer than old.
func oldLog(rng *rand.Rand, size int, old freshet.PostID) []byte {
	log := make([]byte, 0, size+16)
	for len(log) < size {
		old += 1 << 12
		log = feeds.AppendEntry(log, byte(rng.IntN(freshet.SlotsPerBlock)), old)
	}
	return log
}

// blocks are those of all accounts.
func (n *network) blocks() []uint64 {
	var blocks []uint64
	for partition := range n.partitions {
		for place := int(partition); place < n.count; place += freshet.SlotsPerBlock * int(n.partitions) {
			blocks = append(blocks, n.number(place).Block())
		}
	}
	return blocks
}
