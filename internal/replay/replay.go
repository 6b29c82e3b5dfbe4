package replay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/kafka"
	"freshet/internal/offsets"
	"freshet/internal/pause"
	"freshet/internal/topology"
)

// Config is what a Replayer needs.
type Config struct {
	Brokers []string
	Names   freshet.Names
	// Clients are the options of kafka.ClientOptions.
	Clients []kgo.Opt
	// Beat is how often a process that copies writes how far it is; after five of them without a word another one takes
	// its replay for abandoned. 0 is two seconds.
	Beat   time.Duration
	Logger *slog.Logger
}

// silentBeats is how many beats a process may be silent before its replay may be taken over.
const silentBeats = 5

// DefaultAhead is how many records may be in replays that the group has not processed: more would not make it quicker,
// and a pause or a cancel takes effect when they are done.
const DefaultAhead = 20_000

// Options are how a replay goes.
type Options struct {
	// Rate bounds the records a second; 0 is as fast as the group takes them.
	Rate float64
	// Ahead is DefaultAhead if it is 0.
	Ahead int64
	// Progress, unless nil, is told how far it is, now and then, by the goroutine that copies.
	Progress func(State, Speed)
	// Store is what a Spec with Store needs.
	Store Store
}

// Speed is how a replay gets on.
type Speed struct {
	// Behind is how many records in replays the group has yet to process.
	Behind int64
	// Left is how long it will take at the pace so far; 0 while nobody knows.
	Left time.Duration
}

// Replayer begins, controls and carries out replays. It is for one goroutine.
type Replayer struct {
	cfg            Config
	posts, replays string
	client         *kgo.Client
	adm            *kadm.Client
	states         *states
	owner          string
	lookup         *kafka.Lookup
}

// BusyError says that the group has a replay that is not over.
type BusyError struct{ State State }

func (e *BusyError) Error() string {
	return fmt.Sprintf("group %s is busy: there is %s; pause, resume or cancel that one", e.State.Group, e.State)
}

var (
	// ErrNone is wrapped by the errors for a group without a replay that could be paused, resumed or cancelled.
	ErrNone = errors.New("there is no such replay")
	// ErrStopped is wrapped by Run's error when an operator elsewhere has paused or cancelled the replay, or taken it
	// over.
	ErrStopped = errors.New("stopped from elsewhere")
)

// Open connects.
func Open(ctx context.Context, cfg Config) (*Replayer, error) {
	if cfg.Beat == 0 {
		cfg.Beat = 2 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if _, err := kafka.Reach(ctx, cfg.Brokers, cfg.Clients...); err != nil {
		return nil, err
	}
	r := &Replayer{cfg: cfg, posts: cfg.Names.Topic(freshet.Posts), replays: cfg.Names.Topic(freshet.Replays)}
	topic := cfg.Names.Topic(freshet.ReplayStates)
	var err error
	// Copies keep the partition of what they are copies of: it is that of the key.
	r.client, err = kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("freshet-replay"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(2 * most),
	}, cfg.Clients...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka at %s: %w", strings.Join(cfg.Brokers, ","), err)
	}
	if r.lookup, err = kafka.NewLookup(cfg.Brokers, cfg.Clients...); err != nil {
		r.client.Close()
		return nil, err
	}
	r.adm, r.states = kadm.NewClient(r.client), newStates(r.client, topic)
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	r.owner = fmt.Sprintf("%s:%d:%s", host, os.Getpid(), token(4))
	return r, nil
}

