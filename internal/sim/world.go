package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/processors/fanout"
)

// Config is one run. Two runs of the same Config are the same, step for step.
type Config struct {
	Seed uint64
	// Steps is how long the deployment is disturbed; what it needs after that to come to rest is not counted.
	Steps int
	// Off names kinds of action that never happen; see Kinds.
	Off []string
	// Mutation switches a rule off; see Mutations.
	Mutation string
	// Focus turns the random choices of a run towards something; see Focuses.
	Focus string
	// Trace keeps the story of the run.
	Trace bool

	story *Story
}

// Violation is a check that failed.
type Violation struct {
	Config Config
	Step   int
	Check  string
	Detail string
	// Story is the last events that touch what the violation is about, when the run was traced.
	Story []string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("seed %d step %d (off: %s; mutation: %s; focus: %s): %s: %s\n%s", v.Config.Seed, v.Step,
		strings.Join(v.Config.Off,
			","), v.Config.Mutation, v.Config.Focus, v.Check, v.Detail, strings.Join(v.Story, "\n"))
}

// produceTimeout is how long after its id was minted a post may still reach the log.
const produceTimeout = 2 * time.Second

// pace is how often things happen in a run: one chance in so many.
type pace struct {
	fault int // at each turn of the faults
	stick int // that somebody stands still for a while between two operations
	view  int // that a view moves when it could
	store int // that the archive moves when it could
	// courtesy is how often an API process gets to write body and outbox itself; 0: never.
	courtesy int
	// commit is how often a host commits when it could.
	commit int
	// victim is the name of the coros that often stand still in the middle of things.
	victim string
}

// shape is how many processes and nodes a deployment has.
type shape struct{ following, fanout, archives, apis, nodes int }

// world is one deployment.
type world struct {
	cfg    Config
	rng    *rand.Rand
	now    time.Time
	step   int
	done   int // steps in which somebody did something
	counts map[string]int64
	quiet  bool // no more faults and no more clients
	off    map[string]bool
	rates  map[string]int // how often each kind of action is chosen in this run, 0 to 10
	pace   pace
	shape  shape
	aim    *aim
	scene  *scene
	// For mutations: counters yet to be moved, and the numbers of tokens that do not show them.
	late       map[lateKey]int64
	unnumbered map[string]uint64
	later      []later
	tree       fanout.Tree

	partitions int
	layout     feeds.Layout
	accounts   []freshet.Number
	tiers      *tiering

	follows, followers, applied, posts, replays, loop, followingTable, fanoutTable, profiles *topic
	topics                                                                                   []*topic

	redis *cluster
	store *store

	following, fanout *group
	archives          []*archive
	apis              []*api
	procs             []*proc

	coros   []*coro
	current *coro

	truth    *truth
	violated *Violation
	trace    []string
	names    int
}

