package kafka

import (
	"testing"

	"pgregory.net/rapid"
)

// naiveTracker is the definition, in so many words.
type naiveTracker struct {
	position    int64
	delivered   []int64
	finished    map[int64]bool
	followUps   map[int64]int
	watermarked bool
	watermark   int64
}

func (n *naiveTracker) next() int64 {
	if len(n.delivered) == 0 {
		return n.position
	}
	return n.delivered[len(n.delivered)-1] + 1
}

func (n *naiveTracker) finishedTo() int64 {
	for _, o := range n.delivered {
		if !n.finished[o] {
			return o
		}
	}
	return n.next()
}

func (n *naiveTracker) settledTo() int64 {
	for _, o := range n.delivered {
		if !n.finished[o] || n.followUps[o] > 0 {
			return o
		}
	}
	return n.next()
}

func (n *naiveTracker) released() int64 {
	if n.watermarked {
		return min(n.settledTo(), n.watermark)
	}
	return n.settledTo()
}

func (n *naiveTracker) inFlight() int {
	count := 0
	for _, o := range n.delivered {
		if o >= n.settledTo() {
			count++
		}
	}
	return count
}

func TestTrackerAgreesWithItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 1000).Draw(t, "start")
		n := &naiveTracker{
			position: start, finished: map[int64]bool{}, followUps: map[int64]int{},
			watermarked: rapid.Bool().Draw(t, "watermarked"), watermark: start,
		}
		tr := NewTracker(start, n.watermarked)
		last := start
		anOffset := func(t *rapid.T) int64 {
			if len(n.delivered) == 0 || rapid.IntRange(0, 9).Draw(t, "stray") == 0 {
				return rapid.Int64Range(start-2, n.next()+2).Draw(t, "offset")
			}
			return rapid.SampledFrom(n.delivered).Draw(t, "delivered")
		}
		delivered := func(o int64) bool {
			for _, d := range n.delivered {
				if d == o {
					return true
				}
			}
			return false
		}
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(t, "count") {
					o := n.next() + rapid.SampledFrom([]int64{0, 0, 0, 1, 7}).Draw(t, "gap")
					tr.Deliver(o)
					n.delivered = append(n.delivered, o)
				}
			},
			"deliver again": func(t *rapid.T) {
				if len(n.delivered) > 0 {
					tr.Deliver(rapid.SampledFrom(n.delivered).Draw(t, "delivered"))
				}
			},
			"follow": func(t *rapid.T) {
				o := anOffset(t)
				want := delivered(o) && !n.finished[o]
				if got := tr.Follow(o); got != want {
					t.Fatalf("Follow(%d) = %v, want %v", o, got, want)
				}
				if want {
					n.followUps[o]++
				}
			},
			"finish": func(t *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(t, "count") {
					o := anOffset(t)
					want := delivered(o) && !n.finished[o]
					if got := tr.Finish(o); got != want {
						t.Fatalf("Finish(%d) = %v, want %v", o, got, want)
					}
					if want {
						n.finished[o] = true
					}
				}
			},
			"finish the oldest": func(*rapid.T) {
				if o := n.finishedTo(); delivered(o) {
					tr.Finish(o)
					n.finished[o] = true
				}
			},
			"followed up": func(t *rapid.T) {
				o := anOffset(t)
				want := n.followUps[o] > 0
				if got := tr.FollowedUp(o); got != want {
					t.Fatalf("FollowedUp(%d) = %v, want %v", o, got, want)
				}
				if want {
					n.followUps[o]--
				}
			},
			"watermark": func(t *rapid.T) {
				o := rapid.Int64Range(start-2, n.next()+2).Draw(t, "offset")
				tr.Watermark(o)
				n.watermark = max(n.watermark, o)
			},
			"": func(t *rapid.T) {
				if got, want := tr.Finished(), n.finishedTo(); got != want {
					t.Fatalf("Finished() = %d, want %d", got, want)
				}
				if got, want := tr.Released(), n.released(); got != want {
					t.Fatalf("Released() = %d, want %d", got, want)
				}
				if got, want := tr.InFlight(), n.inFlight(); got != want {
					t.Fatalf("InFlight() = %d, want %d", got, want)
				}
				if tr.Released() < last {
					t.Fatalf("Released() went from %d down to %d", last, tr.Released())
				}
				last = tr.Released()
			},
		})
	})
}

func BenchmarkTracker10kInFlight(b *testing.B) {
	const window = 10_000
	tr := NewTracker(0, false)
	for o := range int64(window) {
		tr.Deliver(o)
	}
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		tr.Deliver(i + window)
		tr.Finish(i)
	}
}
