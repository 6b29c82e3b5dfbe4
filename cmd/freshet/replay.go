package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"freshet/internal/config"
	"freshet/internal/kafka"
	"freshet/internal/offsets"
	"freshet/internal/replay"
)

const replayCodes = `Exit codes: 0 done; 1 failed; 2 wrong usage, or nothing to replay; 3 --plan: there is something to
do; 4 the group is busy with another replay, or a part of the range is gone; 5 paused, cancelled or taken over
before its end.`

// exitStopped: a replay that was paused, cancelled or taken over.
const exitStopped = 5

// replaying is what the flags of replay say.
type replaying struct {
	kafka      kafkaFlags
	format     output
	from, to   string
	partitions []int32
	author     string
	rate       float64
	truncated  bool
	store      bool
	plan       bool
}

func replayCommand() *cobra.Command {
	var r replaying
	cmd := &cobra.Command{
		Use:   "replay GROUP",
		Short: "Has a group process a range of posts again, while everything goes on",
		Long: `Copies the records of posts in a range into the topic replays, which the group reads with the same code as
posts. Nothing is stopped, and the group's place in posts stays what it is. fanout is the group that reads replays: it
delivers the posts again, to those who follow now; doubles do no harm, and counts stay what they are.

The range is from --from on and before --to (now): each a time with its zone, how long ago (2h), post:ID, or an offset.
It can be narrowed to partitions and to one author. --rate bounds the posts a second, so that live posts are not held
up; without it the replay goes as fast as the group takes it. What retention has removed of the range is named, and
nothing is done unless --allow-truncated; --from-store reads the posts, as they are now, from the post store.

A group has one replay at a time. How far it is lies in Kafka, so that any machine can tell, pause, cancel and
resume it, also after a crash. Ctrl-C pauses it.

` + replayCodes,
		Example: `  freshet replay fanout --from 2026-03-01T10:00:00Z --to 2026-03-01T12:00:00Z --rate 500
  freshet replay fanout --from 2h --author ada
  freshet replay status`,
		Args: oneGroup,
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	r.register(flags)
	r.rateFlag(flags, "records a second at most; 0: as fast as the group takes them", 0)
	flags.StringVar(&r.from, "from", "", "where the range begins (required)")
	flags.StringVar(&r.to, "to", "", "where it ends, without what is there (default now)")
	flags.Int32SliceVar(&r.partitions, "partitions", nil, "only these partitions, such as 0,3")
	flags.StringVar(&r.author, "author", "", "only what this account wrote: its id, or # and its number")
	flags.BoolVar(&r.truncated, "allow-truncated", false, "replay what is left where a part of the range was removed")
	flags.BoolVar(&r.store, "from-store", false, "read the posts from the post store (--cassandra)")
	flags.BoolVar(&r.plan, "plan", false, "only say what would be replayed")
	cmd.AddCommand(replayStatusCommand(), replayResumeCommand(),
		replayEndCommand("pause", "Stops a replay, wherever it runs, so that it can be resumed", (*replay.Replayer).Pause),
		replayEndCommand("cancel", "Stops a replay, wherever it runs, for good", (*replay.Replayer).Cancel))
	return cmd
}

func oneGroup(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("%s: want one GROUP, got %d", cmd.CommandPath(), len(args))
	}
	return nil
}

func (r *replaying) register(flags *pflag.FlagSet) {
	r.kafka.register(flags)
	r.format.register(flags)
	flags.StringSliceVar(&r.kafka.config.Cassandra, "cassandra", nil, "addresses of Cassandra nodes, for --from-store")
	accessFlags(flags, "cassandra", "Cassandra", config.CassandraPasswordVariable, &r.kafka.config.CassandraAccess)
}

func (r *replaying) rateFlag(flags *pflag.FlagSet, help string, otherwise float64) {
	flags.Float64Var(&r.rate, "rate", otherwise, help)
}

// with checks the flags, and connects for as long as do takes. What do returns gets its exit code.
func (r *replaying) with(ctx context.Context, do func(*replay.Replayer) error) error {
	if err := r.format.validate(); err != nil {
		return err
	}
	clients, err := r.kafka.clients()
	if err != nil {
		return err
	}
	replayer, err := replay.Open(ctx, replay.Config{
		Brokers: r.kafka.brokers, Names: r.kafka.names, Clients: kafka.ClientOptions(clients), Logger: slog.Default(),
	})
	if err != nil {
		return fmt.Errorf("--kafka: %w", err)
	}
	defer replayer.Close()
	return replayExit(do(replayer))
}

