// Package bench measures freshet on the servers that it is given, or on embedded ones, and measures in the same run
// what it is compared with. Each benchmark works under a prefix of its own in Kafka and in a Redis that was empty
// before, and leaves both as they were.
//
//	bench.go     settings and reports
//	servers.go   the servers, checked before anything is written
//	network.go   accounts and followers: uniform, power law, or from an edge list
//	prepare.go   putting a network in place: rows of the tables, warm feeds
//	posts.go     posts to publish, with the text of a book
//	fanout.go    draining a backlog, a sustained rate, an idle system, one post to everybody
//	fairness.go  small authors' posts beside those of one with a million followers
//	growth.go    what a delivery costs as accounts, followers, partitions and the backlog grow
//	limits.go    what the length of logs and the size of flushes cost and spare
//	baseline.go  the usual ways to write feeds into Redis, and fan-out within the request
//	http.go      the program, and requests to it; read.go, accept.go: reading, and posting
//	auth.go      what knowing the caller costs; abuse.go: what one caller's requests cost others
//	audit.go     auditing feeds, outboxes and trees
//	log.go       what the log alone does
//	memory.go    bytes an entry
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"freshet/internal/config"
	"freshet/internal/feeds"
	"freshet/internal/posts/cassandrastore"
)

// Config is the settings of a benchmark.
type Config struct {
	// Kafka and Redis are addresses; empty: embedded servers. Cassandra is for the benchmarks of the post store, which
	// otherwise is the embedded one.
	Kafka, Redis, Cassandra []string
	// Accept is how the program accepts posts: config.AcceptLog or config.AcceptStore.
	Accept string
	// Partitions of the topics, Zones in Redis.
	Partitions int32
	Zones      int
	// Accounts with warm feeds of Entries posts each, so long that a new post pushes an old one out if it is the feed's
	// length.
	Accounts, Entries int
	// LogLimit is the length of a block's log from which on it is compacted, in bytes.
	LogLimit int
	// FlushEntries and FlushBytes bound what waits for the next flush; 0 is the program's own bound.
	FlushEntries, FlushBytes int
	// Authors post, and have Followers followers each (with a power law: on average).
	Authors, Followers int
	// Distribution is Uniform, PowerLaw, or the name of a file with an edge list, which then says Accounts and Authors.
	Distribution string
	// Posts make the backlog.
	Posts int
	// Rate is posts a second, ReadRate feed reads a second, For how long.
	Rate, ReadRate float64
	For            time.Duration
	// Warm is how much of the sustained rate's beginning is left out of the percentiles.
	Warm time.Duration
	// Singles is how many posts are published one by one, on an idle system.
	Singles int
	// BaselineFor is how long each of the usual ways is measured.
	BaselineFor time.Duration
	// Seed makes the same network and posts again.
	Seed uint64
	// Profile, if not empty, is a file for a CPU profile of what is measured.
	Profile string
	// Progress is told how far a stage is; total is 0 where nobody knows. It must not block.
	Progress func(stage string, done, total int)
	Logger   *slog.Logger
}

// The distributions that are made.
const (
	Uniform  = "uniform"
	PowerLaw = "power-law"
)

// Default is a network that embedded servers manage on any machine.
func Default() Config {
	return Config{
		Accept:     config.AcceptLog,
		Partitions: 8, Zones: 64, Accounts: 100_000, Entries: 100, Authors: 1000, Followers: 100, Distribution: Uniform,
		LogLimit: feeds.DefaultLogLimit, Posts: 10_000, Rate: 200, ReadRate: 1000, For: 10 * time.Second,
		Warm: time.Second, Seed: 1,
		Singles: 200, BaselineFor: 5 * time.Second,
	}
}

