package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/config"
	"freshet/internal/load"
)

func loadCommand() *cobra.Command {
	c := load.Config{
		API: "http://" + config.DefaultListen, PostRate: 50, FollowRate: 5, ReadRate: 200, For: 30 * time.Second,
		Probe: 10, Workers: 128, Seed: 1,
	}
	var output, file string
	accounts, follows := 1000, 20
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Posts, follows and feed reads at set rates, against an API that runs",
		Long: `Sends posts, follows and feed reads, each at its rate, for a time, and tells how many were sent and accepted,
what went wrong, how long answers took, and how long posts took into a follower's feed.

The accounts are those of an edge list that was imported before (--graph), or some that it registers itself. The rates
are kept up whatever the API does; what cannot be sent in time because too many requests are under way waits, and its
time counts from when it was due.

Results go to stdout, as text or, with -o json, as JSON; everything else goes to stderr.`,
		Example: "  freshet load --post-rate 100 --read-rate 1000 --for 1m\n  freshet load --graph follows.txt.gz -o json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case output != "text" && output != "json":
				return usage("-o %s: want text or json", output)
			case c.PostRate < 0 || c.FollowRate < 0 || c.ReadRate < 0 || c.PostRate+c.FollowRate+c.ReadRate == 0:
				return usage("the rates: want 0 or more, and one above 0")
			case c.For <= 0 || c.Workers < 1 || c.Probe < 0 || accounts < 2 || follows < 1:
				return usage("--for, --workers, --follows: want more than 0; --accounts: 2 or more; --probe: 0 or more")
			}
			if file == "" {
				c.Network = load.Made(accounts, follows, c.Seed)
			} else {
				g, bad, err := readGraph(file, cmd.InOrStdin())
				tellBad(cmd.ErrOrStderr(), bad)
				if err != nil {
					return err
				}
				c.Network = load.Imported(g)
			}
			if len(c.Network.Authors) == 0 {
				return usage("--graph %s: nobody follows anybody", file)
			}
			show := newMeter(os.Stderr, slog.Default())
			c.Progress = show.stage
			report, err := load.Run(cmd.Context(), c)
			show.end()
			if err != nil {
				return err
			}
			report.Command = "freshet " + strings.Join(os.Args[1:], " ")
			if output == "text" {
				return tellLoad(cmd.OutOrStdout(), report)
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(report)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.API, "api", c.API, "the API: http://host:port")
	flags.StringVar(&file, "graph", "", "an edge list that was imported; empty: register accounts and let them follow")
	flags.IntVar(&accounts, "accounts", accounts, "accounts to register")
	flags.IntVar(&follows, "follows", follows, "whom each of them follows, at most")
	flags.Float64Var(&c.PostRate, "post-rate", c.PostRate, "posts a second")
	flags.Float64Var(&c.FollowRate, "follow-rate", c.FollowRate, "follows a second")
	flags.Float64Var(&c.ReadRate, "read-rate", c.ReadRate, "feed reads a second")
	flags.DurationVar(&c.For, "for", c.For, "how long")
	flags.IntVar(&c.Probe, "probe", c.Probe, "one post of so many is looked for in a follower's feed; 0: none")
	flags.IntVar(&c.Workers, "workers", c.Workers, "requests of a kind that can be under way")
	flags.Uint64Var(&c.Seed, "seed", c.Seed, "makes the same network and requests again")
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func tellLoad(w io.Writer, r load.Report) error {
	fmt.Fprintf(w, "%s for %.0f s, %d accounts; times in ms\n\n", r.API, r.Seconds, r.Accounts)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tsent\taccepted\terrors\ta second\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, kind := range []struct {
		name string
		load.Kind
	}{{"posts", r.Posts}, {"follows", r.Follows}, {"reads", r.Reads}} {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%.0f\t%s\n", kind.name, kind.Sent, kind.Accepted, kind.Errors, kind.Rate,
			columns(kind.Answers))
	}
	if r.PostToFeed != nil {
		fmt.Fprintf(tw, "post to feed\t%d\t%d\t\t\t%s\n", int(r.PostToFeed.Count)+r.Unseen, r.PostToFeed.Count,
			columns(r.PostToFeed))
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	for _, first := range []string{r.Posts.First, r.Follows.First, r.Reads.First} {
		if first != "" {
			fmt.Fprintf(w, "\nfirst error: %s\n", first)
		}
	}
	return nil
}

func columns(p *load.Percentiles) string {
	if p == nil {
		return "\t\t\t\t\t"
	}
	return fmt.Sprintf("%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t", p.P50, p.P90, p.P99, p.P999, p.Max)
}
