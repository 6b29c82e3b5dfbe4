// Package app puts a process together: what runs with what, and in which order it starts and stops.
//
//	servers.go  what the roles stand on; what has no address is started here
//	reach.go    getting to servers that may not be there yet
//	app.go      the process: open, run, stop
//	roles.go    each role's parts
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/api"
	"freshet/internal/accept"
	"freshet/internal/admin"
	"freshet/internal/audit"
	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/kafka"
	"freshet/streams"
)

// App is a process of freshet. Open it, Run it.
type App struct {
	cfg              config.Config
	log              *slog.Logger
	servers          *servers
	verifier         *auth.Verifier // nil: authentication is off
	health           *kafka.Health
	groups           map[string]*kafka.Group
	parts            []part // in the order of starting
	layer            int    // of the parts that are added now
	apiNet, adminNet net.Listener
	handler          atomic.Pointer[http.Handler] // the API's, once it is ready
	operators        atomic.Pointer[http.Handler] // the operators', which knows no groups before they are there
	ready            chan struct{}
	pages            http.Handler                // shown at /, if not nil
	streams          atomic.Pointer[streams.Hub] // nil where there is no API
	desk             atomic.Pointer[accept.Desk] // nil where there is no API
	corrupt          atomic.Int64                // values in Redis that were found corrupt
	audited          audit.Counts                // of Config.AuditRate

	mu       sync.Mutex
	troubles map[string]func() error // by part: why it does not get on at the moment, though it runs; by mu
}

// starting is the part that is missing until the others are known.
const starting = "start"

// part is something that runs until it is told to stop. It may use parts of lower layers, and stops before them; those
// of one layer know nothing of each other and stop at once.
type part struct {
	name  string
	run   func(ctx context.Context) error
	layer int
}

// Open starts the servers that have no address, and listens. pages, if not nil, answers "/" and what the API does not
// know beside it. What Open has opened, Run closes.
func Open(cfg config.Config, log *slog.Logger, pages http.Handler) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &App{
		cfg: cfg, log: log, health: &kafka.Health{}, groups: map[string]*kafka.Group{},
		troubles: map[string]func() error{}, ready: make(chan struct{}), pages: pages,
	}
	var err error
	a.health.Starting(starting)
	if a.verifier, err = verifier(cfg, log); err != nil {
		return nil, err
	}
	if a.servers, err = open(cfg, log); err != nil {
		return nil, err
	}
	if err := a.listen(); err != nil {
		return nil, errors.Join(err, a.servers.close())
	}
	a.operate()
	return a, nil
}

func verifier(cfg config.Config, log *slog.Logger) (*auth.Verifier, error) {
	if !cfg.Has(config.API) || !cfg.Auth.Enabled() {
		return nil, nil //nolint:nilnil // there is none
	}
	credentials := cfg.Auth
	credentials.Log = log
	v, err := auth.New(credentials)
	if err != nil {
		return nil, fmt.Errorf("--auth-keys and --auth-jwks: %w", err)
	}
	return v, nil
}

func (a *App) listen() (err error) {
	if a.cfg.Has(config.API) {
		if a.apiNet, err = listen(a.cfg.Listen, "--listen"); err != nil {
			return err
		}
	}
	if a.adminNet, err = listen(a.cfg.Admin, "--admin"); err != nil {
		return errors.Join(err, a.closeListeners())
	}
	return nil
}

func listen(address, flag string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s: the port is in use; choose another, or stop the other process", flag, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, address, err)
	}
	return l, nil
}

func (a *App) closeListeners() error {
	var errs []error
	for _, l := range []net.Listener{a.apiNet, a.adminNet} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// Ready is closed when the process serves.
func (a *App) Ready() <-chan struct{} { return a.ready }

// APIURL and AdminURL are where the listeners are.
func (a *App) APIURL() string {
	if a.apiNet == nil {
		return ""
	}
	return "http://" + a.apiNet.Addr().String()
}

// AdminURL is where the operators' listener is.
func (a *App) AdminURL() string { return "http://" + a.adminNet.Addr().String() }

// Kafka and Redis are the addresses of the servers.
func (a *App) Kafka() []string { return a.servers.brokers }

// Redis is the addresses of Redis.
func (a *App) Redis() []string { return a.servers.redis }

// Missing lists what keeps the process from serving.
func (a *App) Missing() []string {
	var missing []string
	_, parts := a.health.Ready()
	for _, p := range parts {
		line := p.Name + " is " + string(p.State)
		if p.Err != nil {
			line += ": " + p.Err.Error()
		}
		missing = append(missing, line)
	}
	a.mu.Lock()
	troubles := maps.Clone(a.troubles)
	a.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(troubles)) {
		if err := troubles[name](); err != nil {
			missing = append(missing, name+": "+err.Error())
		}
	}
	return missing
}

