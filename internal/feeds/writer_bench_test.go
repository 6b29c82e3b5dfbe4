package feeds_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/internal/feeds"
)

// openWriter starts a writer for feeds that nobody has read, on a Redis of its own.
func openWriter(b *testing.B) (*feeds.Writer, *redis.Client) {
	b.Helper()
	socket := realRedis(b)
	if socket == "" {
		b.Fatal("no redis-server: install it, or name it in REDIS_SERVER")
	}
	layout := feeds.Layout{Zones: 64, FeedLength: feeds.DefaultFeedLength}
	conn, err := feeds.Connect(b.Context(), layout, []string{socket})
	if err != nil {
		b.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: socket})
	input := feeds.Input{Topic: feeds.InputPosts}
	w := feeds.NewWriter(feeds.WriterConfig{Conn: conn, Layout: layout, Inputs: feeds.Inputs{
		Finished: func() (uint64, map[feeds.Input]int64) { return 1, map[feeds.Input]int64{input: 0} },
		Release:  func(uint64, map[feeds.Input]int64) {},
		Back:     func(map[feeds.Input]int64) {},
		At: func(context.Context) (feeds.Positions, error) {
			return feeds.Positions{Committed: map[feeds.Input]int64{input: 0}}, nil
		},
		Ends: func(context.Context) (map[feeds.Input]int64, error) { return map[feeds.Input]int64{input: 0}, nil },
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		_ = conn.Close()
		_ = client.Close()
	})
	if _, err := w.Recover(ctx, feeds.Positions{Committed: map[feeds.Input]int64{input: -1}}); err != nil {
		b.Fatal(err)
	}
	return w, client
}

func deliveries(n, followers int) []feeds.Delivery {
	rng := rand.New(rand.NewPCG(1, 1))
	all := make([]feeds.Delivery, n)
	for i := range all {
		all[i] = feeds.Delivery{Kind: freshet.PostCreated, Author: freshet.Number(i)}
		for range followers {
			all[i].Followers = append(all[i].Followers, freshet.NumberAt(int32(rng.IntN(8)), int64(rng.IntN(125_000))))
		}
	}
	return all
}

// BenchmarkDrain hands posts to a thousand of a million accounts to the writer, as fast as it takes them.
func BenchmarkDrain(b *testing.B) {
	w, client := openWriter(b)
	all := deliveries(500, 1000)
	id := freshet.FirstPostID(time.Now())
	own, server := ownCPU(), redisCPU(b, client)
	begun := time.Now()
	b.ResetTimer()
	var callbacks, waiting sync.WaitGroup
	waiting.Add(b.N)
	for p := range 8 {
		callbacks.Go(func() {
			for i := p; i < b.N; i += 8 {
				d := all[i%len(all)]
				d.Post = id + freshet.PostID(i)
				w.Add(context.Background(), d, func(err error) {
					if err != nil {
						b.Error(err)
					}
					waiting.Done()
				})
			}
		})
	}
	callbacks.Wait()
	waiting.Wait()
	took := time.Since(begun)
	b.ReportMetric(float64(b.N*1000)/took.Seconds(), "deliveries/s")
	b.ReportMetric(float64(ownCPU()-own)/float64(b.N*1000), "own-ns/entry")
	b.ReportMetric(float64(redisCPU(b, client)-server)/float64(b.N*1000), "redis-ns/entry")
}

// BenchmarkSteady hands over posts at a rate, and tells how long they take.
func BenchmarkSteady(b *testing.B) {
	for _, c := range []struct {
		name            string
		rate, followers int
		large           bool
	}{{"1200x1000", 1200, 1000, false}, {"200x99", 200, 99, false}, {"200x99beside", 200, 99, true}} {
		b.Run(c.name, func(b *testing.B) {
			w, _ := openWriter(b)
			all, pages := deliveries(500, c.followers), deliveries(1000, 1000)
			id := freshet.FirstPostID(time.Now())
			var mu sync.Mutex
			took := hdrhistogram.New(1, 1e8, 3)
			var waiting, beside sync.WaitGroup
			stop := make(chan struct{})
			if c.large {
				beside.Go(func() {
					for n := 0; ; n++ {
						for i, d := range pages {
							d.Author, d.Post = 1<<30, id-freshet.PostID(1+n)
							d.Large = i > 0
							waiting.Add(1)
							w.Add(context.Background(), d, func(error) { waiting.Done() })
						}
						select {
						case <-stop:
							return
						case <-time.After(time.Second):
						}
					}
				})
			}
			begun := time.Now()
			for i := range b.N {
				at := begun.Add(time.Duration(i) * time.Second / time.Duration(c.rate))
				<-time.After(time.Until(at))
				d := all[i%len(all)]
				d.Post = id + freshet.PostID(i)
				waiting.Add(1)
				w.Add(context.Background(), d, func(error) {
					mu.Lock()
					_ = took.RecordValue(max(1, time.Since(at).Microseconds())) // of a minute at most
					mu.Unlock()
					waiting.Done()
				})
			}
			close(stop)
			beside.Wait()
			waiting.Wait()
			b.ReportMetric(float64(took.ValueAtPercentile(50))/1000, "p50-ms")
			b.ReportMetric(float64(took.ValueAtPercentile(99))/1000, "p99-ms")
		})
	}
}
