package feeds

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrLost is returned when Redis has lost something that it had acknowledged; Recover has to run before anything else.
var ErrLost = errors.New("redis has lost acknowledged writes")

// Flusher writes batches into Redis and notices when Redis loses them. A Redis node keeps the order of its writes, so
// what it loses (a restart from an old snapshot, a fail-over without the last moments, FLUSHALL) is always the end of
// that order. Therefore every write is followed, in its zone, by a step of this writer's counter there: a counter that
// is not where Redis last acknowledged it, or another token, tells that something is gone.
//
// Its methods are called from one goroutine, but for Token.
type Flusher struct {
	conn     Conn
	layout   Layout
	writer   string
	newToken func() string
	touched  []bool // by zone, for guarded

	mu      sync.RWMutex // guards known for Token
	known   []Known
	dropped int64 // positions of sessions up to this one are worth nothing
	again   bool  // a Recover that failed has found that the writer has to go back
}

// NewFlusher makes a flusher for a writer of that name, which no other process ever has. newToken makes a name for a
// zone's next life, never the same twice.
func NewFlusher(conn Conn, layout Layout, writer string, newToken func() string) *Flusher {
	return &Flusher{
		conn: conn, layout: layout, writer: writer, newToken: newToken,
		touched: make([]bool, layout.Zones), known: make([]Known, layout.Zones),
	}
}

// Token is the zone's token as this writer knows it, empty before Recover has run. It may be called from any goroutine.
func (f *Flusher) Token(zone Zone) string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.known[zone].Token
}

// Flushed tells how long the logs and outboxes are that a flush has appended to, until the batches are used again.
type Flushed struct {
	Logs     []AppendLog
	Outboxes []*AppendOutbox
}

// Flush writes the feed entries of ready, which was next in the flush before this one, and the heads of next: bodies,
// tombstones and outboxes. So whoever finds a post missing in a feed finds it in the outbox, and whoever finds it in a
// feed finds its body.
//
// After an error both may have been written in part, and are to be flushed again after Recover. Heads that Redis has
// acknowledged and lost are not written again by that, but what is not yet flushed comes again, because the session
// goes back.
func (f *Flusher) Flush(ctx context.Context, ready, next *Batch) (Flushed, error) {
	grouped := make(chan struct{})
	go func() { // while Redis writes
		defer close(grouped)
		next.group()
	}()
	ready.ops = append(ready.second(), next.first()...)
	err := f.guarded(ctx, ready.ops)
	<-grouped
	if err != nil {
		return Flushed{}, fmt.Errorf("flush %d feed entries: %w", ready.Entries(), err)
	}
	return Flushed{Logs: ready.logs, Outboxes: next.outboxes}, nil
}

// Note writes watermarks into every zone: everything below these offsets is flushed. They are the positions of a
// session; positions of a session that a recovery has put an end to are dropped, and the answer is false. Without
// marks it only checks that nothing is lost.
func (f *Flusher) Note(ctx context.Context, session int64, marks map[Input]int64) (bool, error) {
	if len(marks) > 0 && session <= f.dropped {
		return false, nil
	}
	ops := make([]Op, f.layout.Zones)
	for zone := range ops {
		ops[zone] = f.step(Zone(zone), marks)
	}
	if err := f.steps(ctx, ops, 0); err != nil {
		return false, fmt.Errorf("note watermarks: %w", err)
	}
	return true, nil
}

// guarded runs ops, then moves the counter in each zone they touched.
func (f *Flusher) guarded(ctx context.Context, ops []Op) error {
	if len(ops) == 0 {
		return nil
	}
	clear(f.touched)
	for _, op := range ops {
		f.touched[op.InZone(f.layout)] = true
	}
	data := len(ops)
	for zone, touched := range f.touched {
		if touched {
			ops = append(ops, f.step(Zone(zone), nil))
		}
	}
	return f.steps(ctx, ops, data)
}

