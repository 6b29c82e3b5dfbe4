package views

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// Tiers knows the authors who are or ever were pulled: a view of the tiers topic, all of it in memory, and as of when
// it is complete. It is safe for concurrent use.
type Tiers struct {
	*table
	topic  string
	lookup *kafka.Lookup
	log    *slog.Logger
	ready  chan struct{} // closed once Pulled answers

	mu      sync.Mutex
	found   map[freshet.Number]struct{} // by mu: while the view recovers; nil afterwards
	pulled  Pulled                      // by mu
	horizon Horizon                     // of follow alone
}

// NewTiers opens the view; the caller runs it.
func NewTiers(brokers []string, names freshet.Names, settings kafka.ViewSettings) (*Tiers, error) {
	lookup, err := kafka.NewLookup(brokers, kafka.ClientOptions(settings.Config)...)
	if err != nil {
		return nil, err
	}
	t := &Tiers{
		topic: names.Topic(freshet.Tiers), lookup: lookup, log: settings.Logger, ready: make(chan struct{}),
		found: map[freshet.Number]struct{}{},
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	t.table, err = openTable(brokers, t.topic, kafka.Codec[events.Tier, *events.Tier]{}, t.changed, settings)
	if err != nil {
		lookup.Close()
		return nil, err
	}
	return t, nil
}

// changed notes a record.
func (t *Tiers) changed(key string, value []byte) {
	author, err := freshet.ParseNumber(key)
	var tier events.Tier
	if err == nil {
		err = proto.Unmarshal(value, &tier)
	}
	if err != nil {
		t.log.Warn("a record of tiers cannot be read and is left out", "key", key, "error", err)
		return
	}
	t.add(freshet.Tier{Author: author, Pull: tier.GetPull(), Ever: tier.GetEver()})
}

func (t *Tiers) add(tier freshet.Tier) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.found == nil:
		t.pulled = t.pulled.With(tier)
	case tier.Ever:
		t.found[tier.Author] = struct{}{}
	}
}

// Run follows the topic until ctx ends, and then closes the view.
func (t *Tiers) Run(ctx context.Context) error {
	running, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { t.follow(running) })
	err := t.table.Run(ctx)
	cancel()
	following.Wait()
	t.lookup.Close()
	return err
}

// lookEvery is how often the view is compared with its topic: a small part of freshet.PullSlack.
const lookEvery = 500 * time.Millisecond

func (t *Tiers) follow(ctx context.Context) {
	select {
	case <-t.table.Ready():
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for loaded := false; ; {
		var err error
		if !loaded {
			err = t.load()
			loaded = err == nil
		}
		if loaded {
			err = t.look(ctx)
		}
		if err != nil && ctx.Err() == nil {
			t.log.Warn("it is not known whether all pulled authors are known", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// load reads what lies on the disk since an earlier run.
func (t *Tiers) load() error {
	t.table.mu.RLock()
	defer t.table.mu.RUnlock()
	if err := t.answers(); err != nil {
		return err
	}
	rows, err := t.view.Iterator()
	if err != nil {
		return fmt.Errorf("read the table of %s: %w", t.topic, err)
	}
	defer rows.Release()
	for rows.Next() {
		value, err := rows.Value()
		if err != nil {
			return fmt.Errorf("read the table of %s: %w", t.topic, err)
		}
		author, err := freshet.ParseNumber(rows.Key())
		if tier, ok := value.(*events.Tier); ok && err == nil {
			t.add(freshet.Tier{Author: author, Pull: tier.GetPull(), Ever: tier.GetEver()})
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the table of %s: %w", t.topic, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pulled.authors, t.found = t.found, nil
	return nil
}

// look compares the view with its topic.
func (t *Tiers) look(ctx context.Context) error {
	if t.reached(ctx) { // the ends of an earlier look
		now := time.Now()
		found, err := t.lookup.Ends(ctx, t.topic)
		if err != nil {
			return err
		}
		ends := make(map[int32]int64, len(found))
		for at, end := range found {
			ends[at.Partition] = end
		}
		t.horizon.Asked(now, ends)
		t.reached(ctx)
	}
	return nil
}

func (t *Tiers) reached(ctx context.Context) bool {
	applied := t.applied(ctx)
	reached := t.horizon.Reached(func(partition int32) int64 { return applied[partition] })
	asOf := t.horizon.AsOf()
	t.mu.Lock()
	t.pulled.AsOf = asOf
	t.mu.Unlock()
	if !asOf.IsZero() && !isClosed(t.ready) {
		close(t.ready)
	}
	return reached
}

// Ready is closed once the view has recovered and it is known as of when; Pulled fails before.
func (t *Tiers) Ready() <-chan struct{} { return t.ready }

// Pulled is the authors that are or ever were pulled. Its error wraps ErrNotReady.
func (t *Tiers) Pulled() (Pulled, error) {
	t.table.mu.RLock()
	err := t.answers()
	t.table.mu.RUnlock()
	if err == nil && !isClosed(t.ready) {
		err = fmt.Errorf("look into %s: %w", t.topic, ErrNotReady)
	}
	if err != nil {
		return Pulled{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pulled, nil
}

// Now says whether an author is pulled now, as far as the view knows.
func (t *Tiers) Now(author freshet.Number) bool {
	row, err := t.row(author.Key())
	tier, ok := row.(*events.Tier)
	return err == nil && ok && tier.GetPull()
}

// errBehind is why no page is complete.
var errBehind = errors.New("the view of pulled authors is behind, so pages are not complete")

// Err says that the view is too far behind for pages to be complete, nil if it is not.
func (t *Tiers) Err() error {
	pulled, err := t.Pulled()
	if err == nil && !pulled.whole(time.Now(), freshet.PullSlack) {
		return fmt.Errorf("%w: it is known to have everything of before %s", errBehind, pulled.AsOf.Format(time.RFC3339))
	}
	return err
}
