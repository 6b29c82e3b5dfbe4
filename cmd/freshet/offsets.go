package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/IBM/sarama"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet"
	"freshet/internal/config"
	"freshet/internal/kafka"
	"freshet/internal/offsets"
)

// exitLive: the group has members that could not be asked to move.
const exitLive = 4

func offsetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offsets",
		Short: "Where groups stand in their topics, and moving them back",
		Args: func(_ *cobra.Command, args []string) error {
			return usage("offsets %s: want offsets list or offsets reset", strings.Join(args, " "))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(offsetsListCommand(), offsetsResetCommand())
	return cmd
}

// kafkaFlags are the flags of tools that talk to Kafka.
type kafkaFlags struct {
	brokers []string
	names   freshet.Names
	config  config.Config // its KafkaAccess and KafkaSASL
}

func (k *kafkaFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&k.brokers, "kafka", []string{config.DefaultKafkaListen}, "addresses of Kafka brokers")
	k.config = config.Default()
	kafkaAccessFlags(flags, &k.config.KafkaAccess, &k.config.KafkaSASL)
	flags.StringVar(&k.names.Prefix, "prefix", freshet.DefaultPrefix, "begins the names of all topics and groups")
}

// open connects; the error of a Kafka that does not answer names the flag.
func (k *kafkaFlags) open(ctx context.Context) (*offsets.Cluster, error) {
	clients, err := k.clients()
	if err != nil {
		return nil, err
	}
	c, err := offsets.Open(ctx, k.brokers, k.names, kafka.ClientOptions(clients)...)
	if err != nil {
		return nil, fmt.Errorf("--kafka: %w", err)
	}
	return c, nil
}

// clients makes the configuration of clients, once certificates and passwords are read.
func (k *kafkaFlags) clients() (func(clientID string) *sarama.Config, error) {
	login, err := k.config.Login()
	if err != nil {
		return nil, settingsAreUsage(err)
	}
	return login.Kafka.Config, nil
}

// output is how a tool writes what it has found.
type output string

func (o *output) register(flags *pflag.FlagSet) {
	flags.StringVarP((*string)(o), "output", "o", "table", "table, json or jsonl: a line each")
}

func (o output) validate() error {
	if o != "table" && o != "json" && o != "jsonl" {
		return usage("-o %s: want table, json or jsonl", string(o))
	}
	return nil
}

func (o output) write(w io.Writer, value any, table func(io.Writer) error) error {
	var err error
	switch o {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(value)
	case "jsonl":
		err = writeLines(w, value)
	default:
		err = table(w)
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// writeLines writes each item of a list on a line, and what is no list on one.
func writeLines(w io.Writer, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	items := []json.RawMessage{data}
	if data[0] == '[' {
		if err := json.Unmarshal(data, &items); err != nil {
			return err
		}
	}
	for _, item := range items {
		if _, err := fmt.Fprintf(w, "%s\n", item); err != nil {
			return err
		}
	}
	return nil
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no arguments, got %s", cmd.CommandPath(), strings.Join(args, " "))
	}
	return nil
}

func offsetsListCommand() *cobra.Command {
	var kafka kafkaFlags
	var group string
	var format output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Where each group stands in each partition, and who its members are",
		Long: `Lists, for each partition that a group reads, the committed offset, the range of what is kept, and the lag: how
many of the records that are kept the group has not processed.

Exit codes: 0 done, 1 failed, 2 wrong usage.`,
		Example: "  freshet offsets list --group fanout",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.validate(); err != nil {
				return err
			}
			cluster, err := kafka.open(cmd.Context())
			if err != nil {
				return err
			}
			defer cluster.Close()
			groups, err := cluster.Groups(cmd.Context(), group)
			if err != nil {
				return unknownIsUsage(err)
			}
			return format.write(cmd.OutOrStdout(), groups, func(w io.Writer) error {
				return offsets.PrintGroups(w, groups)
			})
		},
	}
	kafka.register(cmd.Flags())
	format.register(cmd.Flags())
	cmd.Flags().StringVar(&group, "group", "", "only this group, with or without the prefix")
	return cmd
}

// reset is what the flags of offsets reset say.
type reset struct {
	kafka            kafkaFlags
	group, topic, to string
	partitions       []int32
	execute          bool
	admin            string
	format           output
}