// Validate refuses settings that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Accounts < 2 || c.Accounts > 100_000_000:
		return fmt.Errorf("--accounts %d: want 2 to 100 million", c.Accounts)
	case c.Authors < 1 || c.Authors > c.Accounts:
		return fmt.Errorf("--authors %d: want 1 to as many as there are accounts", c.Authors)
	case c.Followers < 1 || c.Followers >= c.Accounts:
		return fmt.Errorf("--followers %d: want 1 to fewer than there are accounts", c.Followers)
	case c.Accept != config.AcceptLog && c.Accept != config.AcceptStore:
		return fmt.Errorf("--accept %q: want %q or %q", c.Accept, config.AcceptLog, config.AcceptStore)
	case c.Posts < 1 || c.Rate <= 0 || c.ReadRate <= 0 || c.For <= c.Warm:
		return errors.New("--posts, --rate, --read-rate: want more than 0; and --for longer than --warm")
	case c.Singles < 1 || c.BaselineFor <= 0:
		return errors.New("--singles, --baseline-for: want more than 0")
	case c.LogLimit < 1 || c.FlushEntries < 0 || c.FlushBytes < 0:
		return errors.New("--log-limit: want more than 0; --flush-entries, --flush-bytes: want 0 or more")
	case c.Entries < 0 || c.Entries > 100_000:
		return fmt.Errorf("--entries %d: want 0 to 100000", c.Entries)
	case c.Partitions < 1 || c.Partitions&(c.Partitions-1) != 0 || c.Partitions > 1024:
		return fmt.Errorf("--partitions %d: want a power of two from 1 to 1024", c.Partitions)
	case c.Zones < 1 || c.Zones > 16384:
		return fmt.Errorf("--zones %d: want 1 to 16384", c.Zones)
	}
	return nil
}

// Benchmark is one of those that Run knows.
type Benchmark struct {
	Name, About string
	run         func(b *bench, ctx context.Context) error // a method
}

// Benchmarks lists them.
var Benchmarks = []Benchmark{
	{"fanout", "drain a backlog of posts into feeds, then keep up with a rate; against ZADD and LPUSH", (*bench).fanout},
	{"fairness", "how long small authors' posts take while one with a million followers posts as well", (*bench).fairness},
	{"growth", "what a delivery costs as accounts, followers, partitions and the backlog grow, one at a time",
		(*bench).growth},
	{"scale", "what a delivery costs with 1, 2 and 4 members of fan-out, each with tables and connections of its own",
		(*bench).scale},
	{"limits", "what the length of logs, and the size of flushes, cost and spare", (*bench).limits},
	{"read", "read warm and cold feeds over HTTP", (*bench).read},
	{"mixed", "post and read over HTTP at the same time", (*bench).mixed},
	{"accept", "accept posts over HTTP; against fan-out inside the request", (*bench).accept},
	{"auth", "posts and reads over HTTP with service keys, and with tokens, both with rate limits; against neither",
		(*bench).auth},
	{"abuse", "posts and reads of good callers alone, and beside one who sends what nobody should", (*bench).abuse},
	{"replay", "replay a range unbounded, beside the drain, and at a rate, beside live posts", (*bench).replay},
	{"audit", "compare all feeds, outboxes and trees with what they have to be; against reading them", (*bench).audit},
	{"archive", "store a backlog of posts in the post store; against storing them one by one", (*bench).archive},
	{"log", "what the log alone does: emit, consume, table, latency, compression", (*bench).log},
	{"memory", "bytes that Redis needs for an entry of a full feed; against sorted sets and lists", (*bench).memory},
}

// Report is the outcome of a run.
type Report struct {
	Benchmark string    `json:"benchmark"`
	Command   string    `json:"command,omitempty"`
	At        time.Time `json:"at"`
	Machine   Machine   `json:"machine"`
	Settings  Settings  `json:"settings"`
	Results   []Result  `json:"results"`
}

// Machine is where it ran. All servers and the load share it, unless their addresses say otherwise.
type Machine struct {
	CPUs  int    `json:"cpus"`
	Go    string `json:"go"`
	Load  string `json:"load_before"`
	Kafka string `json:"kafka"`
	Redis string `json:"redis"`
}

// Settings are those of the run that say what was done.
type Settings struct {
	Accounts     int     `json:"accounts"`
	Entries      int     `json:"entries_a_feed"`
	Authors      int     `json:"authors"`
	Followers    int     `json:"followers_an_author"`
	Distribution string  `json:"distribution"`
	Posts        int     `json:"posts"`
	Rate         float64 `json:"rate"`
	ReadRate     float64 `json:"read_rate"`
	Seconds      float64 `json:"seconds"`
	Partitions   int32   `json:"partitions"`
	Zones        int     `json:"zones"`
	LogLimit     int     `json:"log_limit"`
	Accept       string  `json:"accept"`
	Cassandra    string  `json:"cassandra,omitempty"`
	FlushEntries int     `json:"flush_entries,omitempty"`
	FlushBytes   int     `json:"flush_bytes,omitempty"`
	Seed         uint64  `json:"seed"`
}

