package fanout

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lovoo/goka"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/misdeliver"
)

// statesLinger is how long the news of a follower may wait for others of the same author. Nobody waits for it: until
// the tree has reported, the reader looks into the author's outbox.
const statesLinger = 20 * time.Millisecond

// gathered is the group's kafka.GroupConfig.Gathered: a page to which many followers come at the same time is written
// once, and so is the root of an author with many posts in a backlog. Posts, and what goes down the tree, don't wait
// for others. Replays have headers, with which they can't be put together.
func gathered(names freshet.Names) map[string]time.Duration {
	return map[string]time.Duration{
		names.Topic(freshet.Posts):      0,
		names.Topic(freshet.Followers):  statesLinger,
		names.Loop(freshet.FanoutGroup): 0,
	}
}

// onFollowers takes in statements about one author.
func (f *Fanout) onFollowers(ctx goka.Context, batch []kafka.Record[*events.FollowerState]) error {
	at, n, err := f.node(ctx)
	if err != nil {
		return err
	}
	if !at.Root() {
		return kafka.Poison(errNoAuthor)
	}
	var outs outcomes
	for _, record := range batch {
		next, out := f.tree.OnFollower(at.Author, n, stateOf(record.Msg))
		n = next
		outs.add(out, record.Timestamp)
	}
	return f.do(ctx, n, outs)
}

// onLoops takes in what was handed to one node.
func (f *Fanout) onLoops(ctx goka.Context, batch []kafka.Record[*events.FanoutLoop]) error {
	at, n, err := f.node(ctx)
	if err != nil {
		return err
	}
	var outs outcomes
	for _, record := range batch {
		if record.Msg.GetTurn() != nil { // in a sweep: what the node holds is said again
			next, effects := f.tree.Restate(at, n, f.pulled.Known(at.Author))
			n = next
			outs.add(Outcome{Effects: effects}, record.Timestamp)
			continue
		}
		message, err := messageOf(at, record.Msg)
		if err != nil {
			return kafka.Poison(err)
		}
		next, out := f.tree.OnLoop(n, message)
		n = next
		outs.add(out, record.Timestamp)
	}
	return f.do(ctx, n, outs)
}

var (
	errNoAuthor = errors.New("a follower under a key that is no account's number")
	errSilent   = errors.New("a loop message that says nothing")
)

func messageOf(to Address, m *events.FanoutLoop) (LoopMessage, error) {
	message := LoopMessage{To: to}
	switch {
	case m.GetFollower() != nil:
		message.Kind, message.State = LoopFollower, stateOf(m.GetFollower())
	case m.GetDeliver() != nil:
		message.Kind, message.Post = LoopDeliver, freshet.PostID(m.GetDeliver().GetPost())
	case m.GetSubtotal() != nil:
		message.Kind, message.Subtotal = LoopSubtotal, m.GetSubtotal().GetFollowers()
		message.Child = byte(min(m.GetSubtotal().GetChild(), Children))
	default:
		return message, errSilent
	}
	return message, nil
}

// outcomes is what one or more messages for one node have to do, one after another. Totals, stats and tiers are what is
// the case, so only the last of each is said.
type outcomes struct {
	all      []Outcome
	sent     []time.Time // the message of each of all
	subtotal *LoopMessage
	stats    *Stats
	tier     *freshet.Tier
	reports  []Report
	changed  bool
	opening  bool
}

func (o *outcomes) add(out Outcome, sent time.Time) {
	o.all = append(o.all, out)
	o.sent = append(o.sent, sent)
	o.changed = o.changed || out.Changed
	o.opening = o.opening || out.Opening
	if out.Report != nil {
		o.reports = append(o.reports, *out.Report)
	}
	if out.Stats != nil {
		o.stats = out.Stats
	}
	if out.Tier != nil {
		o.tier = out.Tier
	}
	for i := range out.Loop {
		if out.Loop[i].Kind == LoopSubtotal {
			o.subtotal = &out.Loop[i]
		}
	}
}

// do carries outcomes out: the node is written once, and the messages are finished together, when Redis, the table and
// the loop have acknowledged all of it; what has to come after that is left to the group. An error is that of a session
// that ends.
func (f *Fanout) do(ctx goka.Context, n *Node, outs outcomes) error {
	for i, out := range outs.all {
		if d := out.Delivery; d != nil {
			d.Followers = misdeliver.To(d.Post, d.Followers)
			f.writer.Add(ctx.Context(), *d, f.tell(d.Author, outs.sent[i], len(d.Followers), ctx.DeferCommit()))
		}
	}
	if outs.opening {
		flushed := make(chan error, 1)
		f.writer.Barrier(ctx.Context(), func(err error) { flushed <- err })
		if err := <-flushed; err != nil {
			return fmt.Errorf("wait for what was handed over before a child of %s is opened: %w", ctx.Key(), err)
		}
	}
	if outs.changed {
		ctx.SetValue(EncodeNode(n))
	}
	for _, out := range outs.all {
		for _, message := range out.Loop {
			if message.Kind != LoopSubtotal {
				ctx.Loopback(message.To.Key(), loopOf(message))
			}
		}
	}
	if outs.subtotal != nil {
		ctx.Loopback(outs.subtotal.To.Key(), loopOf(*outs.subtotal))
	}
	topic, partition, offset := string(ctx.Topic()), ctx.Partition(), ctx.Offset()
	if len(outs.reports) > 0 {
		f.group.After(topic, partition, offset, func(done func(error)) { f.reportAll(outs.reports, done) })
		f.writer.Barrier(ctx.Context(), ctx.DeferCommit())
	}
	if stats := outs.stats; stats != nil {
		session := f.group.Session()
		f.board.state(session, f.table.Epoch(partition), *stats)
		f.group.After(topic, partition, offset, func(done func(error)) { f.board.post(session, stats.Author, done) })
	}
	if tier := outs.tier; tier != nil {
		f.group.After(topic, partition, offset, func(done func(error)) { f.announce(*tier, done) })
	}
	return nil
}

// reportAll calls done when every report is acknowledged, or with the first error.
func (f *Fanout) reportAll(reports []Report, done func(error)) {
	var (
		mu    sync.Mutex
		left  = len(reports)
		first error
	)
	for _, r := range reports {
		f.report(r, func(err error) {
			mu.Lock()
			if first == nil {
				first = err
			}
			left--
			last := left == 0
			mu.Unlock()
			if last {
				done(first)
			}
		})
	}
}
