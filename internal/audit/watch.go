package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"freshet"
	"freshet/internal/kafka"
	"freshet/internal/pause"
	"freshet/views"
)

// Counts are what a Watch has seen since it began. They only grow.
type Counts struct {
	Checked                    atomic.Int64 // feeds that were compared
	Missing, Extra, Misordered atomic.Int64 // posts; of Misordered, feeds
}

// Watch audits accounts one block after another, round and round, at a low rate, beside the views of an API process. It
// begins with a block drawn at random, so that several processes do not do the same work.
type Watch struct {
	// Rate is how many accounts are looked at each second; above 0.
	Rate float64
	// Config is as for Open. Its Store is needed, and Dir keeps the log of follows: 32 bytes for each unfollow.
	Config   Config
	Rows     *views.Following
	Accounts *views.Accounts
	Tiers    *views.Tiers
	// Counts is told what is found.
	Counts *Counts
}

const (
	// watchEvery is how long a Watch goes on with what it knows to be flushed, and with the lists that it has read.
	watchEvery = 30 * time.Second
	// watchPause is between two attempts, while fan-out does not get on or a server is away.
	watchPause = 10 * time.Second
	// watchLines bounds the differences that are logged in each watchEvery; all are counted.
	watchLines = 10
)

// Run audits until ctx ends, and then returns nil. What goes wrong is logged and tried again.
func (w *Watch) Run(ctx context.Context) error {
	log := w.Config.Logger
	if log == nil {
		log = slog.Default()
	}
	for ctx.Err() == nil {
		if err := w.run(ctx, log); err != nil && ctx.Err() == nil {
			log.Warn("feeds are not audited at the moment", "error", err)
			_ = pause.For(ctx, watchPause) // the loop looks whether ctx has ended
		}
	}
	return nil
}

func (w *Watch) run(ctx context.Context, log *slog.Logger) (err error) {
	running, stop := context.WithCancel(ctx)
	s := &Sources{
		cfg: w.Config, rows: w.Rows, accounts: w.Accounts, tiers: w.Tiers, store: w.Config.Store, stop: stop,
		options: kafka.ClientOptions(w.Config.Sarama),
	}
	s.cfg.Logger = log
	s.cfg.Progress = func(string, int, int) {}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, ready := range []<-chan struct{}{w.Rows.Ready(), w.Accounts.Ready(), w.Tiers.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil
		}
	}
	if s.lookup, err = kafka.NewLookup(s.cfg.Brokers, s.options...); err != nil {
		return err
	}
	s.onClose(func() error { s.lookup.Close(); return nil })
	if err := s.openLeft(ctx, running); err != nil {
		return err
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) * freshet.SlotsPerBlock / w.Rate))
	defer tick.Stop()
	for at := -1; ; {
		if s.size, err = s.ends(ctx, s.cfg.Names.Topic(freshet.Registrations)); err != nil {
			return err
		}
		a, _, err := newAuditor(ctx, s, Options{Report: w.report(log)})
		if err != nil {
			return err
		}
		if at < 0 && a.units.count() > 0 {
			at = rand.IntN(a.units.count())
		}
		for until := time.Now().Add(watchEvery); time.Now().Before(until); {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
			if a.units.count() == 0 {
				continue
			}
			at = (at + 1) % a.units.count()
			before := a.summary.Checked
			found, err := a.look(ctx, at, at+1)
			if err == nil {
				err = a.report(ctx, found)
			}
			if err != nil {
				return err
			}
			w.Counts.Checked.Add(int64(a.summary.Checked - before))
		}
	}
}

// report counts and logs differences.
func (w *Watch) report(log *slog.Logger) func(Difference) error {
	lines := 0
	return func(d Difference) error {
		switch d.Kind {
		case Missing:
			w.Counts.Missing.Add(1)
		case Extra:
			w.Counts.Extra.Add(1)
		default:
			w.Counts.Misordered.Add(1)
		}
		if lines++; lines <= watchLines {
			log.Warn("a feed is not what it is by definition; freshet why tells more", "list", d.List, "kind", d.Kind,
				"account", d.Account.String(), "post", d.Post, "reason", d.Reason)
		}
		return nil
	}
}

// NewWatch checks what a Watch needs.
func NewWatch(w Watch) (*Watch, error) {
	if w.Rate <= 0 || w.Config.Store == nil || w.Config.Dir == "" {
		return nil, fmt.Errorf("audit %g accounts a second: want a rate above 0, a post store and a directory", w.Rate)
	}
	if w.Config.Memory == 0 {
		w.Config.Memory = watchMemory
	}
	return &w, nil
}

// watchMemory is enough for the authors of a few blocks.
const watchMemory = 16 << 20
