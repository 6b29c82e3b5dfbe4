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
//
// The callbacks of a partition come one after another, so the order in which they state an author's stats is the right
// one. Their messages are finished in another: one that waits for Redis is overtaken by one of another topic that does
// not. So what is written is what was stated last, not what was posted last.
type board struct {
	mu      sync.Mutex
	session uint64
	authors map[freshet.Number]*posting
	waiters []func(error)
}

// posting is what is known of an author until it is written and no message that stated it is in flight.
type posting struct {
	Stats
	epoch    goka.Headers
	inFlight int
	changed  bool // posted and not written
}

func newBoard() *board { return &board{authors: map[freshet.Number]*posting{}} }

// state notes, during the callback of a message, what it makes of the stats. The follow-ups of a session that has ended
// are dropped, so a new session counts its own messages alone. epoch is Holder.Epoch of the author's partition.
func (b *board) state(session uint64, epoch goka.Headers, s Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if session != b.session {
		b.session = session
		for author, p := range b.authors {
			if p.inFlight = 0; !p.changed {
				delete(b.authors, author)
			}
		}
	}
	p := b.authors[s.Author]
	if p == nil {
		p = &posting{}
		b.authors[s.Author] = p
	}
	p.Stats, p.epoch = s, epoch
	p.inFlight++
}

// post is the follow-up of a message that has stated stats.
func (b *board) post(session uint64, author freshet.Number, done func(error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.authors[author]; p != nil && session == b.session {
		p.inFlight--
		p.changed = true
	}
	b.waiters = append(b.waiters, done)
}

// take is what has to be written, and who waits for it.
func (b *board) take() (latest []posting, waiters []func(error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for author, p := range b.authors {
		if !p.changed {
			continue
		}
		p.changed = false
		latest = append(latest, *p)
		if p.inFlight == 0 {
			delete(b.authors, author)
		}
	}
	waiters, b.waiters = b.waiters, nil
	return latest, waiters
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
	latest, waiters := b.take()
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
	if left == 0 { // of sessions that have ended: nothing is theirs to write
		for _, done := range waiters {
			done(nil)
		}
		return
	}
	for _, stats := range latest {
		record := &events.Stats{Followers: stats.Followers, Posts: stats.Posts}
		promise, err := emitter.EmitWithHeaders(stats.Author.Key(), record, stats.epoch)
		if err != nil {
			acknowledged(err)
			continue
		}
		promise.Then(acknowledged)
	}
}