func (r *replaying) spec(ctx context.Context, replayer *replay.Replayer) (replay.Spec, error) {
	now := time.Now()
	s := replay.Spec{Partitions: r.partitions, Truncated: r.truncated, Store: r.store, To: replay.At(now)}
	var err error
	if s.From, err = replay.ParseBound(r.from, now); err != nil {
		return s, usage("--from: %w", err)
	}
	if r.to != "" {
		if s.To, err = replay.ParseBound(r.to, now); err != nil {
			return s, usage("--to: %w", err)
		}
	}
	if err := s.Validate(); err != nil {
		return s, &exitError{exitUsage, err}
	}
	if r.author != "" {
		author, err := replayer.Author(ctx, r.author)
		if err != nil {
			return s, usage("--author: %w", err)
		}
		s.Author = &author
	}
	return s, nil
}

func (r *replaying) run(cmd *cobra.Command, group string) error {
	switch {
	case r.from == "":
		return usage("replay: --from is missing")
	case r.rate < 0:
		return usage("--rate %g: want a number above 0, or 0 for no bound", r.rate)
	case r.store && len(r.kafka.config.Cassandra) == 0:
		return usage("--from-store: name Cassandra with --cassandra; an embedded post store belongs to its process")
	}
	return r.with(cmd.Context(), func(replayer *replay.Replayer) error { return r.start(cmd, replayer, group) })
}

// start plans a replay, and carries it out unless a plan is all that is wanted.
func (r *replaying) start(cmd *cobra.Command, replayer *replay.Replayer, group string) error {
	ctx := cmd.Context()
	if _, err := replayer.Group(group); err != nil {
		return err
	}
	spec, err := r.spec(ctx, replayer)
	if err != nil {
		return err
	}
	state, err := replayer.Plan(ctx, group, spec, replay.Options{Rate: r.rate})
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
	for _, p := range state.Parts {
		if p.Missing > 0 {
			say("partition %d: %d records of the range are gone, at most", p.Partition, p.Missing)
		}
	}
	if r.plan {
		if err := r.show(cmd.OutOrStdout(), state); err != nil {
			return err
		}
		return &exitError{exitPlan, errors.New("nothing was done: this is a plan, and without --plan it is carried out")}
	}
	if err := replayer.Start(ctx, state); err != nil {
		return err
	}
	return r.carryOut(cmd, replayer, state)
}

// carryOut runs a replay, shows how it gets on, and prints what became of it.
func (r *replaying) carryOut(cmd *cobra.Command, replayer *replay.Replayer, state replay.State) error {
	var options replay.Options
	if state.Spec.Store {
		login, err := r.kafka.config.Login()
		if err != nil {
			return settingsAreUsage(err)
		}
		c := r.kafka.config
		c.Prefix = r.kafka.names.Prefix
		store, err := openStore(cmd.Context(), c, login)
		if err != nil {
			return err
		}
		defer store.Close() //nolint:errcheck // it was only read
		options.Store = store
	}
	bar := newReplayBar(os.Stderr, slog.Default())
	options.Progress = bar.show
	state, err := replayer.Run(cmd.Context(), state, options)
	bar.end(err == nil)
	if err := r.show(cmd.OutOrStdout(), state); err != nil {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return &exitError{exitStopped, fmt.Errorf("paused: freshet replay resume %s goes on", state.Group)}
	}
	return err
}

func (r *replaying) show(w io.Writer, states ...replay.State) error {
	var value any = states
	if len(states) == 1 {
		value = states[0]
	}
	return r.format.write(w, value, func(w io.Writer) error {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "GROUP\tREPLAY\tSTATUS\tFROM\tTO\tDONE\tOF\tCOPIED\tBY\tAT")
		for _, s := range states {
			done, total := s.Progress()
			at := s.Updated
			if at.IsZero() {
				at = s.Started
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", s.Group, s.ID, s.Status, s.Spec.From, s.Spec.To, done,
				total, s.Copied, s.Owner, at.Format(time.RFC3339))
		}
		return tw.Flush()
	})
}

