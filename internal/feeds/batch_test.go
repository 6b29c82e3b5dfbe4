package feeds

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"freshet"
)

// drawFollowers draws accounts as numbers lie: in partitions, densely.
func drawFollowers(rng *rand.Rand, count int) []freshet.Number {
	followers := make([]freshet.Number, count)
	for i := range followers {
		followers[i] = freshet.NumberAt(int32(rng.IntN(8)), int64(rng.IntN(125_000)))
	}
	return followers
}

// allAtOnce is a backlog that gives out everything with the next flush, in the order in which it came.
func allAtOnce() *Backlog { return NewBacklog(Layout{Zones: 64, FeedLength: 800}, 1<<30, 1<<30) }

func noted(error) {}

// A batch writes what was added, block by block, in the order of Add; also one that was used before.
func TestBatchKeepsTheOrderOfABlock(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	l := allAtOnce()
	for range 20 {
		want := map[uint64]string{}
		entries := 0
		for post := range freshet.PostID(1 + rng.IntN(30)) {
			followers := drawFollowers(rng, rng.IntN(2000))
			l.Add(t.Context(), Delivery{Kind: freshet.PostCreated, Author: 7, Post: post + 1, Followers: followers}, noted)
			for _, follower := range followers {
				want[follower.Block()] += string(AppendEntry(nil, follower.Slot(), post+1))
			}
			entries += len(followers)
			clear(followers) // the batch keeps nothing of them
		}
		_, b := l.Take()
		if b.Entries() != entries {
			t.Fatalf("%d entries, want %d", b.Entries(), entries)
		}
		for range 2 { // a flush that failed is repeated
			ops := b.second()
			if len(ops) != len(want) {
				t.Fatalf("%d operations for %d blocks", len(ops), len(want))
			}
			for _, op := range ops {
				if log := op.(*AppendLog); string(log.Entries) != want[log.Block] {
					t.Fatalf("block %d: %x, want %x", log.Block, log.Entries, want[log.Block])
				}
			}
		}
		l.Flushed()
		if again, _ := l.Take(); again != b {
			t.Fatal("what was taken is not what is ready")
		}
		l.Flushed()
		if !b.Empty() || len(b.first()) != 0 || len(b.second()) != 0 {
			t.Fatal("a batch that was emptied holds something")
		}
	}
}

// From the page to the pipeline, nothing is allocated for an entry: ten times the followers need no more.
func TestBatchAllocatesNothingForAnEntry(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	allocations := func(followers int) float64 {
		l := allAtOnce()
		d := Delivery{Kind: freshet.PostCreated, Author: 7, Post: 9, Followers: drawFollowers(rng, followers)}
		fill := func() {
			for range 10 {
				l.Add(t.Context(), d, noted)
			}
			_, b := l.Take()
			b.group()
			l.Flushed()
		}
		fill()
		return testing.AllocsPerRun(10, fill)
	}
	// One for each entry would be 9,000 more; what other goroutines allocate meanwhile is counted too.
	if few, many := allocations(100), allocations(1000); many > few+90 {
		t.Errorf("%.1f allocations for 1,000 entries, %.1f for 10,000", few, many)
	}
}

func BenchmarkBatch(b *testing.B) {
	for _, posts := range []int{10, 1000} {
		b.Run(fmt.Sprintf("posts=%d", posts), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			deliveries := make([]Delivery, 64)
			for i := range deliveries {
				deliveries[i] = Delivery{
					Kind: freshet.PostCreated, Author: freshet.Number(i), Post: freshet.PostID(i + 1),
					Followers: drawFollowers(rng, 1000),
				}
			}
			l := allAtOnce()
			b.ReportAllocs()
			for b.Loop() {
				for i := range posts {
					l.Add(b.Context(), deliveries[i%len(deliveries)], noted)
				}
				_, batch := l.Take()
				batch.second()
				l.Flushed()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*posts*1000), "ns/entry")
		})
	}
}
