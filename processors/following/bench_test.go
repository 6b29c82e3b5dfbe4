package following_test

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/kafka"
	"freshet/internal/tables"
	"freshet/processors/following"
	"freshet/processors/processortest"
)

// A population: accounts with as many follows each, as an import and its reports leave them.
const (
	followsEach       = 20
	benchPartitions   = 8
	accountsPerFollow = 20 // there are as many accounts to follow as follows, divided by this
)

// benchFollows is FRESHET_FOLLOWS, or a million.
func benchFollows(b *testing.B) int {
	b.Helper()
	text := os.Getenv("FRESHET_FOLLOWS")
	if text == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// population yields rows, before and after their reports.
func population(follows int, yield func(n freshet.Number, before, after *freshet.Following)) {
	random := rand.New(rand.NewPCG(1, 1))
	accounts := follows / accountsPerFollow
	number := func(i int) freshet.Number {
		return freshet.NumberAt(int32(i%benchPartitions), int64(i/benchPartitions))
	}
	offsets := make([]int64, benchPartitions)
	for i := range follows / followsEach {
		n := number(i)
		partition := freshet.PartitionOf(n.Key(), benchPartitions)
		event := following.Event{Kind: following.Follow, Offset: offsets[partition], Follower: n}
		offsets[partition]++
		for range followsEach {
			event.Targets = append(event.Targets, number(random.IntN(accounts)))
		}
		before, says := following.Apply(nil, event)
		var reports []following.AppliedReport
		for _, s := range says {
			reports = append(reports, following.AppliedReport{
				Follower: n, Followee: s.Followee, Held: true, Version: s.Version,
			})
		}
		random.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
		after := before
		for batch := range slices.Chunk(reports, 5) {
			after, _ = following.Report(after, batch...)
		}
		yield(n, before, after)
	}
}

// BenchmarkRow is what a row costs: bytes of a relation in Kafka and in memory, and the time to read and write it.
func BenchmarkRow(b *testing.B) {
	var rows [][]byte
	bytes := 0
	population(100_000, func(_ freshet.Number, _, after *freshet.Following) {
		data, err := following.Table{}.Encode(after)
		if err != nil {
			b.Fatal(err)
		}
		rows, bytes = append(rows, data), bytes+len(data)
	})
	decode := func(data []byte) any {
		row, err := following.Table{}.Decode(data)
		if err != nil {
			b.Fatal(err)
		}
		return row
	}
	decoded := make([]any, len(rows))
	before := heap()
	for i, data := range rows {
		decoded[i] = decode(data)
	}
	inMemory := heap() - before
	runtime.KeepAlive(decoded)
	i := 0
	for b.Loop() {
		if _, err := (following.Table{}).Encode(decode(rows[i%len(rows)])); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(float64(bytes)/100_000, "B/follow")
	b.ReportMetric(float64(inMemory)/100_000, "heapB/follow")
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkRecovery starts the processor on a changelog in which each row is there twice, as compaction leaves it at
// worst: with nothing on the disk, and again with what the first start has left there.
func BenchmarkRecovery(b *testing.B) {
	follows := benchFollows(b)
	c := processortest.Start(b, benchPartitions)
	writePopulation(b, c, follows)
	for range b.N {
		dir := b.TempDir()
		b.ReportMetric(start(b, c, dir).Seconds(), "s/changelog")
		b.ReportMetric(float64(diskUse(b, dir))/float64(follows), "diskB/follow")
		b.ReportMetric(start(b, c, dir).Seconds(), "s/local")
	}
}

func writePopulation(b *testing.B, c *processortest.Cluster, follows int) {
	b.Helper()
	table, bytes := c.Names.Table(freshet.FollowingGroup), 0
	for _, late := range []bool{false, true} {
		var records []*kgo.Record
		population(follows, func(n freshet.Number, before, after *freshet.Following) {
			row := before
			if late {
				row = after
			}
			data, err := following.Table{}.Encode(row)
			if err != nil {
				b.Fatal(err)
			}
			key := n.Key()
			records = append(records, &kgo.Record{
				Topic: table, Partition: freshet.PartitionOf(key, benchPartitions), Key: []byte(key), Value: data,
			})
			bytes += len(data) + len(key)
			if len(records) == 20_000 {
				c.Put(records...)
				records = records[:0]
			}
		})
		c.Put(records...)
	}
	b.Logf("%d follows, %d MB of changelog", follows, bytes>>20)
}

// start runs the processor until it consumes, which takes the time returned, and stops it.
func start(b *testing.B, c *processortest.Cluster, dir string) (took time.Duration) {
	b.Helper()
	began := time.Now()
	local, err := tables.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	group := c.Names.Group(freshet.FollowingGroup)
	table := local.Processor(goka.Group(group), benchPartitions)
	p, err := following.New(c.Brokers, c.Names, kafka.ProcessorOptions(kafka.ProcessorSettings{
		Group:   kafka.NewGroup(kafka.GroupConfig{Name: group, Brokers: c.Brokers, Logger: c.Logger()}),
		Storage: table.Builder, Update: table.Update, WrapProducer: table.WrapProducer,
		Logger: c.Logger(),
	})...)
	if err != nil {
		b.Fatal(err)
	}
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- kafka.RunProcessor(ctx, p, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		b.Fatal(err)
	}
	took = time.Since(began)
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if err := local.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}

// diskUse is the bytes of the files in a directory.
func diskUse(b *testing.B, dir string) (bytes int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		bytes += info.Size()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
