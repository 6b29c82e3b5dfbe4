package views

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"

	"freshet/internal/kafka"
)

// ErrNotReady is wrapped by the errors of look-ups in a view that has not recovered yet, or has stopped: what it lacks
// may exist, so callers answer "not now" and never "not there".
var ErrNotReady = errors.New("the view has not recovered yet")

// ErrNotVisible is wrapped by the errors of waits that ended before the view showed what was waited for.
var ErrNotVisible = errors.New("the view does not show it yet")

// table is a goka view with what look-ups need beside it: gating until it has recovered, and waits for a row to change.
type table struct {
	view    *goka.View
	clients kafka.ViewClients
	ready   chan struct{} // closed once every partition has recovered
	changed changed       // may be nil
	waits   waits         // by key

	mu      sync.RWMutex // holds look-ups and the view's end apart: goka closes its tables unguarded
	stopped bool         // by mu
}

// changed is told of each record, after it is stored and before waits are woken, from the goroutine of its partition.
type changed func(key string, value []byte)

func openTable(
	brokers []string, topic string, codec goka.Codec, changed changed, s kafka.ViewSettings,
) (*table, error) {
	t := &table{ready: make(chan struct{}), changed: changed}
	s.Clients = &t.clients
	view, err := goka.NewView(brokers, goka.Table(topic), codec, kafka.ViewOptions(s, t.updated)...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a view of %s at %v: %w", topic, brokers, err), t.clients.Close())
	}
	t.view = view
	return t, nil
}

// updated is called for each record, while recovering and after, from the goroutine of its partition.
func (t *table) updated(ctx goka.UpdateContext, s storage.Storage, key string, value []byte) error {
	if err := goka.DefaultUpdate(ctx, s, key, value); err != nil {
		return fmt.Errorf("store the row %q of %s: %w", key, t.view.Topic(), err)
	}
	if t.changed != nil {
		t.changed(key, value)
	}
	t.waits.wake(key)
	return nil
}

// Run follows the table until ctx ends, reconnecting for as long as it takes, and then closes the view. A view runs
// once, and one that was opened has to run.
func (t *table) Run(ctx context.Context) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { // ends the view only when no look-up is under way, and lets none in afterwards
		select {
		case <-ctx.Done():
		case <-running.Done():
		}
		t.mu.Lock()
		t.stopped = true
		t.mu.Unlock()
		cancel()
	})
	wg.Go(func() { t.awaitRecovery(running) })
	err := t.view.Run(running)
	cancel()
	wg.Wait()
	if err != nil {
		err = fmt.Errorf("follow %s: %w", t.view.Topic(), err)
	}
	return errors.Join(err, t.clients.Close())
}

// awaitRecovery closes ready. goka's own signal may come while partitions that have not reported anything are still to
// recover, so they are asked as well; they give no signal of their own.
func (t *table) awaitRecovery(ctx context.Context) {
	select {
	case <-t.view.WaitRunning():
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !t.Current() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	close(t.ready)
}

// Ready is closed once the view has recovered; look-ups answer ErrNotReady before.
func (t *table) Ready() <-chan struct{} { return t.ready }

// Current says whether the view follows every partition of its table now. It is false while it recovers, and while it
// has lost its broker and goes on answering from what it had.
func (t *table) Current() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return !t.stopped && t.view.Recovered()
}

// Lag is by how many records the view is behind its table, as of the last half minute or so. It is 0 before the view
// has recovered.
func (t *table) Lag(ctx context.Context) int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.answers() != nil {
		return 0
	}
	var lag int64
	for _, p := range t.view.Stats(ctx).Partitions {
		lag += max(p.Input.OffsetLag, 0)
	}
	return lag
}

// answers says whether look-ups are answered: from recovery to the view's end. The caller holds mu.
func (t *table) answers() error {
	if t.stopped || !isClosed(t.ready) {
		return fmt.Errorf("look into %s: %w", t.view.Topic(), ErrNotReady)
	}
	return nil
}

// applied is the offset below which each partition of the table is applied, or a lower one; nothing before the view has
// recovered.
func (t *table) applied(ctx context.Context) map[int32]int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.answers() != nil {
		return nil
	}
	applied := map[int32]int64{}
	for partition, p := range t.view.Stats(ctx).Partitions {
		at := p.Recovery.Offset // where recovery began, or the last record that it read
		if p.Input.Count > 0 {
			at = max(at, p.Input.LastOffset+1)
		}
		applied[partition] = at
	}
	return applied
}

// endsEvery is how often a view is compared with the ends for which somebody waits.
const endsEvery = 20 * time.Millisecond

// AwaitEnds waits until the view has applied everything below these offsets of the partitions of its table, such as the
// ends that they had. The error wraps ErrNotVisible when ctx ends before that.
func (t *table) AwaitEnds(ctx context.Context, ends map[int32]int64) error {
	tick := time.NewTicker(endsEvery)
	defer tick.Stop()
	for {
		applied := t.applied(ctx)
		behind := applied == nil
		for partition, end := range ends {
			behind = behind || applied[partition] < end
		}
		if !behind {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s is applied up to its ends: %w: %w", t.view.Topic(), ErrNotVisible,
				context.Cause(ctx))
		}
	}
}

// each goes over the rows as they are when it begins, until visit returns an error, which it returns. A row that cannot
// be read is an error.
func (t *table) each(visit func(key string, row any) error) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.answers(); err != nil {
		return err
	}
	rows, err := t.view.Iterator()
	if err != nil {
		return fmt.Errorf("go over %s: %w", t.view.Topic(), err)
	}
	defer rows.Release()
	for rows.Next() {
		row, err := rows.Value()
		if invalid, ok := row.(*kafka.Invalid); ok {
			err = invalid.Err
		}
		if err != nil {
			return fmt.Errorf("read the row %q of %s: %w", rows.Key(), t.view.Topic(), err)
		}
		if err := visit(rows.Key(), row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("go over %s: %w", t.view.Topic(), err)
	}
	return nil
}

// row looks a row up: nil if there is none.
func (t *table) row(key string) (any, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.answers(); err != nil {
		return nil, err
	}
	value, err := t.view.Get(key)
	if err != nil {
		return nil, fmt.Errorf("look %q up in %s: %w", key, t.view.Topic(), err)
	}
	if invalid, ok := value.(*kafka.Invalid); ok {
		return nil, fmt.Errorf("look %q up in %s: the row cannot be read: %w", key, t.view.Topic(), invalid.Err)
	}
	return value, nil
}

// await returns when shown says yes or fails. It asks at once, and again after each change of the row.
func (t *table) await(ctx context.Context, key string, shown func() (bool, error)) error {
	wake, done := t.waits.join(key)
	defer done()
	for {
		if ok, err := shown(); ok || err != nil {
			return err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return fmt.Errorf("wait for the row %q of %s: %w: %w", key, t.view.Topic(), ErrNotVisible, context.Cause(ctx))
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
