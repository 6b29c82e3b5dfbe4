package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/config"
	"freshet/internal/offsets"
)

// moving is what commands share that move groups.
type moving struct {
	kafka          kafkaFlags
	group          string
	execute        bool
	admins         []string
	truncated      bool
	skip           bool
	undo           string
	several        bool // groups are moved
	format         output
	stdout, stderr io.Writer
}

func (m *moving) register(flags *pflag.FlagSet) {
	m.kafka.register(flags)
	m.format.register(flags)
	flags.StringVar(&m.group, "group", "", "the group, with or without the prefix")
	flags.BoolVar(&m.execute, "execute", false, "do it")
	flags.StringSliceVar(&m.admins, "admin", []string{"http://" + config.DefaultAdmin},
		"URLs of the operators' listeners of the processes in which the group runs")
	flags.BoolVar(&m.truncated, "allow-truncated", false,
		"begin with what is kept where a part of what is wanted was removed")
	flags.BoolVar(&m.skip, "allow-skip", false, "pass over records that the group has not processed")
	flags.StringVar(&m.undo, "undo", "", "the file that --execute writes first, with where the group stood "+
		"(default: GROUP-TIME.undo.csv in the current folder)")
}

func (m *moving) prepare(cmd *cobra.Command) error {
	m.stdout, m.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	for i, url := range m.admins {
		if !strings.Contains(url, "://") {
			m.admins[i] = "http://" + url
		}
	}
	return m.format.validate()
}

func (m *moving) allow() offsets.Allow { return offsets.Allow{Truncated: m.truncated, Skip: m.skip} }

func (m *moving) say(format string, args ...any) { fmt.Fprintf(m.stderr, format+"\n", args...) }

// keep writes where the group stood into a new file, before it is moved.
func (m *moving) keep(group string) func([]offsets.Row) error {
	return func(before []offsets.Row) error {
		name := m.undo
		switch {
		case name != "" && m.several:
			name += "." + group
		case name == "":
			name = group + "-" + time.Now().UTC().Format("20060102T150405.000Z") + ".undo.csv"
		}
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names it
		if err != nil {
			return fmt.Errorf("--undo: %w", err)
		}
		if err := errors.Join(offsets.WriteRows(f, before, true), f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("--undo: write %s: %w", name, err)
		}
		m.say("the way back: freshet offsets import %s --allow-skip --execute", name)
		return nil
	}
}

func offsetsResetCommand() *cobra.Command {
	var r reset
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Plans to move a group back in its topics, and does it with --execute",
		Long: `Plans to move a group back, so that it processes records again. Without --execute nothing is done; the plan is
printed. With it, the plan that is printed is carried out, or that of a file (--plan), which -o json has written.

  directory, following   state again what is so
  fanout                 posts are delivered again, to those who follow now; doubles do no harm
  archive                posts and follower lists are stored again

Where to: --to, with earliest, latest, current, an offset, or a time with its zone; or as Kafka's own tool spells it. A
time means, in each partition, the first record that is not older. Partitions in which the group has committed nothing
are moved as well. Tables are not rewound: rows stay, and what is read again is applied to them.

What cannot be done as asked is refused as a whole, and nothing is moved: an offset outside of what is kept; a time of
which retention has removed a part, unless --allow-truncated, and the plan says how much; records that would never be
processed, unless --allow-skip. A plan is also refused when the group has got or lost a member since, or stands
elsewhere.

A group that does not run is committed for, and that is read back. One that runs is told to seek, through the operators'
listeners of its processes (--admin): its session ends, the next one commits the new offsets before it processes
anything, and it goes on from there. Nothing is stopped. Before anything is moved, a file is written with where it
stood.

` + movingCodes,
		Example: `  freshet offsets reset --group fanout --topic posts --to 2026-03-01T12:00:00Z
  freshet offsets reset --group fanout --topic posts --by-duration 2h --execute
  freshet offsets reset --group archive --all-topics --to-earliest -o json > plan.json
  freshet offsets reset --plan plan.json --execute`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.prepare(cmd); err != nil {
				return err
			}
			return r.run(cmd.Context(), cmd.Flags())
		},
	}
	flags := cmd.Flags()
	r.register(flags)
	flags.StringArrayVar(&r.topics, "topic", nil, "an input of the group, or partitions of it: posts:0,3; may be repeated")
	flags.BoolVar(&r.all, "all-topics", false, "all inputs of the group")
	flags.Int32SliceVar(&r.partitions, "partitions", nil, "only these partitions of the one topic, such as 0,3")
	flags.StringVar(&r.to, "to", "", "earliest, latest, current, an offset, or a time such as 2026-03-01T12:00:00Z")
	flags.Bool("to-earliest", false, "the first record that is kept")
	flags.Bool("to-latest", false, "the end")
	flags.Bool("to-current", false, "where it stands; the start where it has committed nothing")
	flags.String("to-datetime", "", "a time with its zone")
	flags.String("by-duration", "", "so long ago: 2h30m, or PT2H30M")
	flags.Int64("to-offset", 0, "an offset")
	flags.Int64("shift-by", 0, "so many records further, in each partition; back if negative")
	flags.String("from-file", "",
		"the offsets of a file, with lines topic,partition,offset or group,topic,partition,offset")
	flags.StringVar(&r.plan, "plan", "", "the plan of a file that -o json has written")
	return cmd
}

