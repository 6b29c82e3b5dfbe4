package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/internal/audit"
	"freshet/internal/rebuild"
)

func rebuildCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Making feeds, follower trees or the post store anew, while everything goes on",
		Args: func(_ *cobra.Command, args []string) error {
			return usage("rebuild %s: want rebuild feeds, rebuild graph or rebuild store", strings.Join(args, " "))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(rebuildFeedsCommand(), rebuildGraphCommand(), rebuildStoreCommand())
	return cmd
}

// rebuilding is what the flags of the rebuild commands say.
type rebuilding struct {
	stores storeFlags
	format output
	all    bool
	rate   float64
}

func (r *rebuilding) register(cmd *cobra.Command, rate float64, what string) {
	r.stores.register(cmd.Flags())
	r.format.register(cmd.Flags())
	cmd.Flags().Float64Var(&r.rate, "rate", rate, what+" a second; 0: as fast as it goes")
}

// accounts are those of the arguments, or of the lines of the standard input for -; none for --all.
func (r *rebuilding) accounts(args []string, stdin io.Reader) ([]freshet.AccountID, error) {
	if r.all == (len(args) > 0) {
		return nil, usage("rebuild: want ACCOUNT..., - for ids on the standard input, or --all")
	}
	if len(args) == 1 && args[0] == "-" {
		args = nil
		for lines := bufio.NewScanner(stdin); lines.Scan(); {
			if line := strings.TrimSpace(lines.Text()); line != "" {
				args = append(args, line)
			}
		}
		if len(args) == 0 {
			return nil, usage("rebuild: the standard input names no account")
		}
	}
	return accountIDs(args)
}

// with checks the flags and opens the servers.
func (r *rebuilding) with(ctx context.Context, do func(s stores) error) error {
	if r.rate < 0 {
		return usage("--rate %g: want 0 or more", r.rate)
	}
	if err := r.format.validate(); err != nil {
		return err
	}
	return r.stores.with(ctx, do)
}

func rebuildFeedsCommand() *cobra.Command {
	r := &rebuilding{}
	cmd := &cobra.Command{
		Use:   "feeds [ACCOUNT...]",
		Short: "Make feeds cold, so that the next read of each builds it anew",
		Long: `Makes feeds cold: of the accounts given, of those whose ids are on the standard input (-), or all. The next
read of a feed builds it from the outboxes of everybody whom the account follows, so whatever was wrong in the feed is
gone. What is wrong in outboxes is not: fan-out has to read the posts again first (freshet offsets reset).

Readers notice that a page takes some milliseconds longer. The rate keeps them from building too many at once.

Exit codes: 0 done; 1 failed; 2 wrong usage.`,
		Example: `  freshet rebuild feeds alice bob
  freshet audit --all -o jsonl | jq -r 'select(.list=="feed").account.id' | sort -u | freshet rebuild feeds -`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			ids, err := r.accounts(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			return r.with(ctx, func(s stores) error {
				if err := audit.CheckZones(ctx, s.Conn, s.Layout); err != nil {
					return layoutIsUsage(err)
				}
				f := rebuild.Feeds{Conn: s.Conn, Layout: s.Layout, Rate: r.rate, Progress: s.Progress}
				var summary rebuild.FeedsSummary
				if r.all {
					size, err := audit.Size(ctx, s.Config)
					if err != nil {
						return err
					}
					if summary, err = f.All(ctx, size); err != nil {
						return err
					}
				} else {
					numbers, err := audit.Numbers(ctx, s.Config, ids)
					if err != nil {
						return layoutIsUsage(err)
					}
					if summary, err = f.Some(ctx, numbers); err != nil {
						return err
					}
				}
				return r.format.write(cmd.OutOrStdout(), summary, func(w io.Writer) error {
					fmt.Fprintf(w, "blocks     %d\nfeeds      %d made cold\n", summary.Blocks, summary.Cold)
					if summary.Lost > 0 {
						fmt.Fprintf(w, "left out   %d blocks that Redis has lost; they are cold once it is recovered\n", summary.Lost)
					}
					return nil
				})
			})
		},
	}
	r.register(cmd, 500, "feeds that are made cold")
	cmd.Flags().BoolVar(&r.all, "all", false, "all feeds")
	return cmd
}

func rebuildGraphCommand() *cobra.Command {
	r := &rebuilding{}
	cmd := &cobra.Command{
		Use:   "graph [ACCOUNT...]",
		Short: "Have rows of following state everything again, and trees forget who does not follow",
		Long: `Has following state whom accounts follow: those given, those on the standard input (-), or all. Follower trees
that lacked one of them have it then. Followers whom a tree holds, and whose rows know of no relation, are taken out of
it. It waits until trees and rows agree; posts that were not delivered meanwhile are not brought back by this.

Exit codes: 0 trees and rows agree; 1 failed, or they do not; 2 wrong usage.`,
		Example: "  freshet rebuild graph --all --rate 2000",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			ids, err := r.accounts(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			return r.with(ctx, func(s stores) error {
				return s.sources(ctx, ids, func(sources *audit.Sources, accounts []freshet.Number) error {
					summary, err := rebuild.Graph{
						Brokers: s.Brokers, Names: s.Names, Sarama: s.Sarama, Sources: sources, Rate: r.rate, Progress: s.Progress,
					}.Run(ctx, accounts)
					if err != nil {
						return err
					}
					return r.format.write(cmd.OutOrStdout(), summary, func(w io.Writer) error {
						_, err := fmt.Fprintf(w, "rows       %d stated again\nfollowers  %d taken out of trees\n",
							summary.Rows, summary.Wrong)
						return err
					})
				})
			})
		},
	}
	r.register(cmd, 1000, "rows that state their relations")
	cmd.Flags().BoolVar(&r.all, "all", false, "all accounts that follow anybody")
	return cmd
}

func rebuildStoreCommand() *cobra.Command {
	r := &rebuilding{}
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Store every post that the log has once more, in Cassandra",
		Long: `Reads the log of posts from its beginning and stores each event once more. Nothing older replaces anything
newer, so posts that are there stay as they are, and the archive may run. What the log does not have any more is
left as it is.

A post store that is embedded belongs to its process, which does the same by
freshet offsets reset --group archive --topic posts --to earliest --execute

Exit codes: 0 done; 1 failed; 2 wrong usage.`,
		Example: "  freshet rebuild store --cassandra cassandra:9042",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(r.stores.config.Cassandra) == 0 {
				return usage("rebuild store: name Cassandra with --cassandra; an embedded post store is filled again by " +
					"freshet offsets reset --group archive --topic posts --to earliest --execute")
			}
			ctx := cmd.Context()
			return r.with(ctx, func(s stores) error {
				summary, err := rebuild.Store{
					Brokers: s.Brokers, Names: s.Names, Sarama: s.Sarama, Store: s.Store, Rate: r.rate, Progress: s.Progress,
				}.Run(ctx)
				if err != nil {
					return err
				}
				return r.format.write(cmd.OutOrStdout(), summary, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "events     %d stored, %d that cannot be read\n"+
						"removed    %d that the log does not have any more\n", summary.Events, summary.Unread, summary.Removed)
					return err
				})
			})
		},
	}
	r.register(cmd, 5000, "events that are stored")
	return cmd
}
