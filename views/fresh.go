package views

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"freshet/internal/kafka"
)

const (
	// MostBehind is by how much the views that decide who sees what may be known to be behind their tables. With the time
	// between two looks it is a second: what is hidden by a write that another process has answered is shown no longer.
	MostBehind = time.Second - freshEvery
	// MostUnknown is how long it may not be known at all. Kafka does not answer while a broker's partitions get other
	// leaders, which takes ten seconds and more, and reads go on meanwhile; a process that is cut off for longer cannot
	// tell what others were told to hide.
	MostUnknown = 30 * time.Second
	// freshEvery is how often the ends of the tables are asked for, and freshPoll how often it is looked whether the views
	// have come to them.
	freshEvery = 250 * time.Millisecond
	freshPoll  = 50 * time.Millisecond
)

// ErrBehind is wrapped by the errors of Fresh: what is read now could show what somebody has hidden.
var ErrBehind = errors.New("the views are behind")

// Fresh knows whether the views from which it is decided who sees what, those of accounts and of following, are behind
// their tables. Nothing that depends on them is shown while they are. It is safe for concurrent use; a nil one knows
// nothing and lets everything pass.
type Fresh struct {
	lookup *kafka.Lookup
	log    *slog.Logger
	ready  chan struct{} // closed once the views have come to the ends of a look

	watched []*watchedTable

	mu    sync.Mutex
	moved chan struct{} // by mu: closed and made anew with each look that the views have come to
}

// watchedTable is a view and how far it is.
type watchedTable struct {
	*table
	topic   string
	horizon Horizon // by Fresh's mu
	late    bool    // by Fresh's mu: it was behind for too long, and has not caught up since
}

// NewFresh watches the views; the caller runs it beside them.
func NewFresh(brokers []string, settings kafka.ViewSettings, accounts *Accounts, rows *Following) (*Fresh, error) {
	lookup, err := kafka.NewLookup(brokers, kafka.ClientOptions(settings.Config)...)
	if err != nil {
		return nil, err
	}
	f := &Fresh{lookup: lookup, log: settings.Logger, ready: make(chan struct{}), moved: make(chan struct{})}
	if f.log == nil {
		f.log = slog.Default()
	}
	for _, t := range []*table{accounts.table, rows.table} {
		f.watched = append(f.watched, &watchedTable{table: t, topic: t.view.Topic()})
	}
	return f, nil
}

// Run looks until ctx ends.
func (f *Fresh) Run(ctx context.Context) error {
	defer f.lookup.Close()
	for _, w := range f.watched {
		select {
		case <-w.Ready():
		case <-ctx.Done():
			return nil
		}
	}
	tick := time.NewTicker(freshPoll)
	defer tick.Stop()
	for asked := (time.Time{}); ctx.Err() == nil; {
		if now := time.Now(); f.reached(ctx, now) && now.Sub(asked) >= freshEvery {
			asked = now
			if err := f.ask(ctx, now); err != nil && ctx.Err() == nil {
				f.log.Warn("it is not known whether the views are behind", "error", err)
			}
			f.reached(ctx, time.Now())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// ask asks where the tables end.
func (f *Fresh) ask(ctx context.Context, now time.Time) error {
	var topics []string
	for _, w := range f.watched {
		topics = append(topics, w.topic)
	}
	found, err := f.lookup.Ends(ctx, topics...)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watched {
		ends := map[int32]int64{}
		for at, end := range found {
			if at.Topic == w.topic {
				ends[at.Partition] = end
			}
		}
		w.horizon.Asked(now, ends)
	}
	return nil
}

// reached says whether all views have come to the ends of the last look.
func (f *Fresh) reached(ctx context.Context, now time.Time) bool {
	all := true
	for _, w := range f.watched {
		applied := w.applied(ctx)
		f.mu.Lock()
		before := w.horizon.AsOf()
		here := w.horizon.Reached(func(partition int32) int64 { return applied[partition] })
		switch {
		case !here && now.Sub(w.horizon.asked) > MostBehind:
			if !w.late {
				f.log.Warn("a view is behind its table, so reads wait for it", "table", w.topic, "since", w.horizon.asked)
			}
			w.late = true
		case here && now.Sub(w.horizon.AsOf()) <= MostBehind:
			w.late = false // one that comes to where the table ended long ago may be as far behind still
		}
		if !w.horizon.AsOf().Equal(before) {
			close(f.moved)
			f.moved = make(chan struct{})
		}
		f.mu.Unlock()
		all = all && here
	}
	if all && f.Err() == nil && !isClosed(f.ready) {
		close(f.ready)
	}
	return all
}

// Ready is closed once the views are known to have come to the ends that their tables had when it was looked.
func (f *Fresh) Ready() <-chan struct{} { return f.ready }

// Err says that the views are too far behind to be asked what may be shown: known to be for MostBehind, or not known to
// be anywhere for MostUnknown. It wraps ErrBehind.
func (f *Fresh) Err() error {
	_, err := f.state()
	return err
}

func (f *Fresh) state() (moved <-chan struct{}, err error) {
	if f == nil {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watched {
		asOf := w.horizon.AsOf()
		if w.late || time.Since(asOf) > MostUnknown {
			return f.moved, fmt.Errorf("%w: that of %s has everything of before %s",
				ErrBehind, w.topic, asOf.Format(time.RFC3339Nano))
		}
	}
	return f.moved, nil
}

// Await returns nil once the views are not behind, at the latest when ctx ends: then with an error that wraps
// ErrBehind.
func (f *Fresh) Await(ctx context.Context) error {
	for {
		moved, err := f.state()
		if err == nil {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}
