package feeds_test

import (
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/internal/feeds"
)

// BenchmarkCompact compacts logs as long as the limit into full feeds, and tells what that costs this process and Redis
// an entry, in nanoseconds of CPU, which other work on the machine changes less than the time it takes.
func BenchmarkCompact(b *testing.B) {
	socket := realRedis(b)
	if socket == "" {
		return
	}
	const blocks, entries = 500, feeds.DefaultLogLimit / 9
	layout := feeds.Layout{Zones: 64, FeedLength: feeds.DefaultFeedLength}
	conn, err := feeds.Connect(b.Context(), layout, []string{socket})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // of a server that ends
	client := redis.NewClient(&redis.Options{Addr: socket})
	defer client.Close() //nolint:errcheck // of a server that ends
	do := func(ops ...feeds.Op) {
		if err := conn.Do(b.Context(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	for zone := range feeds.Zone(layout.Zones) {
		do(&feeds.Recover{Zone: zone, Writer: "b", New: "1-b"})
	}
	id := freshet.FirstPostID(time.Now().Add(-time.Hour))
	feed := feeds.Feed{Header: feeds.Header{Read: feeds.DayOf(time.Now())}}
	for i := range layout.FeedLength {
		feed.IDs = append(feed.IDs, id-freshet.PostID(i)<<22)
	}
	values := map[byte][]byte{}
	for slot := range byte(freshet.SlotsPerBlock) {
		values[slot] = feed.Encode()
	}
	for block := range uint64(blocks) {
		do(&feeds.Compact{Block: block, Token: "1-b", Next: "b" + strconv.Itoa(int(block)), Feeds: values})
	}
	rng := rand.New(rand.NewPCG(1, 1))
	log := make([]byte, 0, feeds.DefaultLogLimit)
	var own, server time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		log = log[:0]
		for range entries {
			id += 1 << 12
			late := freshet.PostID(rng.IntN(200)) << 12
			log = feeds.AppendEntry(log, byte(rng.IntN(freshet.SlotsPerBlock)), id-late)
		}
		block := uint64(i % blocks)
		do(&feeds.AppendLog{Block: block, Entries: log})
		before, serverBefore := ownCPU(), redisCPU(b, client)
		b.StartTimer()
		c, err := layout.CompactBlock(b.Context(), conn, block, 0, strconv.Itoa(i))
		if err != nil || c.Entries != entries {
			b.Fatal(c, err)
		}
		b.StopTimer()
		own, server = own+ownCPU()-before, server+redisCPU(b, client)-serverBefore
		b.StartTimer()
	}
	b.ReportMetric(float64(own)/float64(b.N*entries), "own-ns/entry")
	b.ReportMetric(float64(server)/float64(b.N*entries), "redis-ns/entry")
}

// redisCPU is what the server has used.
func redisCPU(b *testing.B, client *redis.Client) time.Duration {
	b.Helper()
	info, err := client.InfoMap(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	sum := 0.0
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		seconds, err := strconv.ParseFloat(info["CPU"][name], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += seconds
	}
	return time.Duration(sum * float64(time.Second))
}

func ownCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
