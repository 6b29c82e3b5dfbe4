package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Campaign is many runs, with seeds in a row.
type Campaign struct {
	// Steps is how many steps to do in all, at least.
	Steps int
	// Seed is the first seed.
	Seed uint64
	// RunSteps is how long each run is disturbed.
	RunSteps int
	// Focuses are taken in turn; "" is a run in which everything may happen.
	Focuses []string
	// Progress, if not nil, is told now and then how far it is.
	Progress func(Report)
}

// Report is what a campaign came to.
type Report struct {
	Steps  int           `json:"steps"`
	Runs   int           `json:"runs"`
	Seed   uint64        `json:"first_seed"`
	Took   time.Duration `json:"took_ns"`
	Rate   int           `json:"steps_per_second"`
	Counts Counts        `json:"counts"`
	// Violation tells of the first run that failed, at which the campaign ends: shrunk, and with its story.
	Violation string `json:"violation,omitempty"`
}

// Counts says how often each fault, and each branch of the code, occurred.
type Counts map[string]int64

// Run runs the campaign until it has done its steps or a run fails.
func (c Campaign) Run() Report {
	began, told := time.Now(), time.Now()
	r := Report{Seed: c.Seed, Counts: Counts{}}
	for r.Steps < c.Steps {
		cfg := Config{Seed: c.Seed + uint64(r.Runs), Steps: c.RunSteps, Focus: c.Focuses[r.Runs%len(c.Focuses)]}
		result := Run(cfg)
		r.Runs++
		r.Steps += result.Steps
		for what, n := range result.Counts {
			r.Counts[what] += n
		}
		r.Took = time.Since(began)
		r.Rate = int(float64(r.Steps) / r.Took.Seconds())
		if result.Violation != nil {
			r.Violation = Shrink(result.Violation).Error()
			return r
		}
		if c.Progress != nil && time.Since(told) > 5*time.Second {
			told = time.Now()
			c.Progress(r)
		}
	}
	return r
}

// Shrink looks for a shorter run with fewer kinds of action that fails the same check, and tells its story.
func Shrink(v *Violation) *Violation {
	best := v
	fails := func(cfg Config) bool {
		for range 10 {
			if r := Run(cfg); r.Violation != nil && r.Violation.Check == v.Check {
				best = r.Violation
				return true
			}
			cfg.Seed++
		}
		return false
	}
	for _, kind := range Kinds {
		cfg := best.Config
		cfg.Off = append(slices.Clone(cfg.Off), kind)
		fails(cfg)
	}
	for cfg := best.Config; cfg.Steps > 200; cfg = best.Config {
		if cfg.Steps = cfg.Steps * 3 / 4; !fails(cfg) {
			break
		}
	}
	cfg := best.Config
	cfg.Trace = true
	if told := Run(cfg).Violation; told != nil {
		return told
	}
	return best
}

// String is the report as text.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d steps in %d runs from seed %d, %s, %d steps/s\n", r.Steps, r.Runs, r.Seed,
		r.Took.Round(time.Second), r.Rate)
	for _, what := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, "%12d  %s\n", r.Counts[what], what)
	}
	for _, what := range r.Missing() {
		fmt.Fprintf(&b, "did not occur: %s\n", what)
	}
	if r.Violation != "" {
		fmt.Fprintf(&b, "violation: %s\n", r.Violation)
	} else {
		b.WriteString("no violation\n")
	}
	return b.String()
}

// Expected is what has to occur in a campaign that is worth anything.
var Expected = []string{
	"body: not trusted", "body: refused", "client: block", "client: close", "client: deletes",
	"client: edits", "client: follow",
	"client: mute", "client: posts", "client: unfollow", "compaction: a corrupt value healed",
	"compaction: a feed made cold",
	"compaction: an outbox trimmed", "compaction: entries merged", "compaction: entries of cold accounts dropped",
	"compaction: refused", "clock: a step back is waited out", "fault: away", "fault: clock",
	"fault: cold", "fault: corrupt", "fault: crash", "fault: cut",
	"fault: days",
	"fault: disk", "fault: flushall", "fault: lose", "fault: lose much", "fault: rebalance",
	"fault: replay", "fault: reset",
	"fault: slow", "fault: stall", "fault: zombie", "feed: a build is taken over",
	"feed: a cold build begins", "feed: built",
	"feed: swap refused", "feed: written back", "following: the truth is stated again", "group: a commit is fenced",
	"group: a partition moves", "group: a zombie", "hold: an input waits for followers",
	"outbox: a corrupt one given up", "outbox: rewrite refused",
	"outbox: rewritten", "read: below the floor", "read: complete pages checked", "read: incomplete pages",
	"recovery: a loss is noticed", "recovery: a partition goes back", "recovery: another writer has recovered",
	"recovery: two writers at once", "redis: a counter shows a loss", "redis: pipeline cut",
	"table: a zombie's row is passed over",
	"tier: a post is delivered because readers may not know", "tier: a post is not delivered",
	"tier: an author is delivered again", "tier: an author is pulled", "read: the view of tiers is too old",
	"tree: a node at depth 2 or deeper", "writer: a flush fails",
	"writer: a zombie flushes", "writer: watermarks noted",
}

// Missing lists what was expected and did not occur.
func (r Report) Missing() []string {
	var missing []string
	for _, what := range Expected {
		if r.Counts[what] == 0 {
			missing = append(missing, what)
		}
	}
	return missing
}
