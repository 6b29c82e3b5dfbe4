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

// exitLive: the group has members that could not be asked to move, or is no longer what the plan was made for.
const exitLive = 4

// listingCodes and movingCodes end the help of commands.
const (
	listingCodes = "Exit codes: 0 done, 1 failed, 2 wrong usage."
	movingCodes  = `Exit codes: 0 done, or nothing to do; 1 failed, or the plan is refused; 2 wrong usage; 3 there is
something to do, and --execute was not given; 4 nothing was done because the group has members that could not be asked,
or is no longer as it was when the plan was made.`
)

func offsetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offsets",
		Short: "Where groups stand in their topics, and moving them back",
		Args: func(_ *cobra.Command, args []string) error {
			return usage("offsets %s: want offsets list, describe, reset, export, import or delete", strings.Join(args, " "))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(offsetsListCommand(), offsetsDescribeCommand(), offsetsResetCommand(), offsetsExportCommand(),
		offsetsImportCommand(), offsetsDeleteCommand())
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

// atMostOne takes the name of a group, or none.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage("%s takes one group at most, got %s", cmd.CommandPath(), strings.Join(args, " "))
	}
	return nil
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no arguments, got %s", cmd.CommandPath(), strings.Join(args, " "))
	}
	return nil
}

// grouped is what commands share that show groups.
type grouped struct {
	kafka  kafkaFlags
	group  string
	format output
}

func (g *grouped) register(flags *pflag.FlagSet) {
	g.kafka.register(flags)
	g.format.register(flags)
	flags.StringVar(&g.group, "group", "", "only this group, with or without the prefix")
}

// open checks the flags and connects. The group may also be the argument.
func (g *grouped) open(ctx context.Context, args []string) (*offsets.Cluster, error) {
	if len(args) > 0 {
		if g.group != "" && g.group != args[0] {
			return nil, usage("group %s is the argument, and --group says %s", args[0], g.group)
		}
		g.group = args[0]
	}
	if err := g.format.validate(); err != nil {
		return nil, err
	}
	return g.kafka.open(ctx)
}

// show is the RunE of a command that asks for something of groups, and writes it: table, or value in another format.
func (g *grouped) show(
	ask func(cmd *cobra.Command, cluster *offsets.Cluster) (value any, table func(io.Writer) error, err error),
) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cluster, err := g.open(cmd.Context(), args)
		if err != nil {
			return err
		}
		defer cluster.Close()
		value, table, err := ask(cmd, cluster)
		if err != nil {
			return unknownIsUsage(err)
		}
		return g.format.write(cmd.OutOrStdout(), value, table)
	}
}

func offsetsListCommand() *cobra.Command {
	var g grouped
	cmd := &cobra.Command{
		Use:   "list [GROUP]",
		Short: "Each group in a line: state, members, lag",
		Long: `Lists the groups. Lag is how many of the records that are kept a group has not processed; those that an
operator has put in to be processed again (freshet replay) are counted apart.

` + listingCodes,
		Example: "  freshet offsets list",
		Args:    atMostOne,
		RunE: g.show(func(cmd *cobra.Command, cluster *offsets.Cluster) (any, func(io.Writer) error, error) {
			groups, err := cluster.Groups(cmd.Context(), g.group)
			list := offsets.Summarize(groups)
			return list, func(w io.Writer) error { return offsets.PrintSummaries(w, list) }, err
		}),
	}
	g.register(cmd.Flags())
	return cmd
}

func offsetsDescribeCommand() *cobra.Command {
	var g grouped
	cmd := &cobra.Command{
		Use:   "describe [GROUP]",
		Short: "Where a group stands in each partition, how far behind in time, and who its members are",
		Long: `Describes a group, or all: for each partition the committed offset, the range of what is kept, the lag, the
time of the record at the committed offset, which is the next to be processed, and the member that reads the partition.
Members without a partition are listed as well. The lag of what is replayed is in a column of its own.

` + listingCodes,
		Example: "  freshet offsets describe fanout",
		Args:    atMostOne,
		RunE: g.show(func(cmd *cobra.Command, cluster *offsets.Cluster) (any, func(io.Writer) error, error) {
			groups, err := cluster.Describe(cmd.Context(), g.group)
			return groups, func(w io.Writer) error { return offsets.PrintGroups(w, groups) }, err
		}),
	}
	g.register(cmd.Flags())
	return cmd
}

func offsetsExportCommand() *cobra.Command {
	var g grouped
	cmd := &cobra.Command{
		Use:   "export [GROUP]",
		Short: "Where groups stand, as a file that can be imported",
		Long: `Writes a line for each partition: topic,partition,offset for one group, and group,topic,partition,offset for
all. Kafka's own tool reads both by --from-file. Where a group has committed nothing the line has the first offset
that is kept, for there it would begin; that is said on stderr.

` + listingCodes,
		Example: "  freshet offsets export fanout > fanout.csv",
		Args:    atMostOne,
		RunE: g.show(func(cmd *cobra.Command, cluster *offsets.Cluster) (any, func(io.Writer) error, error) {
			rows, begins, err := cluster.Export(cmd.Context(), g.group)
			for _, row := range begins {
				fmt.Fprintf(cmd.ErrOrStderr(), "group %s has committed nothing in %s/%d: its line has the start, %d\n",
					row.Group, row.Topic, row.Partition, row.Offset)
			}
			return rows, func(w io.Writer) error { return offsets.WriteRows(w, rows, g.group == "") }, err
		}),
	}
	g.register(cmd.Flags())
	cmd.Flags().Lookup("output").Usage = "table: lines with commas; json, or jsonl: a line each"
	return cmd
}

func unknownIsUsage(err error) error {
	if errors.Is(err, offsets.ErrUnknown) {
		return &exitError{exitUsage, err}
	}
	return err
}
