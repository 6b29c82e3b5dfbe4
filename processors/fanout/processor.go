package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/lovoo/goka"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/tables"
)

// HeaderOffset is the header of a record in replays that gives its offset in posts, decimal.
const HeaderOffset = "freshet-offset"

// HeaderReplay is the header of a record in replays that names the replay that has put it there. Whatever a consumer
// does with such a record it does for the second time: one with effects on people leaves it out.
const HeaderReplay = "freshet-replay"

// Config is what a Fanout needs.
type Config struct {
	Brokers []string
	Names   freshet.Names
	Conn    feeds.Conn
	Layout  feeds.Layout
	Tree    Tree
	// Store tells how far the post store is.
	Store posts.Reporter
	// Settings are those of the processor; Group and what Tables says is filled in.
	Settings kafka.ProcessorSettings
	// Writer's settings; what the fields above say is filled in.
	Writer feeds.WriterConfig
	// PullSlack is freshet.PullSlack; 0 is that.
	PullSlack time.Duration
	// Tables is where the processor keeps its table, which has this many partitions.
	Tables     *tables.Tables
	Partitions int32
	// Sweeper has the pace at which the trees are gone over in the background; the rest of it is filled in.
	Sweeper kafka.Sweeper
	Logger  *slog.Logger
	// Delivered, unless nil, is told of each page of an author's followers that has a post in Redis now: the time stamp
	// that Kafka has for the message that brought it, and how many followers there were. It is called from the writer's
	// goroutine.
	Delivered func(author freshet.Number, at time.Time, followers int)
	// Health is told about the processor.
	Health *kafka.Health
}

// Fanout is a member of the group: the processor, and the writer that its partitions share.
type Fanout struct {
	cfg     Config
	tree    Tree
	group   *kafka.Group
	inputs  *inputs
	writer  *feeds.Writer
	reports *goka.Emitter
	board   *board
	stats   *goka.Emitter
	turns   *goka.Emitter
	table   tables.Holder
	tiers   *goka.Emitter
	pulled  *Announcements
	log     *slog.Logger
}

