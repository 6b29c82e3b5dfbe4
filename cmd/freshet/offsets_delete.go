package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"freshet/internal/offsets"
)

func offsetsDeleteCommand() *cobra.Command {
	var m moving
	var topics []string
	cmd := &cobra.Command{
		Use:   "delete",
		Short: "Plans to forget where a group stands, and does it with --execute",
		Long: `Plans to remove a group, or, with --topic, only what it has committed in some of its topics. The group may be
one that freshet does not know, left behind under the prefix. A group of freshet that is started afterwards begins
with the first record that is kept, in its loop, too. Only a group without members can be deleted. Before anything is,
a file is written with where it stood.

` + movingCodes,
		Example: "  freshet offsets delete --group fanout --topic replays --execute",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := m.prepare(cmd); err != nil {
				return err
			}
			if m.group == "" {
				return usage("offsets delete: --group is missing")
			}
			var scope *offsets.Scope
			if len(topics) > 0 {
				s, err := offsets.ParseScope(m.kafka.names, m.group, topics...)
				if err != nil {
					return &exitError{exitUsage, err}
				}
				scope = &s
			}
			cluster, err := m.kafka.open(cmd.Context())
			if err != nil {
				return err
			}
			defer cluster.Close()
			d, err := cluster.PlanDelete(cmd.Context(), m.group, scope)
			if err != nil {
				return unknownIsUsage(err)
			}
			err = m.format.write(m.stdout, d, func(w io.Writer) error { return offsets.WriteRows(w, d.Offsets, true) })
			if err != nil {
				return err
			}
			m.say("group %s: %s", d.Group, d.Meaning)
			switch {
			case len(d.Offsets) == 0 && !d.Whole:
				m.say("nothing to do: it has committed nothing there")
				return nil
			case !m.execute:
				return &exitError{exitPlan, errors.New("nothing was done: this is a plan, and --execute carries it out")}
			}
			if err := cluster.ExecuteDelete(cmd.Context(), d, m.keep(d.Group)); err != nil {
				return preconditionIsLive(err)
			}
			m.say("done: %d offsets are forgotten", len(d.Offsets))
			return nil
		},
	}
	flags := cmd.Flags()
	m.kafka.register(flags)
	m.format.register(flags)
	flags.StringVar(&m.group, "group", "", "the group, with or without the prefix (required)")
	flags.StringArrayVar(&topics, "topic", nil, "only what is committed in this topic, or in partitions of it: posts:0,3")
	flags.BoolVar(&m.execute, "execute", false, "do it")
	flags.StringVar(&m.undo, "undo", "", "the file that --execute writes first, with where the group stood "+
		"(default: GROUP-TIME.undo.csv in the current folder)")
	return cmd
}
