package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/lovoo/goka"

	"freshet"
	"freshet/api"
	"freshet/emitters"
	"freshet/internal/accept"
	"freshet/internal/audit"
	"freshet/internal/config"
	"freshet/internal/feeds"
	"freshet/internal/idempotency"
	"freshet/internal/kafka"
	"freshet/internal/pause"
	"freshet/internal/posts"
	"freshet/internal/tables"
	"freshet/processors/archive"
	"freshet/processors/directory"
	"freshet/processors/fanout"
	"freshet/processors/following"
	"freshet/streams"
	"freshet/views"
)

// assemble lists the parts of the roles, in the order of starting.
func (a *App) assemble() error {
	if a.cfg.Has(config.Directory) {
		if err := a.table(freshet.DirectoryGroup, directory.New); err != nil {
			return err
		}
	}
	if a.cfg.Has(config.Following) {
		if err := a.table(freshet.FollowingGroup, following.New); err != nil {
			return err
		}
	}
	if a.cfg.Has(config.Archive) {
		if err := a.archive(); err != nil {
			return err
		}
	}
	if a.cfg.Has(config.Fanout) {
		if err := a.fanout(); err != nil {
			return err
		}
	}
	if a.cfg.Has(config.API) {
		a.layer++
		return a.api()
	}
	return nil
}

func (a *App) add(name string, run func(ctx context.Context) error) {
	a.health.Starting(name)
	a.beside(name, run)
}

// beside adds a part that readiness does not wait for.
func (a *App) beside(name string, run func(ctx context.Context) error) {
	a.parts = append(a.parts, part{name, run, a.layer})
}

// table adds a group that has a table and nothing else.
func (a *App) table(
	name freshet.Group,
	build func(brokers []string, names freshet.Names, opts ...goka.ProcessorOption) (*goka.Processor, error),
) error {
	names, brokers, part := a.cfg.Names(), a.servers.brokers, string(name)
	cfg := kafka.GroupConfig{
		Name: names.Group(name), Brokers: brokers, Config: a.servers.clients(names.Group(name)), Logger: a.log,
	}
	switch name {
	case freshet.DirectoryGroup:
		cfg.Truth = []string{names.Topic(freshet.Registrations)}
	case freshet.FollowingGroup:
		cfg.Truth = []string{names.Topic(freshet.Follows)}
	}
	table := a.servers.tables.Processor(goka.Group(names.Group(name)), a.cfg.Partitions)
	settings := kafka.ProcessorSettings{
		Config: a.servers.clients, Storage: table.Builder, Update: table.Update, WrapProducer: table.WrapProducer,
		Logger: a.log,
	}
	beside := []func(context.Context) error{table.Watch}
	if name == freshet.FollowingGroup {
		sweeper, err := a.followingSweeper(table)
		if err != nil {
			return err
		}
		beside = append(beside, sweeper.Run)
		cfg.Gathered = following.Gathered(names)
	}
	group := kafka.NewGroup(cfg)
	a.groups[names.Group(name)] = group
	settings.Group = group
	a.add(part, func(ctx context.Context) error {
		return kafka.Supervise(ctx, part, a.log, func(ctx context.Context) error {
			p, err := build(brokers, names, kafka.ProcessorOptions(settings)...)
			if err != nil {
				return err
			}
			return kafka.RunProcessor(ctx, p, func() { a.health.Running(part) }, beside...)
		}, kafka.SuperviseOptions{Health: a.health})
	})
	return nil
}

// followingSweeper has following state its relations again, all of them in a day.
func (a *App) followingSweeper(table tables.Holder) (*kafka.Sweeper, error) {
	turns, err := kafka.NewEmitter(a.servers.brokers, "following-turns", a.servers.clients,
		a.cfg.Names().Loop(freshet.FollowingGroup), following.LoopCodec)
	if err != nil {
		return nil, err
	}
	a.servers.onClose(turns.Finish)
	return &kafka.Sweeper{
		Keys: table.Keys, Logger: a.log,
		Send: func(key string) (*goka.Promise, error) { return turns.Emit(key, following.Turn()) },
	}, nil
}