// reset is what the flags of offsets reset say.
type reset struct {
	moving
	topics     []string
	all        bool
	partitions []int32
	to, plan   string
}

// selectors are the flags that say where to; one of them is wanted.
var selectors = []string{
	"to", "to-earliest", "to-latest", "to-current", "to-datetime", "by-duration", "to-offset", "shift-by", "from-file",
}

func (r *reset) run(ctx context.Context, flags *pflag.FlagSet) error {
	var given []string
	for _, name := range selectors {
		if flags.Changed(name) {
			given = append(given, name)
		}
	}
	if r.plan != "" {
		if len(given)+len(r.topics)+len(r.partitions) > 0 || r.all || r.group != "" {
			return usage("offsets reset: --plan says all of what is to be done; leave out the other flags")
		}
		return r.runPlan(ctx)
	}
	if len(given) != 1 {
		return usage("offsets reset: want one of --%s; got %d", strings.Join(selectors, ", --"), len(given))
	}
	if given[0] == "from-file" {
		if len(r.topics)+len(r.partitions) > 0 || r.all {
			return usage("offsets reset: the file says which topics and partitions; leave out the other flags")
		}
		file, _ := flags.GetString("from-file")
		return r.runFile(ctx, file)
	}
	if r.group == "" {
		return usage("offsets reset: --group is missing")
	}
	to, err := r.target(given[0], flags)
	if err != nil {
		return usage("--%s: %w", given[0], err)
	}
	scope, err := r.scope()
	if err != nil {
		return err
	}
	cluster, err := r.kafka.open(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	plan, err := cluster.Plan(ctx, scope, to, r.allow())
	if err != nil {
		return unknownIsUsage(err)
	}
	return r.follow(ctx, cluster, []offsets.Plan{plan})
}

func (r *reset) target(selector string, flags *pflag.FlagSet) (to offsets.Target, err error) {
	text := flags.Lookup(selector).Value.String()
	switch selector {
	case "to":
		return offsets.ParseTarget(r.to)
	case "to-datetime":
		t, err := offsets.ParseTime(text)
		return offsets.ToTime(t), err
	case "by-duration":
		d, err := offsets.ParseDuration(text)
		return offsets.ToTime(time.Now().Add(-d)), err
	case "shift-by":
		n, err := flags.GetInt64(selector)
		if err == nil && n == 0 {
			err = errors.New("0 records further is where the group stands")
		}
		return offsets.ShiftBy(n), err
	case "to-offset":
		return offsets.ParseTarget(text)
	}
	if yes, _ := flags.GetBool(selector); !yes {
		return to, errors.New("it cannot be false")
	}
	return offsets.ParseTarget(strings.TrimPrefix(selector, "to-"))
}

func (r *reset) scope() (offsets.Scope, error) {
	topics := slices.Clone(r.topics)
	switch {
	case r.all && len(topics) > 0:
		return offsets.Scope{}, usage("offsets reset: --all-topics and --topic; want one of them")
	case !r.all && len(topics) == 0:
		return offsets.Scope{}, usage("offsets reset: --topic is missing; --all-topics is for all inputs of the group")
	case len(r.partitions) > 0 && len(topics) != 1:
		return offsets.Scope{}, usage("offsets reset: --partitions are those of one --topic; for several: --topic posts:0,3")
	case len(r.partitions) > 0:
		list := strings.ReplaceAll(strings.Trim(fmt.Sprint(r.partitions), "[]"), " ", ",")
		topics[0] += ":" + list
	}
	scope, err := offsets.ParseScope(r.kafka.names, r.group, topics...)
	if err != nil {
		return scope, &exitError{exitUsage, err}
	}
	return scope, nil
}

// runPlan carries out the plan of a file, or shows it.
func (r *reset) runPlan(ctx context.Context) error {
	data, err := os.ReadFile(r.plan)
	if err != nil {
		return usage("--plan: %w", err)
	}
	var plan offsets.Plan
	if err := json.Unmarshal(data, &plan); err != nil || plan.Group == "" || len(plan.Moves) == 0 {
		return usage("--plan: %s is no plan that offsets reset -o json has written: %v", r.plan, err)
	}
	cluster, err := r.kafka.open(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	return r.follow(ctx, cluster, []offsets.Plan{plan})
}

// runFile moves the groups that a file names.
func (m *moving) runFile(ctx context.Context, name string) error {
	f, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return usage("%w", err)
	}
	rows, err := offsets.ReadRows(f, m.kafka.names, m.group)
	if err := errors.Join(err, f.Close()); err != nil {
		return usage("%s: %w", name, err)
	}
	byGroup := map[string][]offsets.Row{}
	var groups []string
	for _, row := range rows {
		if byGroup[row.Group] == nil {
			groups = append(groups, row.Group)
		}
		byGroup[row.Group] = append(byGroup[row.Group], row)
	}
	var scopes []offsets.Scope
	for _, group := range groups {
		scope, err := offsets.FileScope(m.kafka.names, group, byGroup[group])
		if err != nil {
			return usage("%s: %w", name, err)
		}
		scopes = append(scopes, scope)
	}
	cluster, err := m.kafka.open(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	var plans []offsets.Plan
	for _, scope := range scopes {
		plan, err := cluster.Plan(ctx, scope, offsets.ToRows(byGroup[scope.Group()]), m.allow())
		if err != nil {
			return unknownIsUsage(fmt.Errorf("%s: %w", name, err))
		}
		plans = append(plans, plan)
	}
	return m.follow(ctx, cluster, plans)
}

func offsetsImportCommand() *cobra.Command {
	var m moving
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Plans to move groups to the offsets of a file, and does it with --execute",
		Long: `Plans to move groups to the offsets of a file that offsets export, a reset before it moved something, or
Kafka's own tool has written. It is offsets reset --from-file: what is refused there is refused here.

` + movingCodes,
		Example: "  freshet offsets import fanout.csv --group fanout",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("offsets import: want one FILE, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.prepare(cmd); err != nil {
				return err
			}
			return m.runFile(cmd.Context(), args[0])
		},
	}
	m.register(cmd.Flags())
	return cmd
}