func newWorld(cfg Config) *world {
	w := &world{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x66726573)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		counts: map[string]int64{}, off: map[string]bool{}, rates: map[string]int{},
	}
	for _, kind := range cfg.Off {
		w.off[kind] = true
	}
	for _, kind := range Kinds {
		// Runs differ in what they do much, and in what they do not do at all.
		if slices.Contains(onlyInFocus, kind) {
			continue
		}
		if rate := w.rng.IntN(14); rate <= 10 {
			w.rates[kind] = rate
		}
		if w.off[kind] {
			w.rates[kind] = 0
		}
	}
	w.partitions = 1 << w.rng.IntN(3)
	w.layout = feeds.Layout{Zones: 3 + w.rng.IntN(4), FeedLength: 3 + w.rng.IntN(4)}
	if w.chance(2) {
		w.layout.FeedLength = 100 // no floor, so nothing that is missing is found in the post store
	}
	w.tree = fanout.Tree{PageSize: 1 + w.rng.IntN(4)}
	for i := range 6 + w.rng.IntN(9) {
		// Neighbours across the border of a block, in two partitions of registrations.
		w.accounts = append(w.accounts, freshet.NumberAt(int32(i%2), int64(freshet.SlotsPerBlock-2+i/2)))
	}
	w.pace = pace{fault: 1 + w.rng.IntN(10), commit: 1 + w.rng.IntN(6), courtesy: w.rng.IntN(4),
		stick: 20 << w.rng.IntN(6), view: 1 + w.rng.IntN(12), store: 4 + w.rng.IntN(40)}
	victims := [...]string{"read", "read", "writer", "compactor", "publish", "", ""}
	w.pace.victim = victims[w.rng.IntN(len(victims))]
	if w.chance(2) {
		w.pace.fault = 1 << w.rng.IntN(6)
	}
	w.shape = shape{1 + w.rng.IntN(2), 1 + w.rng.IntN(3), 1 + w.rng.IntN(2), 1 + w.rng.IntN(2), 1 + w.rng.IntN(3)}
	w.tiers = &tiering{slack: freshet.PullSlack, stated: map[freshet.Number]bool{}}
	focus(w)
	w.tiers.log = newTopic(w, "tiers")
	w.truth = newTruth(w)
	for _, t := range []struct {
		to   **topic
		name string
	}{
		{&w.follows, "follows"}, {&w.followers, "followers"}, {&w.applied, "applied"}, {&w.posts, feeds.InputPosts},
		{&w.replays, feeds.InputReplays}, {&w.loop, feeds.InputLoop},
		{&w.followingTable, "following-table"}, {&w.fanoutTable, "fanout-table"}, {&w.profiles, "profiles"},
	} {
		*t.to = newTopic(w, t.name)
		w.topics = append(w.topics, *t.to)
	}
	w.redis = newCluster(w)
	w.store = newStore(w)
	w.following = newGroup(w, "following", w.followingTable, w.follows, w.applied)
	w.fanout = newGroup(w, "fanout", w.fanoutTable, w.followers, w.posts, w.replays, w.loop)
	for i := range w.shape.following {
		newHost(w.following, i)
	}
	for i := range w.shape.fanout {
		newHost(w.fanout, i)
	}
	for i := range w.shape.archives {
		newArchive(w, i)
	}
	for i := range w.shape.apis {
		newAPI(w, i)
	}
	w.following.rebalance()
	w.fanout.rebalance()
	return w
}

// count notes that something happened.
func (w *world) count(what string) { w.counts[what]++ }

// chance is true once in n times.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

// mutated says that this run goes without a rule.
func (w *world) mutated(name string) bool { return w.cfg.Mutation == name }

// fresh makes a name that nothing else has.
func (w *world) fresh(prefix string) string {
	w.names++
	return fmt.Sprint(prefix, w.names)
}

func (w *world) tracef(format string, args ...any) {
	if !w.cfg.Trace {
		return
	}
	for i, arg := range args {
		switch arg := arg.(type) {
		case freshet.Number:
			args[i] = w.account(arg)
		case freshet.PostID:
			args[i] = w.truth.name(arg)
		case []freshet.PostID:
			var names []string
			for _, id := range arg {
				names = append(names, w.truth.name(id))
			}
			args[i] = names
		}
	}
	w.trace = append(w.trace, fmt.Sprintf("%6d %s ", w.step,
		w.now.Format("02 15:04:05.000"))+fmt.Sprintf(format, args...))
}

func (w *world) account(n freshet.Number) string { return fmt.Sprint("a", slices.Index(w.accounts, n)) }

// violate notes the first check that failed; about names the accounts and posts concerned.
func (w *world) violate(check string, about []any, format string, args ...any) {
	if w.violated != nil {
		return
	}
	v := &Violation{Config: w.cfg, Step: w.step, Check: check, Detail: fmt.Sprintf(format, args...)}
	w.violated = v
	if !w.cfg.Trace {
		return
	}
	var words []string
	for _, a := range about {
		switch a := a.(type) {
		case freshet.Number:
			words = append(words, w.account(a))
		case freshet.PostID:
			words = append(words, w.truth.name(a))
		}
	}
	const most = 600
	for i := len(w.trace) - 1; i >= 0 && len(v.Story) < most; i-- {
		if touches(w.trace[i], words) {
			v.Story = append(v.Story, w.trace[i])
		}
	}
	slices.Reverse(v.Story)
}

// touches says that a line is about one of the words, or about the whole deployment: such lines have a "!".
func touches(line string, words []string) bool {
	if strings.Contains(line, "!") {
		return true
	}
	for _, field := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" ,:[]{}()=", r) }) {
		if slices.Contains(words, field) {
			return true
		}
	}
	return false
}