func (a *App) archive() error {
	member, err := archive.New(archive.Config{
		Brokers: a.servers.brokers, Names: a.cfg.Names(), Store: a.servers.store,
		Settings: kafka.ProcessorSettings{Config: a.servers.clients, Logger: a.log}, Logger: a.log, Health: a.health,
	})
	if err != nil {
		return err
	}
	a.groups[a.cfg.Names().Group(freshet.ArchiveGroup)] = member.Group()
	a.trouble("archive", member.Err)
	a.add("archive", member.Run)
	return nil
}

func (a *App) fanout() error {
	member, err := fanout.New(fanout.Config{
		Brokers: a.servers.brokers, Names: a.cfg.Names(), Conn: a.servers.conn, Layout: a.cfg.Layout(),
		Store: a.servers.store, Tree: fanout.Tree{PageSize: a.cfg.PageSize, PullAbove: uint64(a.cfg.PullAbove)},
		Settings: kafka.ProcessorSettings{Config: a.servers.clients, Logger: a.log},
		Tables:   a.servers.tables, Partitions: a.cfg.Partitions,
		Writer: feeds.WriterConfig{
			MaxEntries: a.cfg.FlushEntries, MaxBytes: a.cfg.FlushBytes, LogLimit: a.cfg.LogLimit, ColdAfter: a.cfg.ColdAfter,
			Corrupt: a.foundCorrupt, Held: a.servers.conn.Held,
		},
		Logger: a.log, Health: a.health,
	})
	if err != nil {
		return err
	}
	a.groups[a.cfg.Names().Group(freshet.FanoutGroup)] = member.Group()
	a.trouble("fanout", member.Err)
	a.add("fanout", member.Run)
	return nil
}

// api adds the views, the emitters and the handler. The handler is built when the views are there and the process has
// its number for post ids.
func (a *App) api() error {
	names, brokers := a.cfg.Names(), a.servers.brokers
	local := a.servers.tables.View("api")
	settings := func(name string) kafka.ViewSettings {
		return kafka.ViewSettings{
			ClientID: "view-" + name, Config: a.servers.clients, Storage: local.Builder, Update: local.Update, Logger: a.log,
		}
	}
	accounts, err := views.NewAccounts(brokers, names, settings("accounts"))
	if err != nil {
		return err
	}
	rows, err := views.NewFollowing(brokers, names, settings("following"))
	if err != nil {
		return err
	}
	stats, err := views.NewStats(brokers, names, settings("stats"))
	if err != nil {
		return err
	}
	tiers, err := views.NewTiers(brokers, names, settings("tiers"))
	if err != nil {
		return err
	}
	fresh, err := views.NewFresh(brokers, settings("fresh"), accounts, rows)
	if err != nil {
		return err
	}
	writers, err := emitters.New(brokers, names, a.servers.clients)
	if err != nil {
		return err
	}
	// The emitters close after the listener and the handler are gone.
	a.servers.onClose(writers.Close)

	a.view("view of accounts", accounts)
	a.view("view of following", rows)
	a.view("view of stats", stats)
	a.view("view of tiers", tiers)
	a.trouble("view of tiers", tiers.Err)
	store := posts.Watch(a.servers.store, a.log)
	a.beside("watch of the post store", store.Run)
	a.layer++ // what follows reads the views
	a.view("fresh views", fresh)
	a.trouble("fresh views", fresh.Err)
	slowest := emitters.ProduceTimeout
	if a.cfg.Accept == config.AcceptStore {
		slowest = accept.Longest
	}
	reader := &views.Feeds{
		Conn: a.servers.conn, Layout: a.cfg.Layout(), Store: store, Rows: rows, Accounts: accounts,
		Tiers: tiers, Kept: views.NewKeptOutboxes(), PullSlack: freshet.PullSlack,
		Recent: views.NewRecent(time.Now), Unwritten: feeds.NewUnwritten(),
		Partitions: a.cfg.Partitions, ProduceTimeout: slowest,
		Now: time.Now, Random: rand.Uint64, Pause: rest, Corrupt: a.foundCorrupt,
	}
	hub := streams.New(streams.Config{
		Brokers: brokers, Topic: names.Topic(freshet.Posts), Partitions: a.cfg.Partitions,
		Client: kafka.ClientOptions(a.servers.clients), Feeds: reader, Rows: rows, Accounts: accounts,
		Fresh: fresh, Most: a.cfg.MaxStreams, Log: a.log,
	})
	rows.Notice(hub.Changed)
	if err := a.audit(accounts, rows, tiers, store); err != nil {
		return err
	}
	a.view("streams", hub)
	a.streams.Store(hub)
	desk := &accept.Desk{
		Publisher: &emitters.Publisher{
			Emitters: writers, Conn: a.servers.conn, Layout: a.cfg.Layout(), Store: a.servers.store,
			Partitions: a.cfg.Partitions, Slowest: slowest,
			Forget: reader.Recent.Forget, Unwritten: reader.Unwritten, Log: a.log,
		},
		Marks: a.servers.store, SaveFirst: a.cfg.Accept == config.AcceptStore, Log: a.log, Now: time.Now,
	}
	a.desk.Store(desk)
	// It also runs where posts are not saved first: other processes may do so, or have done so.
	a.beside("posts that are saved and not published", desk.Run)
	c := api.Config{
		Accounts: accounts, Stats: stats, Following: rows, Fresh: fresh, Followers: a.servers.store,
		Feeds: reader, Posts: reader, Streams: hub, Publisher: desk, Emitters: writers, CursorKey: a.servers.key, Log: a.log,
		Answers:   &idempotency.Store{Conn: a.servers.conn},
		RateLimit: a.cfg.RateLimit, RateBurst: a.cfg.RateBurst, MaxInFlight: a.cfg.MaxInFlight,
	}
	if a.verifier != nil { // a nil *auth.Verifier in the interface would not be nil
		c.Auth = a.verifier
	} else {
		a.log.Warn("authentication is off: whoever reaches the API may do anything", "listen", a.cfg.Listen)
	}
	a.layer++
	a.add("api", func(ctx context.Context) error { return a.serveAPI(ctx, c) })
	return nil
}