func offsetsResetCommand() *cobra.Command {
	var r reset
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Plans to move a group back in a topic, and does it with --execute",
		Long: `Plans to move a group back in one of its topics, so that it processes records again. Without --execute nothing
is done; the plan is printed.

  directory, following   state again what is so
  fanout                 posts are delivered again, to those who follow now; doubles do no harm
  archive                posts and follower lists are stored again

A group is never moved forward, because what it would pass over would be missing; nor is an offset that lies outside of
what is kept moved into it. Tables are not rewound: rows stay, and what is read again is applied to them.

A group that does not run is committed for. One that runs is told to seek, through the operators' listener of its
process (--admin), and goes on from there without being stopped.

Exit codes: 0 done, or nothing to do; 1 failed, or the plan is refused; 2 wrong usage; 3 there is something to do, and
--execute was not given; 4 refused because the group has members that could not be asked.`,
		Example: `  freshet offsets reset --group fanout --topic posts --to 2026-03-01T12:00:00Z
  freshet offsets reset --group fanout --topic posts --to 2026-03-01T12:00:00Z --execute`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	r.kafka.register(flags)
	r.format.register(flags)
	flags.StringVar(&r.group, "group", "", "the group, with or without the prefix (required)")
	flags.StringVar(&r.topic, "topic", "", "an input of the group, with or without the prefix (required)")
	flags.StringVar(&r.to, "to", "", "earliest, latest, an offset, or a time such as 2026-03-01T12:00:00Z (required)")
	flags.Int32SliceVar(&r.partitions, "partitions", nil, "only these partitions, such as 0,3")
	flags.BoolVar(&r.execute, "execute", false, "do it")
	flags.StringVar(&r.admin, "admin", "http://"+config.DefaultAdmin,
		"URL of the operators' listener of the process in which the group runs")
	return cmd
}

func (r *reset) run(ctx context.Context, stdout, stderr io.Writer) error {
	for _, flag := range []struct{ name, value string }{{"group", r.group}, {"topic", r.topic}, {"to", r.to}} {
		if flag.value == "" {
			return usage("offsets reset: --%s is missing", flag.name)
		}
	}
	if err := r.format.validate(); err != nil {
		return err
	}
	to, err := offsets.ParseTarget(r.to)
	if err != nil {
		return usage("--to: %w", err)
	}
	input, err := offsets.ParseInput(r.kafka.names, r.group, r.topic)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if !strings.Contains(r.admin, "://") {
		r.admin = "http://" + r.admin
	}
	cluster, err := r.kafka.open(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	plan, err := cluster.Plan(ctx, input, to, r.partitions)
	if err != nil {
		return unknownIsUsage(err)
	}
	table := func(w io.Writer) error { return offsets.PrintPlan(w, plan) }
	if err := r.format.write(stdout, plan, table); err != nil {
		return err
	}
	return r.follow(ctx, cluster, plan, stderr)
}

// follow does what the plan says, or says what would be done.
func (r *reset) follow(ctx context.Context, cluster *offsets.Cluster, plan offsets.Plan, stderr io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	say("group %s, topic %s: %s", plan.Group, plan.Topic, plan.Meaning)
	for _, m := range plan.Moves {
		if m.Gone > 0 {
			say("partition %d: %d records were removed before the group had processed them; no reset brings them back",
				m.Partition, m.Gone)
		}
	}
	switch {
	case len(plan.Refused) > 0:
		return fmt.Errorf("refused:\n  %s", strings.Join(plan.Refused, "\n  "))
	case len(plan.Changes()) == 0:
		say("nothing to do: the group is there already")
		return nil
	case !r.execute:
		return &exitError{exitPlan, errors.New("nothing was done: this is a plan, and --execute carries it out")}
	}
	how, err := cluster.Execute(ctx, plan, r.admin)
	var live *offsets.LiveError
	if errors.As(err, &live) {
		return &exitError{exitLive, fmt.Errorf("refused: %w", err)}
	}
	if err != nil {
		return err
	}
	say("done: %s: %d partitions, %d records", how, len(plan.Changes()), plan.Records)
	return nil
}

func unknownIsUsage(err error) error {
	if errors.Is(err, offsets.ErrUnknown) {
		return &exitError{exitUsage, err}
	}
	return err
}
