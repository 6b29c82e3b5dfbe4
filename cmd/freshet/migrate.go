package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/config"
	"freshet/internal/posts/cassandrastore"
)

// migrateTimeout bounds a migration, the wait for another process included.
const migrateTimeout = 10 * time.Minute

func migrateCommand() *cobra.Command {
	c := config.Deployment()
	var format output
	var plan bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the post store's tables in Cassandra up to date",
		Long: `Applies the migrations that the keyspace lacks, one after another, waits after each statement until all nodes
agree, and notes each in the keyspace. It may be stopped and started again at any time, and by several at once: one goes
on while the others wait. With --plan it only lists them.

The first process that comes to a new keyspace does the same by itself. One of an earlier version it refuses, because
processes of that version may still be running: migrate when the release notes say that both can work with it. A
keyspace that a later program has migrated, or that has a migration which is another one here, is left alone.

Exit codes: 0 the keyspace is up to date, or the plan was written; 1 it is not; 2 wrong usage.`,
		Example: `  freshet migrate --cassandra cassandra:9042 --plan
  freshet migrate --cassandra cassandra:9042 -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.validate(); err != nil {
				return err
			}
			if len(c.Cassandra) == 0 {
				return usage("migrate: name Cassandra with --cassandra; an embedded post store needs no migration")
			}
			if err := c.Validate(); err != nil {
				return &exitError{exitUsage, err}
			}
			login, err := c.Login()
			if err != nil {
				return settingsAreUsage(err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), migrateTimeout)
			defer cancel()
			do := cassandrastore.Migrate
			if plan {
				do = cassandrastore.Plan
			}
			all, err := do(ctx, cassandrastore.Options{
				Addrs: c.Cassandra, Keyspace: c.Keyspace(), Replication: c.PostReplicas(), Access: login.Cassandra,
				Log: slog.Default(),
			})
			if err != nil {
				return err
			}
			return format.write(cmd.OutOrStdout(), all, func(w io.Writer) error { return printMigrations(w, all) })
		},
	}
	serverFlags(cmd.Flags(), &c)
	layoutFlags(cmd.Flags(), &c)
	format.register(cmd.Flags())
	cmd.Flags().BoolVar(&plan, "plan", false, "only list the migrations, and which are missing")
	return cmd
}

func printMigrations(w io.Writer, all []cassandrastore.Migration) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VERSION\tNAME\tAPPLIED\tCHECKSUM")
	for _, m := range all {
		applied := "missing"
		if !m.AppliedAt.IsZero() {
			applied = m.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%.12s\n", m.Version, m.Name, applied, m.Checksum)
	}
	return table.Flush()
}
