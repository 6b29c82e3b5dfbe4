package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/IBM/sarama"
	"github.com/cockroachdb/pebble/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/posts/pebblestore"
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

func (s *Sources) openLeft(ctx, running context.Context) error {
	dir := filepath.Join(s.cfg.Dir, "left")
	if err := os.RemoveAll(dir); err != nil { // of a process that was killed
		return fmt.Errorf("make a database for who has left whom: %w", err)
	}
	db, err := pebble.Open(dir, &pebble.Options{
		FormatMajorVersion: pebble.FormatColumnarBlocks, DisableWAL: true, Logger: quiet{},
	})
	if err != nil {
		return fmt.Errorf("make a database for who has left whom: %w", err)
	}
	s.onClose(db.Close)
	s.left = &left{db: db}
	s.left.tail, err = s.openTail(ctx, running, freshet.Follows, s.left.take)
	return err
}

// openTail follows a topic from its beginning.
func (s *Sources) openTail(
	ctx, running context.Context, topic freshet.Topic, take func([]kafka.Fetched) error,
) (*tail, error) {
	name := s.cfg.Names.Topic(topic)
	starts, err := s.lookup.Starts(ctx, name)
	if err != nil {
		return nil, err
	}
	t, err := openTail(s.cfg.Brokers, name, starts, s.options)
	if err != nil {
		return nil, err
	}
	s.running.Go(func() error { return t.run(running, take) })
	ends, err := s.ends(ctx, name)
	if err != nil {
		return nil, err
	}
	stage := "reading " + name
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			done, total := t.taken(starts, ends)
			s.cfg.Progress(stage, done, total)
			select {
			case <-tick.C:
			case <-watched.Done():
				return
			}
		}
	}()
	err = t.await(ctx, ends)
	return t, err
}

// ErrNoStore is returned where the post store is needed and cannot be made of the log.
var ErrNoStore = errors.New("the log of posts does not go back to its beginning, so it takes the post store; name it " +
	"with --cassandra")

// openStore makes a post store of the log.
func (s *Sources) openStore(ctx, running context.Context) error {
	starts, err := s.lookup.Starts(ctx, s.cfg.Names.Topic(freshet.Posts))
	if err != nil {
		return err
	}
	for _, start := range starts {
		if start > 0 {
			return ErrNoStore
		}
	}
	store, err := pebblestore.Open(filepath.Join(s.cfg.Dir, "posts"), pebblestore.Options{Log: s.cfg.Logger})
	if err != nil {
		return err
	}
	s.onClose(store.Close)
	s.store = store
	s.logged, err = s.openTail(ctx, running, freshet.Posts, func(records []kafka.Fetched) error {
		return store.Apply(running, Events(records))
	})
	return err
}

// Events are the events of records of posts. Records that cannot be read say nothing: they are dead letters.
func Events(records []kafka.Fetched) []posts.Event {
	all := make([]posts.Event, 0, len(records))
	for _, r := range records {
		value, err := postCodec.Decode(r.Value)
		message, ok := value.(*events.PostEvent)
		if err != nil || !ok {
			continue
		}
		event, err := message.Event()
		if err != nil || event.Post.Author.Key() != string(r.Key) {
			continue
		}
		all = append(all, posts.Event{PostEvent: event, Offset: r.Offset})
	}
	return all
}

var postCodec kafka.Codec[events.PostEvent, *events.PostEvent]

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

// ends are the ends of a topic's partitions.
func (s *Sources) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	found, err := s.lookup.Ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends := make(map[int32]int64, len(found))
	for at, end := range found {
		ends[at.Partition] = end
	}
	return ends, nil
}

// committed is where fan-out stands in a topic: at its start where it has committed nothing.
func (s *Sources) committed(ctx context.Context, topic string) (map[int32]int64, error) {
	at, err := s.lookup.Starts(ctx, topic)
	if err != nil {
		return nil, err
	}
	found, err := s.lookup.Committed(ctx, s.cfg.Names.Group(freshet.FanoutGroup), topic)
	for p, offset := range found {
		at[p.Partition] = max(at[p.Partition], offset)
	}
	return at, err
}

// recordTimeout bounds the reading of single records and short spans.
const recordTimeout = 30 * time.Second

// record reads the record at an offset, or the next one that is there.
func (s *Sources) record(ctx context.Context, topic string, partition int32, offset int64) (kafka.Fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	reader, err := kafka.OpenReader(s.cfg.Brokers, topic, map[int32]int64{partition: offset}, s.options...)
	if err != nil {
		return kafka.Fetched{}, err
	}
	defer reader.Close()
	for ctx.Err() == nil {
		records, err := reader.Poll(ctx, 1)
		if len(records) > 0 {
			return records[0], nil
		}
		if err != nil {
			return kafka.Fetched{}, err
		}
	}
	return kafka.Fetched{}, fmt.Errorf("read %s/%d at %d: %w", topic, partition, offset, context.Cause(ctx))
}

// span calls take for every record from from up to ends.
func (s *Sources) span(
	ctx context.Context, topic string, from, ends map[int32]int64, take func(kafka.Fetched),
) error {
	next := map[int32]int64{}
	for partition, end := range ends {
		if from[partition] < end {
			next[partition] = from[partition]
		}
	}
	if len(next) == 0 {
		return nil
	}
	reader, err := kafka.OpenReader(s.cfg.Brokers, topic, next, s.options...)
	if err != nil {
		return err
	}
	defer reader.Close()
	for len(next) > 0 {
		waiting, cancel := context.WithTimeout(ctx, recordTimeout)
		records, err := reader.Poll(waiting, pollRecords)
		cancel()
		if len(records) == 0 {
			return errors.Join(fmt.Errorf("%s gives no records", topic), err, context.Cause(ctx))
		}
		for _, r := range records {
			if r.Offset < ends[r.Partition] {
				take(r)
			}
			if r.Offset+1 >= ends[r.Partition] {
				delete(next, r.Partition)
			}
		}
	}
	return nil
}

// quiet drops what Pebble notes of a database that goes with the audit.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic("audit: " + fmt.Sprintf(format, args...))
}

// ErrNoAccount is wrapped by the error for an id that no account has.
var ErrNoAccount = errors.New("there is no such account")

// Numbers finds accounts by their ids, from a copy of the directory's table alone.
func Numbers(ctx context.Context, cfg Config, ids []freshet.AccountID) (all []freshet.Number, err error) {
	local, err := tables.Open(filepath.Join(cfg.Dir, "tables"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, local.Close()) }()
	own := local.View("audit")
	accounts, err := views.NewAccounts(cfg.Brokers, cfg.Names, kafka.ViewSettings{
		ClientID: "audit-accounts", Config: cfg.Sarama, Storage: own.Builder, Update: own.Update, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- accounts.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	select {
	case <-accounts.Ready():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for _, id := range ids {
		account, found, err := accounts.ByID(id)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("account %s: %w", id, ErrNoAccount)
		}
		all = append(all, account.Number)
	}
	return all, nil
}

// Size is how many registrations each partition has now; every account's number is among them.
func Size(ctx context.Context, cfg Config) (map[int32]int64, error) {
	lookup, err := kafka.NewLookup(cfg.Brokers, kafka.ClientOptions(cfg.Sarama)...)
	if err != nil {
		return nil, err
	}
	defer lookup.Close()
	s := Sources{cfg: cfg, lookup: lookup}
	return s.ends(ctx, cfg.Names.Topic(freshet.Registrations))
}