func token(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Close closes the connections.
func (r *Replayer) Close() {
	r.lookup.Close()
	r.client.Close()
}

// States are the last replays of all groups, by group.
func (r *Replayer) States(ctx context.Context) ([]State, error) {
	if err := r.states.refresh(ctx); err != nil {
		return nil, err
	}
	list := []State{}
	for _, e := range r.states.last {
		list = append(list, e.State)
	}
	slices.SortFunc(list, func(a, b State) int { return strings.Compare(a.Group, b.Group) })
	return list, nil
}

// Group is the name in Kafka of a group that reads replays; the name may lack the prefix.
func (r *Replayer) Group(name string) (string, error) {
	scope, err := offsets.ParseScope(r.cfg.Names, name)
	if err != nil {
		return "", err
	}
	for _, g := range topology.Groups(r.cfg.Names) {
		if g.Name == scope.Group() && slices.Contains(g.Inputs, r.replays) {
			return g.Name, nil
		}
	}
	return "", fmt.Errorf("group %s: %w: it does not read %s; move it back by freshet offsets reset", scope.Group(),
		offsets.ErrNotInput, r.replays)
}

// Plan is the replay that Start would begin.
func (r *Replayer) Plan(ctx context.Context, group string, spec Spec, o Options) (State, error) {
	name, err := r.Group(group)
	if err == nil {
		err = spec.Validate()
	}
	if err != nil {
		return State{}, err
	}
	s := State{ID: token(4), Group: name, Spec: spec, Status: Running, Owner: r.owner, Rate: o.Rate,
		Started: time.Now().UTC()}
	if !spec.Store {
		s.Parts, err = r.ranges(ctx, spec)
	} else {
		s.Parts, s.Authors, err = r.authorParts(ctx, spec)
	}
	return s, err
}

// Start notes a planned replay as begun; Run carries it out. The error is a *BusyError if the group has one that is not
// over.
func (r *Replayer) Start(ctx context.Context, s State) error {
	if err := r.states.refresh(ctx); err != nil {
		return err
	}
	if last, ok := r.states.last[s.Group]; ok && !last.Over() {
		return &BusyError{last.State}
	}
	err := r.states.put(ctx, s)
	if errors.Is(err, errConflict) {
		return &BusyError{r.states.last[s.Group].State}
	}
	return err
}

// Resume takes a replay over that is paused, or whose process has gone without a word, which it waits for. The error is
// a *BusyError if that process still copies. rate below 0 leaves it as it is.
func (r *Replayer) Resume(ctx context.Context, group string, rate float64) (State, error) {
	name, err := r.Group(group)
	if err == nil {
		err = r.states.refresh(ctx)
	}
	if err != nil {
		return State{}, err
	}
	last, ok := r.states.last[name]
	if !ok || last.Over() {
		return State{}, fmt.Errorf("resume in group %s: %w: begin a new one", name, ErrNone)
	}
	for last.Status == Running && time.Since(last.seen) < silentBeats*r.cfg.Beat {
		if err := pause.For(ctx, r.cfg.Beat/2); err != nil {
			return State{}, err
		}
		if err := r.states.refresh(ctx); err != nil {
			return State{}, err
		}
		if now := r.states.last[name]; now.offset != last.offset {
			return now.State, &BusyError{now.State}
		}
	}
	s := last.State
	s.Status, s.Owner = Running, r.owner
	if rate >= 0 {
		s.Rate = rate
	}
	if err := r.states.put(ctx, s); errors.Is(err, errConflict) {
		return s, &BusyError{r.states.last[name].State}
	} else if err != nil {
		return s, err
	}
	return s, nil
}

// Pause and Cancel have the process that copies stop, wherever it is. What is in replays by then the group still
// processes. The error wraps ErrNone if there is none that could.
func (r *Replayer) Pause(ctx context.Context, group string) (State, error) {
	return r.end(ctx, group, Paused)
}

// Cancel is Pause for good.
func (r *Replayer) Cancel(ctx context.Context, group string) (State, error) {
	return r.end(ctx, group, Cancelled)
}

func (r *Replayer) end(ctx context.Context, group string, status Status) (State, error) {
	name, err := r.Group(group)
	if err == nil {
		err = r.states.refresh(ctx)
	}
	if err != nil {
		return State{}, err
	}
	for {
		last, ok := r.states.last[name]
		if !ok || last.Over() || last.Status == status {
			return last.State, fmt.Errorf("in group %s: %w that is not %s", name, ErrNone, status)
		}
		s := last.State
		s.Status = status
		if err := r.states.put(ctx, s); !errors.Is(err, errConflict) {
			return s, err
		}
	}
}