// New prepares a member; Run starts it and closes what New opened.
func New(cfg Config) (*Fanout, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.PullSlack <= 0 {
		cfg.PullSlack = freshet.PullSlack
	}
	f := &Fanout{
		cfg: cfg, tree: cfg.Tree, board: newBoard(), log: cfg.Logger,
		pulled: NewAnnouncements(cfg.PullSlack, time.Now),
	}
	lookup, err := kafka.NewLookup(cfg.Brokers, kafka.ClientOptions(cfg.Settings.Config)...)
	if err != nil {
		return nil, err
	}
	f.inputs = &inputs{names: cfg.Names, lookup: lookup, store: cfg.Store,
		watcher: posts.NewWatcher(cfg.Store, progressEvery, cfg.Logger)}
	f.group = kafka.NewGroup(kafka.GroupConfig{
		Name:        cfg.Names.Group(freshet.FanoutGroup),
		Brokers:     cfg.Brokers,
		Config:      kafka.ConfigFor(cfg.Settings.Config, cfg.Names.Group(freshet.FanoutGroup)),
		Watermarked: f.inputs.topics(),
		Gathered:    gathered(cfg.Names),
		HoldUntil:   cfg.Names.Topic(freshet.Followers),
		Assigned:    f.assigned,
		Removed:     f.removed,
		Logger:      cfg.Logger,
	})
	f.inputs.group = f.group
	f.table = cfg.Tables.Processor(goka.Group(cfg.Names.Group(freshet.FanoutGroup)), cfg.Partitions)
	f.cfg.Settings.Group, f.cfg.Settings.Storage = f.group, f.table.Builder
	f.cfg.Settings.Update, f.cfg.Settings.WrapProducer = f.table.Update, f.table.WrapProducer
	cfg.Writer.Conn, cfg.Writer.Layout, cfg.Writer.Logger = cfg.Conn, cfg.Layout, cfg.Logger
	cfg.Writer.Inputs = f.inputs.hooks()
	f.writer = feeds.NewWriter(cfg.Writer)
	if f.reports, err = f.emitter(cfg.Names.Topic(freshet.Applied), appliedCodec); err == nil {
		f.stats, err = f.emitter(cfg.Names.Topic(freshet.Stats), statsCodec)
	}
	if err == nil {
		f.turns, err = f.emitter(cfg.Names.Loop(freshet.FanoutGroup), loopCodec)
	}
	if err == nil {
		f.tiers, err = f.emitter(cfg.Names.Topic(freshet.Tiers), tierCodec)
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.cfg.Sweeper.Keys, f.cfg.Sweeper.Logger = f.table.Keys, cfg.Logger
	f.cfg.Sweeper.Send = func(key string) (*goka.Promise, error) { return f.turns.Emit(key, turn) }
	return f, nil
}

var turn = &events.FanoutLoop{Message: &events.FanoutLoop_Turn{Turn: &events.Turn{}}}

func (f *Fanout) emitter(topic string, codec goka.Codec) (*goka.Emitter, error) {
	return kafka.NewEmitter(f.cfg.Brokers, "fanout-"+topic, f.cfg.Settings.Config, topic, codec)
}

func (f *Fanout) close() error {
	var errs []error
	for _, emitter := range []*goka.Emitter{f.reports, f.stats, f.turns, f.tiers} {
		if emitter != nil {
			errs = append(errs, emitter.Finish())
		}
	}
	f.inputs.lookup.Close()
	return errors.Join(errs...)
}

// Group is the consumer group: its lag, and seeking.
func (f *Fanout) Group() *kafka.Group { return f.group }

// Err says why feeds are not written at the moment, nil if they are.
func (f *Fanout) Err() error { return f.writer.Err() }

// Run runs the processor, again after each failure, until ctx ends. The writer outlives the processor, so that a
// session that ends gets rid of what it holds.
func (f *Fanout) Run(ctx context.Context) error {
	outer, stop := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	g.Go(func() error { return f.writer.Run(outer) })
	g.Go(func() error {
		f.board.run(outer, f.stats)
		return nil
	})
	g.Go(func() error { return f.inputs.watcher.Run(outer) })
	err := kafka.Supervise(ctx, "fanout", f.log, func(ctx context.Context) error {
		p, err := goka.NewProcessor(f.cfg.Brokers, f.graph(), kafka.ProcessorOptions(f.cfg.Settings)...)
		if err != nil {
			return fmt.Errorf("make the fanout processor: %w", err)
		}
		return kafka.RunProcessor(ctx, p, func() { f.cfg.Health.Running("fanout") }, f.table.Watch, f.cfg.Sweeper.Run)
	}, kafka.SuperviseOptions{Health: f.cfg.Health})
	stop()
	return errors.Join(err, g.Wait(), f.close())
}

var (
	nodeCodec    kafka.Codec[events.TreeNode, *events.TreeNode]
	appliedCodec kafka.Codec[events.AppliedReport, *events.AppliedReport]
	statsCodec   kafka.Codec[events.Stats, *events.Stats]
	loopCodec    kafka.Codec[events.FanoutLoop, *events.FanoutLoop]
	tierCodec    kafka.Codec[events.Tier, *events.Tier]
)

// Graph declares the group. What it writes beside, Emits has.
func Graph(names freshet.Names) *goka.GroupGraph { return (&Fanout{cfg: Config{Names: names}}).graph() }

// Emits are the topics that the group writes to through emitters of its own: reports, stats and tiers, which are
// follow-ups.
func Emits(names freshet.Names) []string {
	return []string{names.Topic(freshet.Applied), names.Topic(freshet.Stats), names.Topic(freshet.Tiers)}
}

func (f *Fanout) graph() *goka.GroupGraph {
	names, group := f.cfg.Names, freshet.FanoutGroup
	return goka.DefineGroup(goka.Group(names.Group(group)),
		kafka.BatchInput(names.Topic(freshet.Posts), names, group, f.onPosts),
		kafka.BatchInput(names.Topic(freshet.Replays), names, group, f.onPosts),
		kafka.BatchInput(names.Topic(freshet.Followers), names, group, f.onFollowers),
		kafka.BatchLoop(names, group, f.onLoops),
		goka.Persist(nodeCodec),
		kafka.DeadLetters(names),
	)
}

// onPosts takes in one author's posts, edits and deletes.
func (f *Fanout) onPosts(ctx goka.Context, batch []kafka.Record[*events.PostEvent]) error {
	at, n, err := f.node(ctx)
	if err != nil {
		return err
	}
	was := tierOf(n)
	var outs outcomes
	for _, m := range batch {
		record, err := f.postRecord(ctx, at, m)
		if err != nil {
			return err
		}
		next, out := f.tree.OnPost(at.Author, n, record)
		n = next
		outs.add(out, m.Timestamp)
	}
	if is := tierOf(n); is != was {
		f.log.Info("the tier of an author changes", "author", at.Author, "followers", n.Total(), "pull", is.Pull,
			"readers know", is.Merged)
	}
	if was.Merged {
		f.pulled.Forget(at.Author)
	}
	return f.do(ctx, n, outs)
}

// postRecord is a message of posts or replays as the rules want it.
func (f *Fanout) postRecord(
	ctx goka.Context, at Address, m kafka.Record[*events.PostEvent],
) (record PostRecord, err error) {
	event, err := m.Msg.Event()
	if err != nil {
		return record, kafka.Poison(err)
	}
	if event.Post.Author != at.Author || !at.Root() {
		return record, kafka.Poison(fmt.Errorf("a post of account %d under the key %q", event.Post.Author, ctx.Key()))
	}
	record = PostRecord{Event: event, Offset: m.Offset, Known: f.pulled.Known(at.Author)}
	if string(ctx.Topic()) == f.cfg.Names.Topic(freshet.Replays) {
		record.Replayed = true
		if record.Offset, err = strconv.ParseInt(string(ctx.Headers()[HeaderOffset]), 10, 64); err != nil {
			return record, kafka.Poison(fmt.Errorf("header %s of a replayed post: %w", HeaderOffset, err))
		}
	}
	record.Stored = f.inputs.stored(ctx.Partition(), record.Offset)
	record.Late = event.Saved && m.Timestamp.Sub(event.Post.ID.Time()) > freshet.SavedLate
	if event.Kind == freshet.PostEdited || event.Kind == freshet.PostCreated && !record.Stored {
		record.Token = f.writer.Token(event.Post.ID)
		if record.Body, err = proto.Marshal(events.BodyOf(event.Post)); err != nil {
			return record, kafka.Poison(err)
		}
	}
	return record, nil
}

func tierOf(n *Node) Tier {
	if n == nil {
		return Tier{}
	}
	return n.Tier
}

// tell makes done tell Delivered first.
func (f *Fanout) tell(author freshet.Number, at time.Time, followers int, done func(error)) func(error) {
	if f.cfg.Delivered == nil {
		return done
	}
	return func(err error) {
		if err == nil {
			f.cfg.Delivered(author, at, followers)
		}
		done(err)
	}
}

func (f *Fanout) report(r Report, done func(error)) {
	promise, err := f.reports.Emit(r.Follower.Key(), &events.AppliedReport{
		Followee: uint64(r.Followee), Held: r.Held, Version: r.Version,
	})
	if err != nil {
		done(err)
		return
	}
	promise.Then(done)
}

// announce states an author's tier.
func (f *Fanout) announce(tier freshet.Tier, done func(error)) {
	promise, err := f.tiers.Emit(tier.Author.Key(), &events.Tier{Pull: tier.Pull, Ever: tier.Ever})
	if err != nil {
		done(err)
		return
	}
	promise.Then(func(err error) {
		if err == nil {
			f.pulled.Acknowledged(tier.Author)
		}
		done(err)
	})
}

var errRow = errors.New("the row in the table cannot be read; rebuild the group's table")

// node is the address of the message's key and the node there. A row that cannot be read makes dead letters of the
// author's messages, and the other authors' go on.
func (f *Fanout) node(ctx goka.Context) (Address, *Node, error) {
	at, err := ParseAddress(ctx.Key())
	if err != nil {
		return Address{}, nil, kafka.Poison(err)
	}
	switch row := ctx.Value().(type) {
	case nil:
		return at, nil, nil
	case *events.TreeNode:
		n, err := DecodeNode(row)
		if err != nil {
			return at, nil, kafka.Poison(fmt.Errorf("row %q: %w: %w", ctx.Key(), errRow, err))
		}
		return at, n, nil
	case *kafka.Invalid:
		return at, nil, kafka.Poison(fmt.Errorf("row %q: %w: %w", ctx.Key(), errRow, row))
	default:
		return at, nil, fmt.Errorf("row %q: the table's codec made a %T", ctx.Key(), row)
	}
}

func stateOf(m *events.FollowerState) State {
	return State{Follower: freshet.Number(m.GetFollower()), Follows: m.GetFollows(), Version: m.GetVersion()}
}

func loopOf(m LoopMessage) *events.FanoutLoop {
	switch m.Kind {
	case LoopFollower:
		return &events.FanoutLoop{Message: &events.FanoutLoop_Follower{Follower: &events.FollowerState{
			Follower: uint64(m.State.Follower), Follows: m.State.Follows, Version: m.State.Version,
		}}}
	case LoopDeliver:
		return &events.FanoutLoop{Message: &events.FanoutLoop_Deliver{Deliver: &events.Deliver{Post: uint64(m.Post)}}}
	}
	return &events.FanoutLoop{Message: &events.FanoutLoop_Subtotal{Subtotal: &events.Subtotal{
		Child: uint32(m.Child), Followers: m.Subtotal,
	}}}
}
