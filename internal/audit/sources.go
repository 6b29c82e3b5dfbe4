package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/tables"
	"freshet/views"
)

// Config says where everything is.
type Config struct {
	Brokers []string
	Names   freshet.Names
	// Sarama makes a configuration for each client of Kafka.
	Sarama func(clientID string) *sarama.Config
	Conn   feeds.Conn
	Layout feeds.Layout
	// Store is the post store. Nil: one is made of the log of posts, which must go back to its beginning.
	Store posts.Store
	// Dir is an empty directory for copies of tables and logs; the caller removes it.
	Dir string
	// Memory bounds the lists of authors that are kept, in bytes; 0 is DefaultMemory.
	Memory int
	Logger *slog.Logger
	// Progress, unless nil, is told how far a stage is.
	Progress func(stage string, done, total int)
}

// DefaultMemory holds the lists of a million authors with 40 posts each.
const DefaultMemory = 512 << 20

// Sources are what an audit reads: copies of tables and logs that are kept current, Redis, the post store. They are
// safe for concurrent use.
type Sources struct {
	cfg      Config
	rows     *views.Following
	accounts *views.Accounts
	tiers    *views.Tiers
	trees    *views.Trees
	left     *left
	store    posts.Store
	logged   *tail // fills the store, nil if it is not ours
	lookup   *kafka.Lookup
	options  []kgo.Opt
	// size is how many registrations each partition had when the sources were opened.
	size map[int32]int64

	running errgroup.Group
	stop    context.CancelFunc
	closers []func() error
}

// ErrLayout is wrapped by the error for a number of zones that Redis does not have.
var ErrLayout = errors.New("redis is laid out otherwise")

// Open reads everything and returns when copies of tables and logs have reached their ends. Close ends what it has
// opened.
func Open(ctx context.Context, cfg Config) (*Sources, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, int, int) {}
	}
	s := &Sources{cfg: cfg, store: cfg.Store, options: kafka.ClientOptions(cfg.Sarama)}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if err := s.open(ctx, running); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends everything; the error is that of a copy that ended before.
func (s *Sources) Close() error {
	s.stop()
	err := s.running.Wait()
	for i := len(s.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closers[i]())
	}
	s.closers = nil
	return err
}

func (s *Sources) onClose(f func() error) { s.closers = append(s.closers, f) }

func (s *Sources) open(ctx, running context.Context) (err error) {
	if s.lookup, err = kafka.NewLookup(s.cfg.Brokers, s.options...); err != nil {
		return err
	}
	s.onClose(func() error { s.lookup.Close(); return nil })
	if s.size, err = s.ends(ctx, s.cfg.Names.Topic(freshet.Registrations)); err != nil {
		return err
	}
	if err := CheckZones(ctx, s.cfg.Conn, s.cfg.Layout); err != nil {
		return err
	}
	if err := s.openLeft(ctx, running); err != nil {
		return err
	}
	if s.store == nil {
		if err := s.openStore(ctx, running); err != nil {
			return err
		}
	}
	if err := s.openTables(ctx, running); err != nil {
		return err
	}
	return s.Current(ctx)
}

// CheckZones refuses a number of zones that is not that of Redis: everything would seem to be cold. The error wraps
// ErrLayout.
func CheckZones(ctx context.Context, conn feeds.Conn, layout feeds.Layout) error {
	first, last := &feeds.ReadZone{}, &feeds.ReadZone{Zone: feeds.Zone(layout.Zones - 1)}
	behind := &feeds.ReadZone{Zone: feeds.Zone(layout.Zones)}
	if err := conn.Do(ctx, first, last, behind); err != nil {
		return fmt.Errorf("look for the zones of Redis: %w", err)
	}
	if first.State.Token != "" && last.State.Token == "" || behind.State.Token != "" {
		return fmt.Errorf("%w: it has not %d zones; name their number as the processes do, with --zones", ErrLayout,
			layout.Zones)
	}
	return nil
}

// openTables makes copies of the tables, one after another, because a view that was opened has to run to be closed.
func (s *Sources) openTables(ctx, running context.Context) error {
	local, err := tables.Open(filepath.Join(s.cfg.Dir, "tables"))
	if err != nil {
		return err
	}
	s.onClose(local.Close)
	own := local.View("audit")
	settings := func(name string) kafka.ViewSettings {
		return kafka.ViewSettings{
			ClientID: "audit-" + name, Config: s.cfg.Sarama, Storage: own.Builder, Update: own.Update, Logger: s.cfg.Logger,
		}
	}
	if s.accounts, err = views.NewAccounts(s.cfg.Brokers, s.cfg.Names, settings("accounts")); err != nil {
		return err
	}
	s.running.Go(func() error { return s.accounts.Run(running) })
	if s.rows, err = views.NewFollowing(s.cfg.Brokers, s.cfg.Names, settings("following")); err != nil {
		return err
	}
	s.running.Go(func() error { return s.rows.Run(running) })
	if s.tiers, err = views.NewTiers(s.cfg.Brokers, s.cfg.Names, settings("tiers")); err != nil {
		return err
	}
	s.running.Go(func() error { return s.tiers.Run(running) })
	if s.trees, err = views.NewTrees(s.cfg.Brokers, s.cfg.Names, settings("trees")); err != nil {
		return err
	}
	s.running.Go(func() error { return s.trees.Run(running) })
	stages := []struct {
		name  string
		ready <-chan struct{}
	}{
		{"reading the table of accounts", s.accounts.Ready()}, {"reading the table of following", s.rows.Ready()},
		{"reading the tiers", s.tiers.Ready()}, {"reading the follower trees", s.trees.Ready()},
	}
	for _, stage := range stages {
		s.cfg.Progress(stage.name, 0, 0)
		select {
		case <-stage.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// currentTimeout bounds the wait for copies to reach the ends of their topics.
const currentTimeout = 2 * time.Minute

// Current waits until every copy has what its topic had when it was called. A relation that the table of following
// calls applied is then in the copy of the tree, too: the trees are asked for their ends last, and a tree's page is
// written before it reports.
func (s *Sources) Current(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, currentTimeout, errors.New("copies of tables do not come to their ends"))
	defer cancel()
	names := s.cfg.Names
	for _, copied := range []struct {
		topic string
		await func(context.Context, map[int32]int64) error
	}{
		{names.Table(freshet.DirectoryGroup), s.accounts.AwaitEnds},
		{names.Table(freshet.FollowingGroup), s.rows.AwaitEnds},
		{names.Topic(freshet.Tiers), s.tiers.AwaitEnds},
		{names.Table(freshet.FanoutGroup), s.awaitTrees},
		{names.Topic(freshet.Follows), s.left.await},
		{names.Topic(freshet.Posts), s.awaitStore},
	} {
		ends, err := s.ends(ctx, copied.topic)
		if err == nil {
			err = copied.await(ctx, ends)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Sources) awaitStore(ctx context.Context, ends map[int32]int64) error {
	if s.logged == nil {
		return nil
	}
	return s.logged.await(ctx, ends)
}

func (s *Sources) awaitTrees(ctx context.Context, ends map[int32]int64) error {
	if s.trees == nil { // a Watch has no copy of them
		return nil
	}
	return s.trees.AwaitEnds(ctx, ends)
}
