package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"freshet/internal/bench"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "How fast freshet is, and the usual ways beside it",
		Long: `Measures freshet on the servers named by --kafka and --redis, or on embedded ones, which are there for trying
it out. Every benchmark measures in the same run what it is to be compared with. It writes to topics of its own, which
it deletes, and to a Redis that has to be empty, which it empties.

Results go to stdout, as text or, with -o json, as JSON; everything else goes to stderr.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("there is no benchmark %q; freshet bench --help lists them", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, benchmark := range bench.Benchmarks {
		cmd.AddCommand(oneBenchmark(benchmark))
	}
	return cmd
}

func oneBenchmark(benchmark bench.Benchmark) *cobra.Command {
	c := bench.Default()
	var output string
	cmd := &cobra.Command{
		Use:   benchmark.Name,
		Short: strings.ToUpper(benchmark.About[:1]) + benchmark.About[1:],
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return usage("-o %s: want text or json", output)
			}
			if err := c.Validate(); err != nil {
				return &exitError{exitUsage, err}
			}
			show := newMeter(os.Stderr, slog.Default())
			c.Progress = show.stage
			report, err := bench.Run(cmd.Context(), benchmark.Name, c)
			show.end()
			report.Command = "freshet " + strings.Join(os.Args[1:], " ")
			if err != nil {
				return err
			}
			if output == "text" {
				return report.Text(cmd.OutOrStdout())
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(report)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	benchFlags(flags, &c)
	return cmd
}

func benchFlags(flags *pflag.FlagSet, c *bench.Config) {
	flags.StringSliceVar(&c.Kafka, "kafka", nil, "addresses of Kafka brokers; empty: start one here")
	flags.StringSliceVar(&c.Redis, "redis", nil,
		"address of a Redis that holds nothing, or several of a Redis Cluster; empty: start one here")
	flags.StringSliceVar(&c.Cassandra, "cassandra", nil,
		"nodes of Cassandra, for what is measured with the post store; empty: the embedded store")
	flags.StringVar(&c.Accept, "accept", c.Accept, `how the program accepts posts: "log" or "store"`)
	flags.Int32Var(&c.Partitions, "partitions", c.Partitions, "of each topic: a power of two")
	flags.IntVar(&c.Zones, "zones", c.Zones, "of Redis")
	flags.IntVar(&c.LogLimit, "log-limit", c.LogLimit, "bytes of a block's log from which on it is compacted")
	flags.IntVar(&c.FlushEntries, "flush-entries", 0, "entries that may wait for the next flush; 0: what the program lets")
	flags.IntVar(&c.FlushBytes, "flush-bytes", 0, "bytes that may wait for the next flush; 0: what the program lets")
	flags.IntVar(&c.Accounts, "accounts", c.Accounts, "accounts, each with a warm feed")
	flags.IntVar(&c.Entries, "entries", c.Entries, "posts in each feed before; 800 make it full")
	flags.IntVar(&c.Authors, "authors", c.Authors, "accounts that post")
	flags.IntVar(&c.Followers, "followers", c.Followers, "followers of each author; with power-law, on average")
	flags.StringVar(&c.Distribution, "distribution", c.Distribution, "uniform, power-law, or a file with an edge list")
	flags.IntVar(&c.Posts, "posts", c.Posts, "posts of the backlog")
	flags.Float64Var(&c.Rate, "rate", c.Rate, "posts a second")
	flags.Float64Var(&c.ReadRate, "read-rate", c.ReadRate, "feed reads a second")
	flags.DurationVar(&c.For, "for", c.For, "how long the rate is kept up")
	flags.DurationVar(&c.Warm, "warm", c.Warm, "how much of its beginning is left out of the percentiles")
	flags.IntVar(&c.Singles, "singles", c.Singles, "posts published one by one, on an idle system")
	flags.DurationVar(&c.BaselineFor, "baseline-for", c.BaselineFor, "how long each of the usual ways is measured")
	flags.Uint64Var(&c.Seed, "seed", c.Seed, "makes the same network and posts again")
	flags.StringVar(&c.Profile, "profile", "", "write a CPU profile of what is measured to this file")
}

// meter shows how far a benchmark or a load is: a bar on a terminal, else a log line now and then.
type meter struct {
	log   *slog.Logger
	bars  *mpb.Progress // nil where there is no terminal
	bar   *mpb.Bar
	calls chan step
	done  chan struct{}
}

type step struct {
	stage       string
	done, total int
}

func newMeter(out *os.File, log *slog.Logger) *meter {
	m := &meter{log: log, calls: make(chan step, 64), done: make(chan struct{})}
	if cwriter.IsTerminal(int(out.Fd())) {
		m.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(64))
	}
	go m.show()
	return m
}

// stage may be called from any goroutine. What cannot be shown at once is left out.
func (m *meter) stage(stage string, done, total int) {
	select {
	case m.calls <- step{stage, done, total}:
	default:
	}
}

func (m *meter) show() {
	defer close(m.done)
	current, shown := "", time.Time{}
	for s := range m.calls {
		if s.stage != current {
			m.finish()
			current, shown = s.stage, time.Time{}
			if m.bars != nil && s.total > 0 {
				m.bar = m.bars.AddBar(0,
					mpb.PrependDecorators(decor.Name(s.stage, decor.WCSyncSpaceR), decor.CountersNoUnit("%d of %d")),
					mpb.AppendDecorators(decor.Percentage(), decor.Elapsed(decor.ET_STYLE_GO, decor.WCSyncSpace)))
				m.bar.SetTotal(int64(s.total), false)
			}
		}
		switch now := time.Now(); {
		case m.bar != nil && (s.done == s.total || now.Sub(shown) >= barEvery):
			shown = now
			m.bar.SetCurrent(int64(s.done))
		case m.bars == nil && now.Sub(shown) >= logEvery:
			shown = now
			m.log.Info(s.stage, "done", s.done, "total", s.total)
		}
	}
	m.finish()
	if m.bars != nil {
		m.bars.Wait()
	}
}

func (m *meter) finish() {
	if m.bar != nil {
		m.bar.SetTotal(-1, true)
		m.bar = nil
	}
}

// end waits until everything is shown; nothing may call stage any more.
func (m *meter) end() {
	close(m.calls)
	<-m.done
}
