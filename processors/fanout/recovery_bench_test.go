package fanout_test

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/embedded"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/tables"
	"freshet/processors/fanout"
	"freshet/processors/processortest"
)

const (
	benchPartitions = 8
	followersEach   = 20 // on average: the author of rank r has about r^-0.8 times as many as the first
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

// BenchmarkRecovery starts the processor on a changelog in which each page is there twice, as compaction leaves it at
// worst: with nothing on the disk, and again with what the first start has left there.
func BenchmarkRecovery(b *testing.B) {
	follows := benchFollows(b)
	c := processortest.Start(b, benchPartitions)
	writeTrees(b, c, follows)
	for range b.N {
		dir := b.TempDir()
		b.ReportMetric(startTook(b, c, dir).Seconds(), "s/changelog")
		b.ReportMetric(float64(diskUse(b, dir))/float64(follows), "diskB/follow")
		b.ReportMetric(startTook(b, c, dir).Seconds(), "s/local")
	}
}

// writeTrees writes the pages of all authors, first with half of what they hold.
func writeTrees(b *testing.B, c *processortest.Cluster, follows int) {
	b.Helper()
	table, bytes, rows := c.Names.Table(freshet.FanoutGroup), 0, 0
	accounts := follows / followersEach
	number := func(i int) freshet.Number {
		return freshet.NumberAt(int32(i%benchPartitions), int64(i/benchPartitions))
	}
	sum := 0.0
	for i := range accounts {
		sum += math.Pow(float64(i+1), -0.8)
	}
	var records []*kgo.Record
	write := func(at fanout.Address, n *fanout.Node) {
		value, err := proto.Marshal(fanout.EncodeNode(n))
		if err != nil {
			b.Fatal(err)
		}
		key := at.Key()
		records = append(records, &kgo.Record{
			Topic: table, Partition: freshet.PartitionOf(key, benchPartitions), Key: []byte(key), Value: value,
		})
		bytes, rows = bytes+len(key)+len(value), rows+1
		if len(records) == 20_000 {
			c.Put(records...)
			records = records[:0]
		}
	}
	for _, late := range []bool{false, true} {
		random := rand.New(rand.NewPCG(1, 1))
		for i := range accounts {
			share := math.Pow(float64(i+1), -0.8) / sum
			audience := max(1, int(math.Round(share*float64(follows))))
			seen := make(map[freshet.Number]bool, audience)
			var followers []freshet.Number
			for range audience {
				if n := number(random.IntN(accounts)); !seen[n] {
					seen[n] = true
					followers = append(followers, n)
				}
			}
			pages(fanout.Address{Author: number(i)}, followers, late, write)
		}
	}
	c.Put(records...)
	b.Logf("%d follows, %d pages of trees, each twice: %d MB of changelog", follows, rows/2, bytes>>20)
}

// pages is the tree of followers that come one after another: a page takes the first, and each later one goes to the
// child on its path. Before late, a page holds the first half of its followers.
func pages(at fanout.Address, followers []freshet.Number, late bool, write func(fanout.Address, *fanout.Node)) {
	page := followers[:min(len(followers), fanout.DefaultPageSize)]
	var children [fanout.Children][]freshet.Number
	for _, follower := range followers[len(page):] {
		child, _ := at.Branch(follower)
		children[child] = append(children[child], follower)
	}
	node := &fanout.Node{Followers: slices.Clone(page)}
	for child, list := range children {
		if len(list) > 0 {
			node.Open |= 1 << child
			node.Subtotals[child] = uint64(len(list))
			pages(at.Child(byte(child)), list, late, write)
		}
	}
	if !at.Root() {
		node.Reported = node.Total()
	}
	if !late {
		node.Followers = node.Followers[:(len(page)+1)/2]
	}
	slices.Sort(node.Followers)
	write(at, node)
}

// startTook runs the processor until it consumes, which takes the time returned, and stops it.
func startTook(b *testing.B, c *processortest.Cluster, dir string) (took time.Duration) {
	b.Helper()
	server, err := embedded.StartRedis("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	layout := feeds.Layout{Zones: 4, FeedLength: 100}
	conn, err := feeds.Connect(b.Context(), layout, []string{server.Addr()})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	local, err := tables.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	health := &kafka.Health{}
	health.Starting("fanout")
	member, err := fanout.New(fanout.Config{
		Brokers: c.Brokers, Names: c.Names, Conn: conn, Layout: layout, Store: store{}, Logger: c.Logger(),
		Health: health, Settings: kafka.ProcessorSettings{Logger: c.Logger()}, Tables: local, Partitions: benchPartitions,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- member.Run(ctx) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ready := false; !ready; ready, _ = health.Ready() {
		select {
		case err := <-done:
			b.Fatalf("fanout ended: %v", err)
		case <-tick.C:
		}
	}
	took = time.Since(began)
	cancel()
	for _, err := range []error{<-done, local.Close(), conn.Close()} {
		if err != nil {
			b.Fatal(err)
		}
	}
	return took
}

// diskUse is the bytes of the files in a directory.
func diskUse(b *testing.B, dir string) (bytes int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("measure %s: %w", path, err)
		}
		bytes += info.Size()
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