// foundCorrupt is told of values in Redis that cannot be read. Nothing is lost by it, but memory or a disk may be bad.
func (a *App) foundCorrupt(err error) {
	a.corrupt.Add(1)
	a.log.Warn("redis holds a corrupt value", "error", err)
}

// trouble is asked why a part does not get on.
func (a *App) trouble(name string, ask func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.troubles[name] = ask
}

// operate makes the operators' handler, for the groups that there are now.
func (a *App) operate() {
	handler := admin.Handler(admin.Config{
		Missing: a.Missing, Groups: maps.Clone(a.groups), Corrupt: a.corrupt.Load,
		Metrics: slices.Concat(a.streamMetrics(), a.deskMetrics(), a.auditMetrics()),
		Replays: a.cfg.Names().Topic(freshet.Replays),
	})
	a.operators.Store(&handler)
}

// auditMetrics are the counts of the audit, where there is one.
func (a *App) auditMetrics() []admin.Metric {
	if a.cfg.AuditRate == 0 || !a.cfg.Has(config.API) {
		return nil
	}
	count := func(name, help string, n *atomic.Int64) admin.Metric {
		return admin.Metric{
			Name: "freshet_audit_" + name, Help: help, Counter: true, Value: func() float64 { return float64(n.Load()) },
		}
	}
	return []admin.Metric{
		count("checked_feeds_total", "Feeds that were compared with their definition.", &a.audited.Checked),
		count("missing_posts_total", "Posts that belong into a feed or outbox that lacks them.", &a.audited.Missing),
		count("extra_posts_total", "Posts in feeds of accounts that did not follow the author.", &a.audited.Extra),
		count("misordered_feeds_total", "Feeds and outboxes that are out of order or cannot be read.",
			&a.audited.Misordered),
	}
}

// streamMetrics are the counts of the streams that there are now.
func (a *App) streamMetrics() []admin.Metric {
	hub := a.streams.Load()
	if hub == nil {
		return nil
	}
	count := func(name, help string, counter bool, of func(streams.Counts) float64) admin.Metric {
		return admin.Metric{
			Name: "freshet_stream" + name, Help: help, Counter: counter, Value: func() float64 { return of(hub.Counts()) },
		}
	}
	return []admin.Metric{
		count("s_open", "Streams of feeds that are open.", false, func(c streams.Counts) float64 { return float64(c.Open) }),
		count("_events_total", "Events that streams were given, each stream counted.", true,
			func(c streams.Counts) float64 { return float64(c.Events) }),
		count("s_slow_total", "Streams that were ended because their readers were too slow.", true,
			func(c streams.Counts) float64 { return float64(c.Slow) }),
		count("s_resumed_total", "Streams that began where an earlier one was.", true,
			func(c streams.Counts) float64 { return float64(c.Resumes) }),
		count("s_replayed_total", "Readings of the log for streams that began far back.", true,
			func(c streams.Counts) float64 { return float64(c.Replays) }),
		count("s_reset_total", "Streams that were told to read the feed anew.", true,
			func(c streams.Counts) float64 { return float64(c.Resets) }),
		count("_records_waited_total", "Records that waited until readers found what they said.", true,
			func(c streams.Counts) float64 { return float64(c.Waiting) }),
		count("_records_held", "Records that wait now, and the streams of their authors' followers with them.", false,
			func(c streams.Counts) float64 { return float64(c.Held) }),
		count("_records_total", "Records of posts that were read for streams.", true,
			func(c streams.Counts) float64 { return float64(c.Records) }),
		count("_delay_seconds", "From the time of a record to its streams, last time.", false,
			func(c streams.Counts) float64 { return c.Delay.Seconds() }),
	}
}

