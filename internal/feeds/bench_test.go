package feeds_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/internal/feeds"
)

// benchConn is a Redis for a benchmark, the one at BENCH_REDIS, which has to be empty.
func benchConn(b *testing.B, layout feeds.Layout) (*feeds.Redis, *redis.Client) {
	b.Helper()
	address := os.Getenv("BENCH_REDIS")
	if address == "" {
		b.Skip("BENCH_REDIS names no Redis")
	}
	conn, err := feeds.Connect(b.Context(), layout, []string{address})
	if err != nil {
		b.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: address})
	client.FlushAll(b.Context())
	b.Cleanup(func() { client.FlushAll(context.Background()); conn.Close(); client.Close() })
	return conn, client
}

func redisCPU(b *testing.B, client *redis.Client) time.Duration {
	info, err := client.InfoMap(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	sum := 0.0
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		s, _ := strconv.ParseFloat(strings.TrimSpace(info["CPU"][name]), 64)
		sum += s
	}
	return time.Duration(sum * 1e9)
}

func ownCPU() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkCompact(b *testing.B) {
	layout := feeds.Layout{Zones: 64, FeedLength: 800}
	conn, client := benchConn(b, layout)
	const blocks = 500
	do := func(ops ...feeds.Op) {
		if err := conn.Do(b.Context(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	for z := range layout.Zones {
		do(&feeds.Recover{Zone: feeds.Zone(z), Writer: "b", New: "1-b"})
	}
	old := freshet.FirstPostID(time.Now().Add(-time.Hour))
	feed := feeds.Feed{Header: feeds.Header{Read: feeds.DayOf(time.Now())}}
	for i := range 800 {
		feed.IDs = append(feed.IDs, old-freshet.PostID(i)<<22)
	}
	value := feed.Encode()
	for block := range uint64(blocks) {
		gen := ""
		for slot := range byte(32) {
			next := strconv.Itoa(int(block)*100 + int(slot) + 1)
			do(&feeds.SwapFeed{Block: block, Slot: slot, Token: "1-b", Generation: gen, Next: next, Value: value})
			gen = next
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	id := old
	const entries = 7281
	log := make([]byte, 0, 9*entries)
	var mine, redis time.Duration
	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		block := uint64(i % blocks)
		log = log[:0]
		for range entries {
			id += 1 << 12
			at := id - freshet.PostID(rng.IntN(200))<<12 // a little out of order
			log = feeds.AppendEntry(log, byte(rng.IntN(32)), at)
		}
		do(&feeds.AppendLog{Block: block, Entries: log})
		o, r := ownCPU(), redisCPU(b, client)
		b.StartTimer()
		if c, err := layout.CompactBlock(b.Context(), conn, block, 0, "g"+strconv.Itoa(i)); err != nil || c.Entries != entries {
			b.Fatal(c, err)
		}
		b.StopTimer()
		mine += ownCPU() - o
		redis += redisCPU(b, client) - r
		b.StartTimer()
	}
	b.ReportMetric(float64(mine.Nanoseconds())/float64(b.N)/entries, "own-ns/entry")
	b.ReportMetric(float64(redis.Nanoseconds())/float64(b.N)/entries, "redis-ns/entry")
}