// follow prints plans, and does what they say, or says what would be done.
func (m *moving) follow(ctx context.Context, cluster *offsets.Cluster, plans []offsets.Plan) error {
	var value any = plans
	m.several = len(plans) > 1
	if !m.several {
		value = plans[0]
	}
	err := m.format.write(m.stdout, value, func(w io.Writer) error {
		for _, plan := range plans {
			if err := offsets.PrintPlan(w, plan); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var refused []string
	changes := 0
	for _, plan := range plans {
		m.explain(plan)
		refused = append(refused, plan.Refused...)
		changes += len(plan.Changes())
	}
	switch {
	case len(refused) > 0:
		return fmt.Errorf("refused:\n  %s", strings.Join(refused, "\n  "))
	case changes == 0:
		m.say("nothing to do: the group is there already")
		return nil
	case !m.execute:
		return &exitError{exitPlan, errors.New("nothing was done: this is a plan, and --execute carries it out")}
	}
	for _, plan := range plans {
		if len(plan.Changes()) == 0 {
			continue
		}
		how, err := cluster.Execute(ctx, plan, offsets.Execution{Admins: m.admins, Undo: m.keep(plan.Group)})
		if err != nil {
			return preconditionIsLive(err)
		}
		m.say("done: %s: %d partitions, %d records", how, len(plan.Changes()), plan.Records)
	}
	return nil
}

// explain says on stderr what the table does not.
func (m *moving) explain(plan offsets.Plan) {
	m.say("group %s, to %s: %s", plan.Group, plan.To, plan.Meaning)
	if len(plan.Members) > 0 {
		m.say("it runs, with %d members: it would be told to seek, through its processes, and go on", len(plan.Members))
	}
	for _, move := range plan.Moves {
		if move.Gone > 0 {
			m.say("%s/%d: %d records were removed before the group had processed them; no reset brings them back", move.Topic,
				move.Partition, move.Gone)
		}
	}
	if plan.Missing > 0 {
		m.say("of what is wanted, retention has removed %d records at most", plan.Missing)
	}
}

// preconditionIsLive gives the error of a group that is not as it has to be its exit code.
func preconditionIsLive(err error) error {
	var live *offsets.LiveError
	var changed *offsets.ChangedError
	if errors.As(err, &live) || errors.As(err, &changed) {
		return &exitError{exitLive, fmt.Errorf("refused: %w", err)}
	}
	return err
}
