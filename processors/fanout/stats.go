package fanout

import (
	"context"
	"sync"
	"time"

	"github.com/lovoo/goka"

	"freshet"
	"freshet/internal/events"
)

// statsEvery is how often the stats that changed are written. An author with many new followers costs one record.
const statsEvery = time.Second

// board collects stats and writes the latest of each author. Who posts to the board is told when that, or something
// later, is acknowledged.
type board struct {
	mu      sync.Mutex
	latest  map[freshet.Number]Stats
	waiters []func(error)
}

func newBoard() *board { return &board{latest: map[freshet.Number]Stats{}} }

func (b *board) post(s Stats, done func(error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.latest[s.Author] = s
	b.waiters = append(b.waiters, done)
}

// run writes until ctx ends; what is then left comes again with its messages.
func (b *board) run(ctx context.Context, emitter *goka.Emitter) {
	ticker := time.NewTicker(statsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			b.write(emitter)
		}
	}
}

func (b *board) write(emitter *goka.Emitter) {
	b.mu.Lock()
	latest, waiters := b.latest, b.waiters
	b.latest, b.waiters = map[freshet.Number]Stats{}, nil
	b.mu.Unlock()
	if len(waiters) == 0 {
		return
	}
	var (
		mu    sync.Mutex
		left  = len(latest)
		first error
	)
	acknowledged := func(err error) {
		mu.Lock()
		if err != nil && first == nil {
			first = err
		}
		left--
		last := left == 0
		mu.Unlock()
		if last {
			for _, done := range waiters {
				done(first)
			}
		}
	}
	for author, stats := range latest {
		promise, err := emitter.Emit(author.Key(), &events.Stats{Followers: stats.Followers, Posts: stats.Posts})
		if err != nil {
			acknowledged(err)
			continue
		}
		promise.Then(acknowledged)
	}
}