// Result is one figure.
type Result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Note  string  `json:"note,omitempty"`
}

// Run runs a benchmark by its name.
func Run(ctx context.Context, name string, c Config) (Report, error) {
	if err := c.Validate(); err != nil {
		return Report{}, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Progress == nil {
		c.Progress = func(string, int, int) {}
	}
	for _, benchmark := range Benchmarks {
		if benchmark.Name != name {
			continue
		}
		return run(ctx, benchmark, c)
	}
	return Report{}, fmt.Errorf("there is no benchmark %q", name)
}

// bench is a run.
type bench struct {
	Config
	servers *servers
	report  Report
}

func run(ctx context.Context, benchmark Benchmark, c Config) (report Report, err error) {
	b := &bench{Config: c, report: Report{Benchmark: benchmark.Name, At: time.Now().UTC().Truncate(time.Second)}}
	b.report.Machine = Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Load: loadAverage()}
	if b.servers, err = openServers(ctx, c); err != nil {
		return b.report, err
	}
	defer func() { err = errors.Join(err, b.servers.close()) }()
	if len(c.Cassandra) > 0 {
		if err := dialAll(ctx, "--cassandra", c.Cassandra); err != nil {
			return b.report, err
		}
		defer func() { err = errors.Join(err, cassandrastore.Drop(context.WithoutCancel(ctx), b.cassandra())) }()
	}
	b.report.Machine.Kafka, b.report.Machine.Redis = b.servers.describe(ctx)
	err = benchmark.run(b, ctx)
	b.report.Settings = Settings{
		b.Accounts, b.Entries, b.Authors, b.Followers, b.Distribution, b.Posts, b.Rate, b.ReadRate, b.For.Seconds(),
		b.Partitions, b.Zones, b.LogLimit, b.Accept, strings.Join(b.Cassandra, ","), b.FlushEntries, b.FlushBytes, b.Seed,
	}
	return b.report, err
}

func (b *bench) result(name string, value float64, unit, note string) {
	b.report.Results = append(b.report.Results, Result{name, value, unit, note})
	b.Logger.Info("measured", "what", name, "value", short(value), "unit", unit)
}

// percentiles reports a histogram of microseconds.
func (b *bench) percentiles(name string, h *hdrhistogram.Histogram, note string) {
	if h.TotalCount() == 0 {
		return
	}
	for _, p := range []float64{50, 99, 99.9} {
		b.result(fmt.Sprintf("%s, p%g", name, p), float64(h.ValueAtPercentile(p))/1000, "ms", note)
	}
	b.result(name+", mean", h.Mean()/1000, "ms", note)
	b.result(name+", max", float64(h.Max())/1000, "ms", note)
}

// loadAverage is what the machine was doing before, where the system tells.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// Text writes the report for people.
func (r Report) Text(w io.Writer) error {
	fmt.Fprintf(w, "%s: %d accounts, %d entries a feed; %d authors, %d followers each (%s); %d partitions, %d zones\n",
		r.Benchmark, r.Settings.Accounts, r.Settings.Entries, r.Settings.Authors, r.Settings.Followers,
		r.Settings.Distribution, r.Settings.Partitions, r.Settings.Zones)
	fmt.Fprintf(w, "%d CPUs, load before %s; Kafka %s, Redis %s\n\n", r.Machine.CPUs, r.Machine.Load, r.Machine.Kafka,
		r.Machine.Redis)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, result := range r.Results {
		fmt.Fprintf(tw, "%s\t%s\t %s\t %s\t\n", result.Name, short(result.Value), result.Unit, result.Note)
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// short is a value to about three digits, with the thousands apart.
func short(v float64) string {
	if math.Abs(v) < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	digits := fmt.Sprintf("%.0f", v)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
