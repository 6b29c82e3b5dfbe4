// Package archive brings posts and follower lists into the post store: group archive.
//
//	posts     ──▶ posts by id and by author
//	followers ──▶ follower lists
//
// It has no table. Records are stored in batches: one batch fills while the one before is written, so batches grow
// with the backlog. About once a second it notes in the store how far each partition of posts has come, and only then
// are those offsets committed; so the store never says less than the group believes, and what the store says that it
// has, it has.
package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/lovoo/goka"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
)

const (
	// maxBatch bounds the records that wait to be stored, some 20 MB; past it the callbacks wait. The more there are, the
	// more of them share a partition: with 4,096, a backlog of 1,000 authors takes Cassandra nearly twice the CPU.
	maxBatch = 32768
	// noteEvery is how often progress is noted, and so about how far the committed offsets are behind.
	noteEvery = time.Second
)

// Config is what an Archive needs.
type Config struct {
	Brokers []string
	Names   freshet.Names
	Store   posts.Store
	// Settings are those of the processor; Group is filled in.
	Settings kafka.ProcessorSettings
	Logger   *slog.Logger
	// Health is told about the processor.
	Health *kafka.Health
}

// Archive is a member of the group.
type Archive struct {
	cfg    Config
	posts  string // the topic
	group  *kafka.Group
	lookup *kafka.Lookup
	log    *slog.Logger

	mu      sync.Mutex
	filling *batch
	failure error
	latest  map[int32]time.Time // the newest time stamp stored, for each partition of posts
	more    chan struct{}
	stopped chan struct{}
}

// batch is what waits to be stored, and who waits for it.
type batch struct {
	events    []posts.Event
	followers []posts.FollowerChange
	latest    map[int32]time.Time
	waiters   feeds.Waiters
	taken     chan struct{} // closed when the batch no longer fills
}

func newBatch() *batch { return &batch{latest: map[int32]time.Time{}, taken: make(chan struct{})} }

// errAbandoned ends the wait of a session that is over: what it did not commit comes again.
var errAbandoned = errors.New("the post store did not take the records before the session ended")

// New prepares a member; Run starts it and closes what New opened.
func New(cfg Config) (*Archive, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	lookup, err := kafka.NewLookup(cfg.Brokers, kafka.ClientOptions(cfg.Settings.Config)...)
	if err != nil {
		return nil, err
	}
	a := &Archive{
		cfg: cfg, posts: cfg.Names.Topic(freshet.Posts), lookup: lookup, log: cfg.Logger,
		filling: newBatch(), latest: map[int32]time.Time{},
		more: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	a.group = kafka.NewGroup(kafka.GroupConfig{
		Name:        cfg.Names.Group(freshet.ArchiveGroup),
		Brokers:     cfg.Brokers,
		Config:      kafka.ConfigFor(cfg.Settings.Config, cfg.Names.Group(freshet.ArchiveGroup)),
		Watermarked: []string{a.posts},
		Assigned:    a.assigned,
		Logger:      cfg.Logger,
	})
	a.cfg.Settings.Group = a.group
	return a, nil
}

// assigned says how far the store is where Kafka has forgotten the group's offsets, which it does when a group has been
// away for long: what was removed from there on was never stored.
func (a *Archive) assigned(
	ctx context.Context, at map[kafka.TopicPartition]int64,
) (map[kafka.TopicPartition]int64, error) {
	maps.DeleteFunc(at, func(tp kafka.TopicPartition, offset int64) bool { return tp.Topic != a.posts || offset >= 0 })
	if len(at) == 0 {
		return nil, nil
	}
	progress, err := a.cfg.Store.Progress(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask how far the post store is: %w", err)
	}
	stored := map[kafka.TopicPartition]int64{}
	for tp := range at {
		if p, ok := progress[tp.Partition]; ok {
			stored[tp] = p.Offset
		}
	}
	return stored, nil
}

// Group is the consumer group: its lag, and seeking.
func (a *Archive) Group() *kafka.Group { return a.group }

// Err says why nothing is stored at the moment, nil if the store takes records.
func (a *Archive) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure
}

// Graph declares the group.
func Graph(names freshet.Names) *goka.GroupGraph {
	return (&Archive{cfg: Config{Names: names}, posts: names.Topic(freshet.Posts)}).graph()
}

func (a *Archive) graph() *goka.GroupGraph {
	names, group := a.cfg.Names, freshet.ArchiveGroup
	return goka.DefineGroup(goka.Group(names.Group(group)),
		kafka.Input(a.posts, names, group, a.onPost),
		kafka.Input(names.Topic(freshet.Followers), names, group, a.onFollower),
		kafka.DeadLetters(names),
	)
}

// Run runs the processor, again after each failure, until ctx ends.
func (a *Archive) Run(ctx context.Context) error {
	outer, stop := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	g.Go(func() error {
		a.store(outer)
		return nil
	})
	g.Go(func() error {
		a.note(outer)
		return nil
	})
	err := kafka.Supervise(ctx, "archive", a.log, func(ctx context.Context) error {
		p, err := goka.NewProcessor(a.cfg.Brokers, a.graph(), kafka.ProcessorOptions(a.cfg.Settings)...)
		if err != nil {
			return fmt.Errorf("make the archive processor: %w", err)
		}
		return kafka.RunProcessor(ctx, p, func() { a.cfg.Health.Running("archive") })
	}, kafka.SuperviseOptions{Health: a.cfg.Health})
	stop()
	err = errors.Join(err, g.Wait())
	a.lookup.Close()
	return err
}

