package graph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/IBM/sarama"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/processors/following"
)

// ManyFollows is how many accounts one account may follow through the API. An import does not apply the limit, but
// tells.
const ManyFollows = 10_000

// Stage is a part of an import, in the order in which they come.
type Stage string

// The stages.
const (
	StageTables   Stage = "read the tables"
	StageRegister Stage = "register accounts"
	StageDirect   Stage = "await the directory"
	StageFollow   Stage = "write follows"
	StageApply    Stage = "await the follower trees"
)

// Config says where a graph is brought to.
type Config struct {
	Brokers []string
	Names   freshet.Names
	// NoWait: return when everything is written, and do not wait until every follower tree holds its followers.
	NoWait bool
	// Progress is told, from one goroutine, how far a stage is; it must not block. It may be nil.
	Progress func(stage Stage, done, total int)
	// Sarama makes the settings of a client; nil means kafka.Config.
	Sarama func(clientID string) *sarama.Config
	Logger *slog.Logger
}

// Summary is what an import did.
type Summary struct {
	AccountsNew, AccountsKnown int
	FollowsNew, FollowsKnown   int
	// FollowsClosed are left out because one of the accounts is closed, FollowsFull because the follower's row has room
	// for following.MaxRow entries and no more.
	FollowsClosed, FollowsFull int
	// Many are the accounts that follow more than ManyFollows others, with how many.
	Many map[freshet.AccountID]int
}

// importer is an import under way.
type importer struct {
	Config
	graph      *Graph
	partitions int32
	copies     *copies
	writers    *emitters.Emitters
	fail       context.CancelCauseFunc
	summary    Summary
	numbers    []freshet.Number // by place
	made       []bool           // by place: registered by this import, so there is no row yet
	closed     map[uint32]bool  // places of accounts that are closed
	expected   [][]edge         // the follows of each follower that will be in its row
}

// Import writes what is missing of a graph, and waits until it shows. An error says how far it came; what was written
// stays, and the next run adds the rest.
func Import(ctx context.Context, g *Graph, c Config) (summary Summary, err error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Progress == nil {
		c.Progress = func(Stage, int, int) {}
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	i := &importer{
		Config: c, graph: g, fail: fail, closed: map[uint32]bool{},
		numbers: make([]freshet.Number, len(g.Accounts)), made: make([]bool, len(g.Accounts)),
	}
	i.summary.Many = map[freshet.AccountID]int{}
	if i.partitions, err = partitionsOf(ctx, c); err != nil {
		return i.summary, err
	}
	i.Progress(StageTables, 0, 1)
	if i.copies, err = openCopies(ctx, c.Brokers, c.Names, c.Sarama, c.Logger, fail); err != nil {
		return i.summary, err
	}
	defer func() { err = errors.Join(err, i.copies.stop()) }()
	i.Progress(StageTables, 1, 1)
	if i.writers, err = emitters.New(c.Brokers, c.Names, c.Sarama); err != nil {
		return i.summary, err
	}
	defer func() { err = errors.Join(err, i.writers.Close()) }()

	for _, step := range []func(context.Context) error{i.register, i.follow, i.await} {
		if err := step(ctx); err != nil {
			return i.summary, err
		}
	}
	return i.summary, nil
}

// partitionsOf is how many partitions the topics have. It fails if the deployment's topics are not there.
func partitionsOf(ctx context.Context, c Config) (int32, error) {
	lookup, err := kafka.NewLookup(c.Brokers, kafka.ClientOptions(c.Sarama)...)
	if err != nil {
		return 0, err
	}
	defer lookup.Close()
	var partitions int32
	for _, topic := range []string{
		c.Names.Topic(freshet.Follows), c.Names.Table(freshet.DirectoryGroup), c.Names.Table(freshet.FollowingGroup),
		c.Names.Topic(freshet.Registrations),
	} {
		ends, err := lookup.Ends(ctx, topic)
		if err != nil {
			return 0, fmt.Errorf("%w; has freshet been started on this Kafka, with this prefix?", err)
		}
		partitions = int32(len(ends))
	}
	return partitions, nil
}

// follow writes the follows that the rows do not have.
func (i *importer) follow(ctx context.Context) error {
	w := i.writes(StageFollow, i.graph.Follows())
	now := time.Now()
	for place, edges := range i.graph.followers() {
		targets, expected, err := i.targets(place, edges)
		if err != nil {
			return err
		}
		i.expected = append(i.expected, expected)
		w.skip(len(edges) - len(targets))
		for len(targets) > 0 {
			n := min(len(targets), emitters.MaxTargets)
			err := i.writers.RelateAsync(ctx, i.numbers[place], events.FollowEvent_FOLLOW, now, targets[:n], w.begin(n, nil))
			if err != nil {
				return i.failed(ctx, err)
			}
			targets = targets[n:]
		}
	}
	if err := w.wait(ctx); err != nil {
		return i.failed(ctx, err)
	}
	return nil
}

// targets are those whom an account does not follow yet; expected are the follows that there will be.
func (i *importer) targets(place uint32, edges []edge) (targets []freshet.Number, expected []edge, err error) {
	var row *freshet.Following
	if !i.made[place] {
		if row, err = i.copies.rows.Row(i.numbers[place]); err != nil {
			return nil, nil, err
		}
	}
	entries := 0
	if row != nil {
		entries = len(row.Relations) + len(row.Muted) + len(row.Blocked)
	}
	expected = make([]edge, 0, len(edges))
	for _, e := range edges {
		followee := i.numbers[e.followee]
		_, inRow := row.Relation(followee)
		switch {
		case i.closed[place], i.closed[e.followee]:
			i.summary.FollowsClosed++
			continue
		case row.Follows(followee):
			i.summary.FollowsKnown++
		case !inRow && entries >= following.MaxRow:
			i.summary.FollowsFull++
			continue
		default:
			targets = append(targets, followee)
			if !inRow {
				entries++
			}
		}
		expected = append(expected, e)
	}
	i.summary.FollowsNew += len(targets)
	if follows := row.Count() + len(targets); follows > ManyFollows {
		i.summary.Many[i.graph.Accounts[place]] = follows
	}
	return targets, expected, nil
}

// await waits until every follow is in its follower's row and in its followee's tree.
func (i *importer) await(ctx context.Context) error {
	if i.NoWait {
		return nil
	}
	total := 0
	for _, edges := range i.expected {
		total += len(edges)
	}
	rest, complete := i.expected, 0
	return i.poll(ctx, StageApply, total, func(int) (int, bool, error) {
		if len(rest[0]) == 0 {
			rest = rest[1:]
			return complete, true, nil
		}
		applied, err := i.applied(rest[0])
		if err != nil || applied < len(rest[0]) {
			return complete + applied, false, err
		}
		complete += applied
		rest = rest[1:]
		return complete, true, nil
	})
}

// applied is how many of a follower's follows are in the followees' trees.
func (i *importer) applied(edges []edge) (int, error) {
	row, err := i.copies.rows.Row(i.numbers[edges[0].follower])
	if err != nil {
		return 0, err
	}
	applied := 0
	for _, e := range edges {
		if r, ok := row.Relation(i.numbers[e.followee]); ok && r.Follows && r.Applied {
			applied++
		}
	}
	return applied, nil
}

// failed is the error of an import that came to a stop: the first thing that went wrong.
func (i *importer) failed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%w; what is written stays, and running the import again adds the rest", err)
}