// deskMetrics are the counts of saved posts.
func (a *App) deskMetrics() []admin.Metric {
	desk := a.desk.Load()
	if desk == nil {
		return nil
	}
	count := func(name, help string, counter bool, of func(accept.Counts) float64) admin.Metric {
		return admin.Metric{Name: "freshet_posts_" + name, Help: help, Counter: counter,
			Value: func() float64 { return of(desk.Counts()) }}
	}
	return []admin.Metric{
		count("saved_total", "Posts that were saved before they were published.", true,
			func(c accept.Counts) float64 { return float64(c.Saved) }),
		count("unknown_total", "Saved posts that were answered without knowing whether they are in the log.", true,
			func(c accept.Counts) float64 { return float64(c.Unknown) }),
		count("swept_total", "Saved posts that were left and that a sweep has published.", true,
			func(c accept.Counts) float64 { return float64(c.Swept) }),
		count("waiting", "Saved posts that the last sweep found and could not publish.", false,
			func(c accept.Counts) float64 { return float64(c.Waiting) }),
		count("sweep_behind_seconds", "By how much the oldest saved post that was not looked at may be too old.",
			false, func(c accept.Counts) float64 { return c.Behind.Seconds() }),
	}
}

// stopTimeout bounds how long requests may take to end.
const stopTimeout = 3 * time.Second

// Run reaches the servers, trying for Config.Wait, and serves until ctx ends or a part fails for good. Then it stops:
// first the listeners, then the parts, layer by layer from the highest, then the servers. Readiness says what is
// missing from the beginning; the API answers that it is starting.
func (a *App) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, a.servers.close()) }()
	if a.verifier != nil {
		defer a.verifier.Close()
	}

	operators := api.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*a.operators.Load()).ServeHTTP(w, r)
	}), a.log)
	public := api.NewServer(http.HandlerFunc(a.serve), a.log)
	public.RegisterOnShutdown(func() { // else it would wait for streams, which do not end by themselves
		if hub := a.streams.Load(); hub != nil {
			hub.Drain()
		}
	})
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	var g errgroup.Group
	g.Go(func() error { return serve(operators, a.adminNet) })
	if a.apiNet != nil {
		g.Go(func() error { return serve(public, a.apiNet) })
	}
	if err = a.reachServers(ctx); err == nil {
		err = a.assemble()
	}
	if err != nil {
		a.parts = nil
		fail(err)
	}
	serving, stopParts := a.start(ctx, fail)
	if err == nil {
		a.operate()
		a.health.Remove(starting)
		g.Go(func() error {
			a.awaitReady(ctx)
			return nil
		})
	}
	<-ctx.Done()

	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	// The operators' listener stays until the parts have stopped, so that somebody can look why they do not.
	a.log.Debug("stopping")
	err = shutdown(closing, public)
	stopParts()
	err = errors.Join(err, serving.Wait(), shutdown(closing, operators), g.Wait())
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}

// start runs the parts, each with a context of its own so that they can stop layer after layer.
func (a *App) start(ctx context.Context, fail context.CancelCauseFunc) (*errgroup.Group, func()) {
	var g errgroup.Group
	type running struct {
		cancel context.CancelFunc
		done   chan struct{}
		layer  int
	}
	started := make([]running, 0, len(a.parts))
	for _, p := range a.parts {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{cancel, make(chan struct{}), p.layer}
		started = append(started, r)
		g.Go(func() error {
			defer close(r.done)
			if err := p.run(own); err != nil {
				fail(fmt.Errorf("%s: %w", p.name, err)) // the cause that Run returns
			}
			return nil
		})
	}
	return &g, func() {
		for layer := a.layer; layer >= 0; layer-- {
			for _, r := range started {
				if r.layer == layer {
					r.cancel()
				}
			}
			for _, r := range started {
				if r.layer == layer {
					<-r.done
				}
			}
		}
	}
}

func (a *App) awaitReady(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ready, _ := a.health.Ready(); ready {
			close(a.ready)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// serve answers with the API once it is there. Before that, and where a part is missing, it says so.
func (a *App) serve(w http.ResponseWriter, r *http.Request) {
	if a.pages != nil && (r.URL.Path == "/" || r.URL.Path == "/demo.json") {
		a.pages.ServeHTTP(w, r)
		return
	}
	handler := a.handler.Load()
	if handler == nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, `{"type":"about:blank","title":"Service Unavailable","status":503,`+
			`"detail":"the process is starting"}`)
		return
	}
	(*handler).ServeHTTP(w, r)
}

func serve(server *http.Server, l net.Listener) error {
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

func shutdown(ctx context.Context, server *http.Server) error {
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests did not end in time: %w", err), server.Close())
	}
	return nil
}