func (a *Archive) onPost(ctx goka.Context, m *events.PostEvent) error {
	event, err := m.Event()
	if err != nil {
		return kafka.Poison(err)
	}
	if ctx.Key() != event.Post.Author.Key() {
		return kafka.Poison(fmt.Errorf("a post of account %d under the key %q", event.Post.Author, ctx.Key()))
	}
	partition, offset, at := ctx.Partition(), ctx.Offset(), ctx.Timestamp()
	a.add(ctx, func(b *batch) {
		b.events = append(b.events, posts.Event{PostEvent: event, Offset: event.Rank(offset)})
		if at.After(b.latest[partition]) {
			b.latest[partition] = at
		}
	})
	return nil
}

func (a *Archive) onFollower(ctx goka.Context, m *events.FollowerState) error {
	followee, err := freshet.ParseNumber(ctx.Key())
	if err != nil {
		return kafka.Poison(err)
	}
	change := posts.FollowerChange{
		Followee: followee, Follower: freshet.Number(m.GetFollower()), Follows: m.GetFollows(), Version: m.GetVersion(),
	}
	a.add(ctx, func(b *batch) { b.followers = append(b.followers, change) })
	return nil
}

// add puts a record into the batch; its message is committed when the batch is stored. It waits while the batch is
// full.
func (a *Archive) add(ctx goka.Context, fill func(*batch)) {
	session, done := ctx.Context(), ctx.DeferCommit()
	for {
		a.mu.Lock()
		b := a.filling
		if b.waiters.Len() < maxBatch {
			fill(b)
			b.waiters.Add(session, done)
			a.mu.Unlock()
			select {
			case a.more <- struct{}{}:
			default:
			}
			return
		}
		a.mu.Unlock()
		select {
		case <-b.taken:
		case <-session.Done():
			done(errAbandoned)
			return
		case <-a.stopped:
			done(errAbandoned)
			return
		}
	}
}

// store writes batches until ctx ends. The processor has stopped by then, so nobody waits any longer.
func (a *Archive) store(ctx context.Context) {
	defer close(a.stopped)
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.more:
		}
		a.mu.Lock()
		b := a.filling
		a.filling = newBatch()
		a.mu.Unlock()
		close(b.taken)
		a.write(ctx, b)
	}
}

// write stores a batch, however often it has to try.
func (a *Archive) write(ctx context.Context, b *batch) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, 2*time.Second
	for {
		err := a.apply(ctx, b)
		if err == nil {
			break
		}
		a.fail(err)
		a.dismiss(b)
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			b.waiters.Done(errAbandoned)
			return
		}
	}
	a.mu.Lock()
	a.failure = nil
	for partition, at := range b.latest {
		if at.After(a.latest[partition]) {
			a.latest[partition] = at
		}
	}
	a.mu.Unlock()
	b.waiters.Done(nil)
}

func (a *Archive) apply(ctx context.Context, b *batch) error {
	if len(b.events) > 0 {
		if err := a.cfg.Store.Apply(ctx, b.events); err != nil {
			return fmt.Errorf("store %d post events: %w", len(b.events), err)
		}
	}
	if len(b.followers) > 0 {
		if err := a.cfg.Store.ApplyFollowers(ctx, b.followers); err != nil {
			return fmt.Errorf("store %d follower changes: %w", len(b.followers), err)
		}
	}
	return nil
}

func (a *Archive) fail(err error) {
	a.mu.Lock()
	first := a.failure == nil
	a.failure = err
	a.mu.Unlock()
	if first {
		a.log.Warn("the post store does not take records, trying again", "error", err)
	}
}

// dismiss lets go of those who wait for a session that has ended, in the failed batch and in the next.
func (a *Archive) dismiss(failed *batch) {
	a.mu.Lock()
	ended := []*feeds.Waiters{failed.waiters.Ended(), a.filling.waiters.Ended()}
	a.mu.Unlock()
	for _, waiters := range ended {
		waiters.Done(errAbandoned)
	}
}

// note tells the store how far it is, and then lets those offsets be committed.
func (a *Archive) note(ctx context.Context) {
	ticker := time.NewTicker(noteEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := a.noteOnce(ctx); err != nil && ctx.Err() == nil {
			a.fail(err)
		}
	}
}

func (a *Archive) noteOnce(ctx context.Context) error {
	now := time.Now()
	// The ends are asked after the clock: whatever is in the log by then and below them is stored if the position has
	// reached them.
	ends, err := a.lookup.Ends(ctx, a.posts)
	if err != nil {
		return err
	}
	a.mu.Lock()
	latest := make(map[int32]time.Time, len(a.latest))
	for partition, at := range a.latest {
		latest[partition] = at
	}
	a.mu.Unlock()
	at := a.group.Positions()
	for tp, offset := range at.Offsets {
		// Any stored record was in the log before every record that is not, so its time stamp is a bound for theirs.
		p := posts.Progress{Offset: offset, Through: latest[tp.Partition]}
		if end, ok := ends[tp]; ok && offset >= end {
			p.Through = now
		}
		if err := a.cfg.Store.SetProgress(ctx, tp.Partition, p); err != nil {
			return fmt.Errorf("note the progress of partition %d: %w", tp.Partition, err)
		}
	}
	a.group.Release(at)
	return nil
}
