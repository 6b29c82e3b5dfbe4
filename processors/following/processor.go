package following

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/lovoo/goka"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// MaxRow is how many relations, muted and blocked accounts a row may have together. At up to 22 bytes for each, a
// larger row could be more than Kafka takes as one record. The API's caps lie far below.
const MaxRow = 40_000

var (
	statement kafka.Codec[events.FollowerState, *events.FollowerState]
	// LoopCodec is the codec of the group's messages to itself.
	LoopCodec kafka.Codec[events.FollowingLoop, *events.FollowingLoop]
)

// Turn is the loop message that gives a row, the message's key, its turn in a sweep.
func Turn() *events.FollowingLoop {
	return &events.FollowingLoop{Message: &events.FollowingLoop_Turn{Turn: &events.Turn{}}}
}

// Graph declares the group.
func Graph(names freshet.Names) *goka.GroupGraph {
	const group = freshet.FollowingGroup
	p := processor{followers: goka.Stream(names.Topic(freshet.Followers))}
	return goka.DefineGroup(goka.Group(names.Group(group)),
		kafka.BatchInput(names.Topic(freshet.Follows), names, group, p.acted),
		kafka.BatchInput(names.Topic(freshet.Applied), names, group, p.reported),
		kafka.Loop(names, group, p.loop),
		goka.Persist(Table{}),
		goka.Output(p.followers, statement),
		kafka.DeadLetters(names),
	)
}

// reportsLinger is how long a report may wait for others of the same follower. Nobody waits for a report: until it is
// in the row, readers take the followee's posts from elsewhere.
const reportsLinger = 50 * time.Millisecond

// Gathered is the group's kafka.GroupConfig.Gathered. A row is one record and is written whole, so what changes a row
// at the same time is put together: the events of an import, and the reports that come back for them. Without that,
// following many accounts would cost the square of their number.
func Gathered(names freshet.Names) map[string]time.Duration {
	return map[string]time.Duration{
		names.Topic(freshet.Follows): 0,
		names.Topic(freshet.Applied): reportsLinger,
	}
}

// New makes a processor for the group. A processor runs once; a supervisor makes another one after a failure.
func New(brokers []string, names freshet.Names, opts ...goka.ProcessorOption) (*goka.Processor, error) {
	p, err := goka.NewProcessor(brokers, Graph(names), opts...)
	if err != nil {
		return nil, fmt.Errorf("make the processor of %s: %w", names.Group(freshet.FollowingGroup), err)
	}
	return p, nil
}

// processor carries rows and records to the rules and back.
type processor struct {
	followers goka.Stream
}

func (p processor) acted(ctx goka.Context, batch []kafka.Record[*events.FollowEvent]) error {
	follower, row, err := rowOf(ctx)
	if err != nil {
		return err
	}
	next, statements := row, []Statement(nil)
	for _, record := range batch {
		event, err := eventOf(record.Msg, follower, record.Offset)
		if err != nil {
			return kafka.Poison(err)
		}
		var says []Statement
		next, says = Apply(next, event)
		if size := len(next.Relations) + len(next.Muted) + len(next.Blocked); size > MaxRow {
			return kafka.Poison(fmt.Errorf("the row of account number %d would have %d entries, which is more than %d",
				follower, size, MaxRow))
		}
		statements = append(statements, says...)
	}
	p.write(ctx, row, next, statements)
	return nil
}

func (p processor) reported(ctx goka.Context, batch []kafka.Record[*events.AppliedReport]) error {
	follower, row, err := rowOf(ctx)
	if err != nil {
		return err
	}
	reports := make([]AppliedReport, len(batch))
	for i, record := range batch {
		m := record.Msg
		reports[i] = AppliedReport{
			Follower: follower, Followee: freshet.Number(m.GetFollowee()), Held: m.GetHeld(), Version: m.GetVersion(),
		}
	}
	next, statements := Report(row, reports...)
	p.write(ctx, row, next, statements)
	return nil
}

// loop says all that is so again, at the row's turn.
func (p processor) loop(ctx goka.Context, m *events.FollowingLoop) error {
	if m.GetTurn() == nil {
		return kafka.Poison(errors.New("a loop message that says nothing"))
	}
	follower, row, err := rowOf(ctx)
	if err != nil {
		return err
	}
	p.state(ctx, Restate(follower, row))
	return nil
}

func (p processor) write(ctx goka.Context, old, row *freshet.Following, statements []Statement) {
	if row != old {
		ctx.SetValue(row)
	}
	p.state(ctx, statements)
}

func (p processor) state(ctx goka.Context, statements []Statement) {
	for _, s := range statements {
		ctx.Emit(p.followers, s.Followee.Key(), &events.FollowerState{
			Follower: uint64(s.Follower), Follows: s.Follows, Version: s.Version,
		})
	}
}

var errRow = errors.New("the row in the table cannot be read; rebuild the group's table")

// rowOf is the account of the message's key and its row. A row that cannot be read makes dead letters of the account's
// messages, and the other accounts' go on.
func rowOf(ctx goka.Context) (freshet.Number, *freshet.Following, error) {
	follower, err := freshet.ParseNumber(ctx.Key())
	if err != nil {
		return 0, nil, kafka.Poison(fmt.Errorf("the key: %w", err))
	}
	switch row := ctx.Value().(type) {
	case nil:
		return follower, nil, nil
	case *freshet.Following:
		return follower, row, nil
	case *kafka.Invalid:
		return follower, nil, kafka.Poison(fmt.Errorf("row %q: %w: %w", ctx.Key(), errRow, row))
	default:
		return follower, nil, fmt.Errorf("row %q: the table's codec made a %T", ctx.Key(), row)
	}
}

// eventOf checks what the rules take for granted: a kind that is known, and accounts whose numbers a row can hold.
func eventOf(m *events.FollowEvent, follower freshet.Number, offset int64) (Event, error) {
	e := Event{Kind: Kind(m.GetKind()), Offset: offset, Follower: follower}
	if e.Kind < Follow || e.Kind > Unblock {
		return e, fmt.Errorf("follow event of account number %d: unknown kind %s", follower, m.GetKind())
	}
	targets := m.GetTargets()
	if len(targets) == 0 {
		targets = []uint64{m.GetTarget()}
	}
	e.Targets = make([]freshet.Number, len(targets))
	for i, target := range targets {
		if target > math.MaxInt64 {
			return e, fmt.Errorf("follow event of account number %d: %d is no account number", follower, target)
		}
		e.Targets[i] = freshet.Number(target)
	}
	return e, nil
}