// audit adds the part that compares feeds with their definition, if the process is to have it.
func (a *App) audit(accounts *views.Accounts, rows *views.Following, tiers *views.Tiers, store posts.Store) error {
	if a.cfg.AuditRate == 0 {
		return nil
	}
	watch, err := audit.NewWatch(audit.Watch{
		Rate: a.cfg.AuditRate, Rows: rows, Accounts: accounts, Tiers: tiers, Counts: &a.audited,
		Config: audit.Config{
			Brokers: a.servers.brokers, Names: a.cfg.Names(), Sarama: a.servers.clients, Conn: a.servers.conn,
			Layout: a.cfg.Layout(), Store: store, Dir: filepath.Join(a.servers.dir, "audit"), Logger: a.log,
		},
	})
	if err != nil {
		return err
	}
	a.beside("audit", watch.Run)
	return nil
}

type view interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
}

func (a *App) view(name string, v view) {
	a.add(name, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		told := make(chan struct{})
		go func() {
			defer close(told)
			select {
			case <-v.Ready():
				a.health.Running(name)
			case <-ctx.Done():
			}
		}()
		err := v.Run(ctx)
		cancel()
		<-told
		return err
	})
}

// serveAPI asks Kafka for this process's number, and then lets requests in.
func (a *App) serveAPI(ctx context.Context, c api.Config) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	var position emitters.Position
	for {
		position, err = c.Emitters.NodeStart(ctx, host, time.Now())
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the process ends
		}
		if !errors.Is(err, emitters.ErrUnavailable) {
			return fmt.Errorf("note the start of this process: %w", err)
		}
		a.health.Failed("api", err)
		a.log.Warn("kafka does not take the note of this start, trying again", "error", err)
	}
	if c.Minter, err = freshet.NewMinter(position.Offset%freshet.Nodes, time.Now); err != nil {
		return err
	}
	made, err := api.New(c)
	if err != nil {
		return err
	}
	handler := http.Handler(made)
	a.handler.Store(&handler)
	a.health.Running("api")
	<-ctx.Done()
	return nil
}

func rest(ctx context.Context, d time.Duration) {
	_ = pause.For(ctx, d) // who waits looks at ctx
}
