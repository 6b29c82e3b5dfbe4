package api

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkBesideBatches is how late somebody comes who wants a processor ten times, one after another, as a request
// does, while large batches are judged.
func BenchmarkBesideBatches(b *testing.B) {
	a, err := New(Config{CursorKey: make([]byte, minCursorKey)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, batchPath, http.NoBody)
	data := bytes.Repeat([]byte(`{"author":"x","text":""}`+"\n"), 10_000)
	var judging sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		judging.Go(func() {
			for ctx.Err() == nil {
				_ = a.judge(r, &batch{}, data) // ctx ends
			}
		})
	}
	const steps, pause = 10, time.Millisecond
	var waits []time.Duration
	b.ResetTimer()
	for b.Loop() {
		begun := time.Now()
		for range steps {
			<-time.After(pause / steps)
		}
		waits = append(waits, time.Since(begun)-pause)
	}
	b.StopTimer()
	cancel()
	judging.Wait()
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "ms-late-p50")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "ms-late-p99")
	b.ReportMetric(0, "ns/op") // which is the pause
}
