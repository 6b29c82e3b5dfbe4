package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"freshet/internal/graph"
)

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Bringing in what was kept elsewhere",
		Args: func(_ *cobra.Command, args []string) error {
			return usage("import %s: want import graph FILE", strings.Join(args, " "))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(importGraphCommand())
	return cmd
}

func importGraphCommand() *cobra.Command {
	var kafka kafkaFlags
	var noWait bool
	cmd := &cobra.Command{
		Use:   "graph FILE",
		Short: "Accounts and follows, from an edge list",
		Long: `Registers accounts and lets them follow each other, as an edge list says: a line "follower followee" for
each follow, two ids with white space between them; empty lines and those that begin with # say nothing. FILE may be
compressed with gzip; - is the standard input.

What is there already is left out, so importing a file again changes nothing, and an import that was interrupted is
completed by running it again. Follows that were taken back in freshet are made anew. An account that was closed stays
closed, and its follows are left out. Lines that cannot be used are left out and listed.

It returns when every post of a followed account will reach the followers; --no-wait returns when everything is written.

Exit codes: 0 done, lines left out included; 1 failed; 2 wrong usage.`,
		Example: "  freshet import graph follows.txt.gz\n  sort -u follows.txt | freshet import graph -",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("import graph wants one FILE, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			began := time.Now()
			g, bad, err := readGraph(args[0], cmd.InOrStdin())
			tellBad(cmd.ErrOrStderr(), bad)
			if err != nil {
				return err
			}
			clients, err := kafka.clients()
			if err != nil {
				return err
			}
			cluster, err := kafka.open(cmd.Context())
			if err != nil {
				return err
			}
			cluster.Close()
			show := newProgress(os.Stderr, slog.Default())
			summary, err := graph.Import(cmd.Context(), g, graph.Config{
				Brokers: kafka.brokers, Names: kafka.names, Sarama: clients, NoWait: noWait, Progress: show.stage,
				Logger: slog.Default(),
			})
			show.end(err == nil)
			if err != nil {
				return interrupted(cmd.Context(), err)
			}
			tellSummary(cmd.OutOrStdout(), summary, g, bad, time.Since(began))
			return nil
		},
	}
	kafka.register(cmd.Flags())
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return when everything is written, before it shows everywhere")
	return cmd
}

func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("interrupted; what is written stays, and running the import again adds the rest")
	}
	return err
}

func readGraph(name string, stdin io.Reader) (*graph.Graph, graph.BadLines, error) {
	if name == "-" {
		g, bad, err := graph.Read(stdin)
		if err != nil {
			err = fmt.Errorf("import the standard input: %w", err)
		}
		return g, bad, err
	}
	file, err := os.Open(name) //nolint:gosec // the operator's own file
	if err != nil {
		return nil, graph.BadLines{}, fmt.Errorf("import a graph: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	g, bad, err := graph.Read(file)
	if err != nil {
		err = fmt.Errorf("import %s: %w", name, err)
	}
	return g, bad, err
}

func tellBad(w io.Writer, bad graph.BadLines) {
	for _, line := range bad.First {
		fmt.Fprintf(w, "line %d is left out: %v\n", line.Number, line.Reason)
	}
	if more := bad.Count - len(bad.First); more > 0 {
		fmt.Fprintf(w, "... and %d more lines\n", more)
	}
}

func tellSummary(w io.Writer, s graph.Summary, g *graph.Graph, bad graph.BadLines, took time.Duration) {
	fmt.Fprintf(w, "accounts   %d new, %d known\n", s.AccountsNew, s.AccountsKnown)
	fmt.Fprintf(w, "follows    %d new, %d known\n", s.FollowsNew, s.FollowsKnown)
	fmt.Fprintf(w, "lines      %d left out, %d repeated\n", bad.Count, g.Repeated)
	if s.FollowsClosed > 0 {
		fmt.Fprintf(w, "left out   %d follows of or by closed accounts\n", s.FollowsClosed)
	}
	if s.FollowsFull > 0 {
		fmt.Fprintf(w, "left out   %d follows of accounts whose rows are full\n", s.FollowsFull)
	}
	for _, id := range slices.Sorted(maps.Keys(s.Many)) {
		fmt.Fprintf(w, "note       %s follows %d accounts; the API would allow %d\n", id, s.Many[id], graph.ManyFollows)
	}
	fmt.Fprintf(w, "took       %.1f s\n", took.Seconds())
}

const (
	// logEvery is how often a log line tells of the progress where there is no terminal, barEvery how often the bar is
	// drawn anew.
	logEvery = 3 * time.Second
	barEvery = 100 * time.Millisecond
	// stalledAfter is how long nothing may move before a hint is given.
	stalledAfter = 20 * time.Second
)

// progress shows how far an import is: a bar on a terminal, else a log line now and then.
type progress struct {
	log     *slog.Logger
	bars    *mpb.Progress // nil where there is no terminal
	bar     *mpb.Bar
	current graph.Stage
	done    int
	shown   time.Time // when it was last told
	moved   time.Time // when done last changed
}

func newProgress(out *os.File, log *slog.Logger) *progress {
	p := &progress{log: log}
	if cwriter.IsTerminal(int(out.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(64))
	}
	return p
}

// stage is graph.Config's Progress.
func (p *progress) stage(stage graph.Stage, done, total int) {
	now := time.Now()
	if stage != p.current {
		p.finish()
		p.current, p.done, p.shown, p.moved = stage, done, time.Time{}, now
		if p.bars != nil && total > 0 {
			// A bar that is made with its total ends only when it has come to it, and a stage may end early.
			p.bar = p.bars.AddBar(0,
				mpb.PrependDecorators(decor.Name(string(stage), decor.WCSyncSpaceR), decor.CountersNoUnit("%d of %d")),
				mpb.AppendDecorators(decor.Percentage(), decor.Elapsed(decor.ET_STYLE_GO, decor.WCSyncSpace)))
			p.bar.SetTotal(int64(total), false)
		}
	}
	if done != p.done {
		p.done, p.moved = done, now
	}
	if now.Sub(p.moved) > stalledAfter {
		p.moved = now
		p.log.Warn("nothing has moved for a while: does freshet run on this Kafka? freshet offsets list shows its groups",
			"stage", stage, "done", done, "total", total)
	}
	switch {
	case p.bar != nil && (done == total || now.Sub(p.shown) >= barEvery):
		p.shown = now
		p.bar.SetCurrent(int64(done))
	case p.bars == nil && now.Sub(p.shown) >= logEvery:
		if !p.shown.IsZero() {
			p.log.Info("importing", "stage", stage, "done", done, "total", total)
		}
		p.shown = now
	}
}

// finish completes the bar of a stage that is over.
func (p *progress) finish() {
	if p.bar != nil {
		p.bar.SetTotal(-1, true)
		p.bar = nil
	}
}

// end leaves the bars as they are.
func (p *progress) end(complete bool) {
	if p.bars == nil {
		return
	}
	if complete {
		p.finish()
	} else if p.bar != nil {
		p.bar.Abort(false)
	}
	p.bars.Wait()
}