func (f *Flusher) step(zone Zone, marks map[Input]int64) *Advance {
	known := f.known[zone]
	return &Advance{Zone: zone, Writer: f.writer, Token: known.Token, Counter: known.Counter, Marks: marks}
}

// steps runs ops, which from that place on are steps of the counter.
func (f *Flusher) steps(ctx context.Context, ops []Op, from int) error {
	steps := ops[from:]
	for _, op := range steps {
		if step, _ := op.(*Advance); step.Token == "" {
			return fmt.Errorf("zone %d is not open: %w", step.Zone, ErrLost)
		}
	}
	if err := f.conn.Do(ctx, ops...); err != nil {
		return err
	}
	var lost []Zone
	for _, op := range steps {
		step, _ := op.(*Advance)
		if !step.OK {
			lost = append(lost, step.Zone)
			continue
		}
		f.known[step.Zone].Counter = step.Counter + 1
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d of %d zones, zone %d the first: %w", len(lost), len(steps), lost[0], ErrLost)
	}
	return nil
}

// Recover opens every zone, finds out what Redis has lost, and decides how far to go back. It runs when partitions have
// been assigned, and after every error of Flush and Note. If something was lost, each zone gets a new token, waits
// until the owners of all partitions have passed the ends that the topics have now, and its watermarks are lowered to
// where this writer goes back to. ends is asked after the loss was noticed, and answers the end of every partition of
// every input, not only of this writer's.
//
// When the Decision says Again, positions of sessions up to dropUpTo will not be noted any more, and the caller has to
// begin a new session at Back. An error leaves the flusher where a second Recover finds everything again.
func (f *Flusher) Recover(
	ctx context.Context, dropUpTo int64, at Positions, ends func(context.Context) (map[Input]int64, error),
) (Decision, error) {
	var lost []Zone
	for {
		opened := make([]*Open, f.layout.Zones)
		ops := make([]Op, f.layout.Zones)
		for zone := range opened {
			opened[zone] = &Open{Zone: Zone(zone), Writer: f.writer, Known: f.known[zone]}
			ops[zone] = opened[zone]
		}
		if err := f.conn.Do(ctx, ops...); err != nil {
			return Decision{}, fmt.Errorf("open the zones: %w", err)
		}
		d := Decide(f.known, opened, at)
		lost = append(lost, d.Lost...)
		if d.Again() {
			f.again = true
			f.dropped = max(f.dropped, dropUpTo)
		}
		if len(d.Lost) == 0 {
			f.learn(opened)
			d.Changed, d.Lost = f.again, lost
			f.again = false
			return d, nil
		}
		end, err := ends(ctx)
		if err != nil {
			return Decision{}, fmt.Errorf("ask for the ends of the topics: %w", err)
		}
		well, gone := recoverOps(d, opened, f.writer, nextToken(newestNumber(f.known, opened), f.newToken()), end, at.Stored)
		done, err := f.renew(ctx, well, gone)
		if err != nil {
			return Decision{}, fmt.Errorf("renew the zones: %w", err)
		}
		if done {
			d.Changed, d.Lost = true, lost
			f.again = false
			return d, nil
		}
	}
}

// renew reports false when another writer renewed a zone at the same time.
func (f *Flusher) renew(ctx context.Context, groups ...[]*Recover) (bool, error) {
	for _, group := range groups {
		ops := make([]Op, len(group))
		for i, op := range group {
			ops[i] = op
		}
		if len(ops) == 0 {
			continue
		}
		if err := f.conn.Do(ctx, ops...); err != nil {
			return false, err
		}
		for _, op := range group {
			if !op.OK {
				return false, nil
			}
			f.set(op.Zone, Known{Token: op.New, Counter: 1})
		}
	}
	return true, nil
}

func (f *Flusher) learn(opened []*Open) {
	for _, zone := range opened {
		f.set(zone.Zone, Known{Token: zone.Token, Counter: zone.Counter})
	}
}

func (f *Flusher) set(zone Zone, known Known) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[zone] = known
}
