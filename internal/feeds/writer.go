package feeds

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet"
)

// Inputs is how a Writer speaks with the consumer group whose messages it writes. Functions are called from the
// Writer's goroutine.
type Inputs struct {
	// Finished is the session that runs (0: none) and how far each input partition of it is finished.
	Finished func() (session uint64, offsets map[Input]int64)
	// Release lets offsets be committed: every zone has noted them.
	Release func(session uint64, offsets map[Input]int64)
	// Back ends the session, so that the next one begins at these offsets.
	Back func(offsets map[Input]int64)
	// At looks up the positions of the partitions that the running session owns.
	At func(ctx context.Context) (Positions, error)
	// Ends looks up the end of every partition of every input, whoever owns it.
	Ends func(ctx context.Context) (map[Input]int64, error)
}

// WriterConfig says how a Writer works. The zero value of a number means its default.
type WriterConfig struct {
	Conn   Conn
	Layout Layout
	Inputs Inputs
	Logger *slog.Logger
	// MaxEntries and MaxBytes bound what waits to be flushed; past them Add waits. An entry takes 16 bytes here, and what
	// is flushed at once some 50.
	MaxEntries, MaxBytes int
	// LogLimit is the length in bytes from which on a block's log is merged into its feeds.
	LogLimit int
	// NoteEvery is how often watermarks are noted, and so how far behind committed offsets are; it is also how long a
	// loss of Redis can go unnoticed.
	NoteEvery time.Duration
	// ColdAfter is how many days a feed is kept without being read.
	ColdAfter int
	// Corrupt, unless nil, is told of each value in Redis that was found corrupt and given up. It may be called from
	// several goroutines.
	Corrupt func(error)
	// Held goes through what Redis holds, for Reload; see Redis.Held.
	Held func(ctx context.Context, each func(Kept) error) error
}

// Defaults of WriterConfig.
const (
	DefaultMaxEntries = 2 << 20
	DefaultMaxBytes   = 64 << 20
	DefaultLogLimit   = 64 << 10
	DefaultNoteEvery  = time.Second
	DefaultColdAfter  = 14
)

// Writer brings deliveries into Redis, for all partitions of a process. What comes during a flush waits in a Backlog,
// so the next takes milliseconds' worth when idle, and much at once when there is much.
//
// When Redis fails it tries again, with growing pauses, for ever; nothing is skipped. Add, Barrier, Recover and Err may
// be called from any goroutine; Run is called once.
type Writer struct {
	cfg     WriterConfig
	flusher *Flusher

	mu      sync.Mutex
	backlog *Backlog
	room    chan struct{} // closed when a flush has taken something
	closed  bool          // the last flush has begun
	failure error         // why Redis cannot be written, nil if it can

	more     chan struct{} // there is something to flush
	recovers chan recoverRequest
	reloads  chan func()
	stopped  chan struct{}

	long sync.Map // blocks and authors whose log or outbox is long, until compacted
	work chan any

	noted   map[Input]int64 // of the last Note under the present tokens
	session uint64          // of the last positions seen
}

type recoverRequest struct {
	ctx   context.Context
	at    Positions
	reply chan<- recoverReply
}

type recoverReply struct {
	decision Decision
	err      error
}

// ErrStopped is given to whoever waits for a writer that has stopped, or for a session that has ended.
var ErrStopped = errors.New("the feed writer does not wait for redis any longer")

// NewWriter makes a writer; Run starts it.
func NewWriter(cfg WriterConfig) *Writer {
	setDefault(&cfg.MaxEntries, DefaultMaxEntries)
	setDefault(&cfg.MaxBytes, DefaultMaxBytes)
	setDefault(&cfg.LogLimit, DefaultLogLimit)
	setDefault(&cfg.ColdAfter, DefaultColdAfter)
	if cfg.NoteEvery == 0 {
		cfg.NoteEvery = DefaultNoteEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Writer{
		cfg:      cfg,
		flusher:  NewFlusher(cfg.Conn, cfg.Layout, randomName(), randomName),
		backlog:  NewBacklog(cfg.Layout, 0, 0),
		room:     make(chan struct{}),
		more:     make(chan struct{}, 1),
		recovers: make(chan recoverRequest),
		reloads:  make(chan func()),
		stopped:  make(chan struct{}),
		work:     make(chan any, 1024),
	}
}

func setDefault(n *int, value int) {
	if *n == 0 {
		*n = value
	}
}

// randomName names writers, tokens and generations: 96 random bits are never drawn twice.
func randomName() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Token is the token of a post's zone as the writer knows it now; see PutBody.
func (w *Writer) Token(post freshet.PostID) string { return w.flusher.Token(w.cfg.Layout.OfPost(post)) }

// Err says why Redis cannot be written at the moment; nil when it can.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// Add takes a delivery, and calls done once: with nil when it is in Redis; with an error when ctx, that of the session,
// ended before, or the writer has stopped. It waits while too much is waiting.
func (w *Writer) Add(ctx context.Context, d Delivery, done func(error)) {
	for {
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			done(ErrStopped)
			return
		}
		if w.backlog.Entries() < w.cfg.MaxEntries && w.backlog.Bytes() < w.cfg.MaxBytes {
			w.backlog.Add(ctx, d, done)
			w.mu.Unlock()
			w.wake()
			return
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			done(fmt.Errorf("%w: %w", ErrStopped, ctx.Err()))
			return
		case <-w.stopped:
			done(ErrStopped)
			return
		}
	}
}

// Barrier calls done as Add does, when everything that was added before is in Redis.
func (w *Writer) Barrier(ctx context.Context, done func(error)) {
	w.mu.Lock()
	idle, closed := w.backlog.Empty(), w.closed
	if !idle && !closed {
		w.backlog.Barrier(ctx, done)
	}
	w.mu.Unlock()
	switch {
	case closed:
		done(ErrStopped)
	case idle:
		done(nil)
	default:
		w.wake()
	}
}

func (w *Writer) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// Recover opens every zone for a session that is about to begin, at these positions, and says how far it has to go
// back. It waits for Redis as long as ctx allows.
func (w *Writer) Recover(ctx context.Context, at Positions) (Decision, error) {
	reply := make(chan recoverReply, 1)
	select {
	case w.recovers <- recoverRequest{ctx, at, reply}:
	case <-w.stopped:
		return Decision{}, ErrStopped
	case <-ctx.Done():
		return Decision{}, fmt.Errorf("wait for the feed writer: %w", ctx.Err())
	}
	r := <-reply
	return r.decision, r.err
}

// Run flushes until ctx ends, and then what is left, if Redis takes it at the first try. It always returns nil.
func (w *Writer) Run(ctx context.Context) error {
	var g errgroup.Group
	inner, cancel := context.WithCancel(ctx)
	for range compactors {
		g.Go(func() error {
			w.compactor(inner)
			return nil
		})
	}
	w.loop(ctx)
	close(w.stopped)
	cancel()
	_ = g.Wait() // compactors have no errors
	w.flushRest(context.WithoutCancel(ctx))
	return nil
}

func (w *Writer) loop(ctx context.Context) {
	ticker := time.NewTicker(w.cfg.NoteEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-w.recovers:
			w.serve(ctx, r)
		case reload := <-w.reloads:
			reload()
		case <-w.more:
			w.flush(ctx)
		case <-ticker.C:
			w.note(ctx)
		}
	}
}
