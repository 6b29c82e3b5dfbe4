package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/internal/offsets"
	"freshet/internal/topology"
)

func topologyCommand() *cobra.Command {
	var names freshet.Names
	var format string
	cmd := &cobra.Command{
		Use:   "topology [GROUP]",
		Short: "Which group reads and writes which topics, and what a reset means for each",
		Long: `Shows the groups with their inputs, loops, tables and outputs, as the processors declare them, and what it
means to move a group back: which topics are read again, and which are left alone. It asks no server.

` + listingCodes,
		Example: "  freshet topology -o dot | dot -Tsvg > freshet.svg",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			groups, published := topology.Groups(names), topology.Published(names)
			if len(args) > 0 {
				scope, err := offsets.ParseScope(names, args[0])
				if err != nil {
					return &exitError{exitUsage, err}
				}
				groups = slices.DeleteFunc(groups, func(g topology.Group) bool { return g.Name != scope.Group() })
				published = slices.DeleteFunc(published, func(topic string) bool {
					return !slices.Contains(groups[0].Inputs, topic)
				})
			}
			if format == "dot" {
				return topology.Dot(cmd.OutOrStdout(), groups, published)
			}
			out := output(format)
			if err := out.validate(); err != nil {
				return usage("-o %s: want table, json, jsonl or dot", format)
			}
			return out.write(cmd.OutOrStdout(), groups, func(w io.Writer) error { return topology.Print(w, groups) })
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json, jsonl, or dot for Graphviz")
	cmd.Flags().StringVar(&names.Prefix, "prefix", freshet.DefaultPrefix, "begins the names of all topics and groups")
	return cmd
}

func topicsCommand() *cobra.Command {
	var kafka kafkaFlags
	var format output
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "The topics in Kafka: what is in them, how long it is kept, who writes and who reads",
		Long: `Lists the deployment's topics as they are in Kafka. A start of freshet makes those that are missing, and
refuses those that are not as they have to be.

Exit codes: 0 done, 1 failed, or a topic is missing, 2 wrong usage.`,
		Example: "  freshet topics",
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
			list, err := cluster.Topics(cmd.Context())
			if err != nil {
				return err
			}
			err = format.write(cmd.OutOrStdout(), list, func(w io.Writer) error { return printTopics(w, list) })
			if err == nil && slices.ContainsFunc(list, func(t offsets.TopicState) bool { return t.Missing }) {
				err = errors.New("topics are missing; a start of freshet makes them; is --prefix right?")
			}
			return err
		},
	}
	kafka.register(cmd.Flags())
	format.register(cmd.Flags())
	return cmd
}

func printTopics(w io.Writer, list []offsets.TopicState) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TOPIC\tKIND\tPARTITIONS\tREPLICAS\tKEPT\tRECORDS\tWRITTEN BY\tREAD BY")
	for _, t := range list {
		if t.Missing {
			fmt.Fprintf(tw, "%s\t%s\tmissing\t\t\t\t%s\t%s\n", t.Name, t.Kind, orNobody(t.Writers), orNobody(t.Readers))
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%s\t%d\t%s\t%s\n", t.Name, t.Kind, t.Partitions, t.Replicas, t.Kept, t.Records,
			orNobody(t.Writers), orNobody(t.Readers))
	}
	return tw.Flush()
}

func orNobody(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}