func replayStatusCommand() *cobra.Command {
	var r replaying
	cmd := &cobra.Command{
		Use:   "status",
		Short: "The last replay of each group, and how far it is",
		Long: `Shows the last replay of each group as its process has noted it, every two seconds while it runs.

` + listingCodes,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.with(cmd.Context(), func(replayer *replay.Replayer) error {
				states, err := replayer.States(cmd.Context())
				if err != nil {
					return err
				}
				return r.format.write(cmd.OutOrStdout(), states, func(w io.Writer) error { return r.show(w, states...) })
			})
		},
	}
	r.kafka.register(cmd.Flags())
	r.format.register(cmd.Flags())
	return cmd
}

func replayResumeCommand() *cobra.Command {
	var r replaying
	cmd := &cobra.Command{
		Use:   "resume GROUP",
		Short: "Goes on with a replay that was paused, or whose process has gone",
		Long: `Goes on where a replay was, on this machine. Of one that nobody paused it waits ten seconds for a word of its
process, and is refused if there is one.

` + replayCodes,
		Args: oneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.with(cmd.Context(), func(replayer *replay.Replayer) error {
				state, err := replayer.Resume(cmd.Context(), args[0], r.rate)
				if err != nil {
					return err
				}
				return r.carryOut(cmd, replayer, state)
			})
		},
	}
	r.register(cmd.Flags())
	r.rateFlag(cmd.Flags(), "records a second at most; 0: no bound; below 0: as before", -1)
	return cmd
}

func replayEndCommand(
	word, short string, end func(*replay.Replayer, context.Context, string) (replay.State, error),
) *cobra.Command {
	var r replaying
	cmd := &cobra.Command{
		Use:   word + " GROUP",
		Short: short,
		Long: short + `. What is in replays by then the group still processes.

` + listingCodes,
		Args: oneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.with(cmd.Context(), func(replayer *replay.Replayer) error {
				state, err := end(replayer, cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return r.show(cmd.OutOrStdout(), state)
			})
		},
	}
	r.kafka.register(cmd.Flags())
	r.format.register(cmd.Flags())
	return cmd
}

// replayExit gives errors their exit codes.
func replayExit(err error) error {
	var busy *replay.BusyError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replay.ErrStopped):
		return &exitError{exitStopped, err}
	case errors.As(err, &busy), errors.Is(err, replay.ErrTruncated):
		return &exitError{exitLive, err}
	case errors.Is(err, offsets.ErrUnknown), errors.Is(err, offsets.ErrNotInput), errors.Is(err, replay.ErrRange):
		return &exitError{exitUsage, err}
	}
	return err
}

// replayBar shows how far a replay is: a bar on a terminal, else a log line now and then.
type replayBar struct {
	log    *slog.Logger
	bars   *mpb.Progress // nil where there is no terminal
	bar    *mpb.Bar
	behind atomic.Int64 // these two are drawn by a goroutine of the bar
	left   atomic.Int64
	shown  time.Time
}

func newReplayBar(out *os.File, log *slog.Logger) *replayBar {
	b := &replayBar{log: log}
	if cwriter.IsTerminal(int(out.Fd())) {
		b.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(64))
	}
	return b
}

// show is replay.Options' Progress.
func (b *replayBar) show(s replay.State, speed replay.Speed) {
	done, total := s.Progress()
	if b.bars == nil {
		if now := time.Now(); now.Sub(b.shown) >= logEvery {
			b.shown = now
			b.log.Info("replaying", "group", s.Group, "replay", s.ID, "done", done, "total", total, "copied", s.Copied,
				"behind", speed.Behind, "left", speed.Left.Round(time.Second))
		}
		return
	}
	if b.bar == nil {
		b.bar = b.bars.AddBar(0,
			mpb.PrependDecorators(decor.Name("replay "+s.ID+" "), decor.CountersNoUnit("%d of %d")),
			mpb.AppendDecorators(decor.Percentage(), decor.Any(func(decor.Statistics) string {
				return fmt.Sprintf(" %s left, %d to be processed", time.Duration(b.left.Load()).Round(time.Second), b.behind.Load())
			})))
	}
	b.behind.Store(speed.Behind)
	b.left.Store(int64(speed.Left))
	b.bar.SetTotal(max(total, 1), false)
	b.bar.SetCurrent(done)
}

func (b *replayBar) end(complete bool) {
	switch {
	case b.bars == nil:
		return
	case b.bar != nil && complete:
		b.bar.SetTotal(-1, true)
	case b.bar != nil:
		b.bar.Abort(false)
	}
	b.bars.Wait()
}
