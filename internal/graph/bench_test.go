package graph

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"freshet"
)

const followsEach = 20

// benchFollows is FRESHET_FOLLOWS, or a hundred thousand.
func benchFollows(b *testing.B) int {
	b.Helper()
	text := os.Getenv("FRESHET_FOLLOWS")
	if text == "" {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// powerLaw is a graph of accounts that follow twenty others each, a few of them far more often than the rest.
func powerLaw(follows int) *Graph {
	random := rand.New(rand.NewPCG(1, 1))
	accounts := follows / followsEach
	popular := rand.NewZipf(random, 1.2, 20, uint64(accounts-1))
	name := func(i int) freshet.AccountID { return freshet.AccountID("a" + strconv.Itoa(i)) }
	b := newBuilder()
	for i := range accounts {
		for range followsEach {
			if other := int(popular.Uint64()); other != i {
				b.add(name(i), name(other))
			}
		}
	}
	return b.build()
}

// BenchmarkImport brings a graph into a process with every role and all servers, until every tree holds its followers.
func BenchmarkImport(b *testing.B) {
	for range b.N {
		b.StopTimer()
		g := powerLaw(benchFollows(b))
		p := start(b)
		b.StartTimer()
		used := processorTime(b)
		summary, err := Import(b.Context(), g, Config{
			Brokers: p.Kafka(), Names: p.cfg.Names(), Logger: quiet, Progress: tellStages(b),
		})
		if err != nil || summary.FollowsNew != g.Follows() || summary.AccountsNew != len(g.Accounts) {
			b.Fatalf("%+v, %v", summary, err)
		}
		follows := float64(g.Follows())
		b.ReportMetric(follows/b.Elapsed().Seconds(), "follows/s")
		b.ReportMetric(float64((processorTime(b)-used).Microseconds())/follows, "cpu-µs/follow")
		for _, dir := range []string{"kafka", "tables", "posts"} {
			b.ReportMetric(float64(diskUse(b, filepath.Join(p.cfg.DataDir, dir)))/follows, dir+"-B/follow")
		}
		b.ReportMetric(float64(p.written(freshet.FollowingGroup))/follows, "rows/follow")
		b.ReportMetric(float64(p.written(freshet.FanoutGroup))/follows, "pages/follow")
	}
}

func tellStages(b *testing.B) func(stage Stage, done, total int) {
	began, last := time.Now(), Stage("")
	return func(stage Stage, _, total int) {
		if stage != last {
			last = stage
			b.Logf("%6.1f s: %s, %d", time.Since(began).Seconds(), stage, total)
		}
	}
}

// written is how many rows a group ever wrote.
func (p *process) written(group freshet.Group) (rows int64) {
	for tp, end := range p.ends() {
		if tp.Topic == p.cfg.Names().Table(group) {
			rows += end
		}
	}
	return rows
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// diskUse is the bytes of the files in a directory. Files come and go while they are counted.
func diskUse(b *testing.B, dir string) (bytes int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil && path == dir {
			return fmt.Errorf("measure %s: %w", dir, err)
		}
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
