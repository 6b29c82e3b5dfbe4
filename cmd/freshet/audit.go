package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/client"
	"freshet/internal/audit"
	"freshet/internal/config"
)

// exitDiffers: an audit has found differences.
const exitDiffers = 5

// auditing is what the flags of audit say.
type auditing struct {
	stores  storeFlags
	opts    audit.Options
	all     bool
	api     string
	keyFile string
	memory  int
	format  output
}

func auditCommand() *cobra.Command {
	a := &auditing{}
	cmd := &cobra.Command{
		Use:   "audit [ACCOUNT...]",
		Short: "Whether feeds are what they are by definition: the posts of everybody that an account follows now",
		Long: `Computes feeds by their definition, from the table of following, authors' outboxes and the post store, and
compares them with the feeds that Redis has; with --served also with what the API shows. Follower trees are compared
with the table of following, and authors' outboxes with the post store. Nothing is changed.

What is on its way is not reported: posts are judged up to the offsets that fan-out has committed, and whatever differs
is looked at a second time, once everything that was read has reached the ends that its topics had then.

Accounts are those given, a sample (--sample), or all (--all). With --state an audit that was interrupted goes on where
it was. Differences go to stdout as they are found; everything else goes to stderr.

Exit codes: 0 no differences; 1 failed; 2 wrong usage; 5 there are differences.`,
		Example: `  freshet audit alice bob
  freshet audit --all --trees --state audit.state -o jsonl > differences
  freshet audit --sample 10000 --served 100 --api http://127.0.0.1:8080`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args)
		},
	}
	flags := cmd.Flags()
	a.stores.register(flags)
	a.format.register(flags)
	flags.BoolVar(&a.all, "all", false, "all accounts")
	flags.IntVar(&a.opts.Sample, "sample", 0, "so many accounts, drawn at random")
	flags.Uint64Var(&a.opts.Seed, "seed", 1, "draws the same sample again")
	flags.BoolVar(&a.opts.Trees, "trees", false, "also the follower trees of all authors")
	flags.IntVar(&a.opts.Served, "served", 0, "also the feeds of so many of the accounts as --api serves them")
	flags.StringVar(&a.api, "api", "http://"+config.DefaultListen, "the API, for --served")
	flags.StringVar(&a.keyFile, "api-key-file", "", "file with a service key of the API; empty: it asks for none")
	flags.StringVar(&a.opts.State, "state", "", "file that notes how far the audit is; it goes when the audit is complete")
	flags.IntVar(&a.opts.Explain, "explain", 1000, "look the facts up of so many differences; of others, say what only")
	flags.IntVar(&a.memory, "memory", audit.DefaultMemory>>20, "MiB for lists of authors' posts that are kept")
	return cmd
}

// validate refuses what says nothing, or too much.
func (a *auditing) validate(args []string) error {
	chosen := 0
	for _, one := range []bool{len(args) > 0, a.opts.Sample > 0, a.all} {
		if one {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return usage("audit: want ACCOUNT..., --sample N or --all")
	case a.opts.Sample < 0 || a.opts.Served < 0 || a.opts.Explain < 0 || a.memory < 1:
		return usage("audit: --sample, --served and --explain: want 0 or more; --memory: 1 or more")
	}
	return a.format.validate()
}

func (a *auditing) run(ctx context.Context, stdout, stderr io.Writer, args []string) error {
	if err := a.validate(args); err != nil {
		return err
	}
	ids, err := accountIDs(args)
	if err == nil && a.opts.Served > 0 {
		a.opts.API, err = apiClient(a.api, a.keyFile)
	}
	if err != nil {
		return err
	}
	out := differences{w: stdout, format: a.format}
	a.opts.Report = out.one
	var summary audit.Summary
	err = a.stores.with(ctx, func(s stores) error {
		s.Memory = a.memory << 20
		return s.sources(ctx, ids, func(sources *audit.Sources, accounts []freshet.Number) (err error) {
			a.opts.Accounts = accounts
			summary, err = audit.Run(ctx, sources, a.opts)
			return err
		})
	})
	if err != nil {
		return err
	}
	if err := out.end(summary); err != nil {
		return err
	}
	if a.format != "table" {
		tellAudit(stderr, summary)
	}
	if n := summary.Found(); n > 0 {
		return &exitError{exitDiffers, fmt.Errorf("%d differences", n)}
	}
	return nil
}

func apiClient(url, keyFile string) (*client.Client, error) {
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	c := client.Config{URL: url}
	if keyFile != "" {
		key, err := os.ReadFile(keyFile) //nolint:gosec // the operator's own
		if err != nil {
			return nil, usage("--api-key-file: %w", err)
		}
		c.Bearer = strings.TrimSpace(string(key))
	}
	made, err := client.New(c)
	if err != nil {
		return nil, usage("--api: %w", err)
	}
	return made, nil
}

// differences writes them as they come, and the summary behind them.
type differences struct {
	w      io.Writer
	format output
	n      int
}

func (d *differences) one(found audit.Difference) error {
	d.n++
	if d.format == "table" {
		_, err := fmt.Fprintln(d.w, lineOf(found))
		return err
	}
	data, err := json.Marshal(found)
	if err != nil {
		return err
	}
	if d.format == "json" {
		before := ",\n"
		if d.n == 1 {
			before = "{\"differences\":[\n"
		}
		_, err = fmt.Fprintf(d.w, "%s%s", before, data)
		return err
	}
	_, err = fmt.Fprintf(d.w, "%s\n", data)
	return err
}

func (d *differences) end(s audit.Summary) error {
	switch d.format {
	case "table":
		tellAudit(d.w, s)
		return nil
	case "json":
		if d.n == 0 {
			fmt.Fprint(d.w, "{\"differences\":[")
		}
		data, err := json.Marshal(s)
		if err == nil {
			_, err = fmt.Fprintf(d.w, "],\n\"summary\":%s}\n", data)
		}
		return err
	}
	return nil
}

func lineOf(d audit.Difference) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %-6s of %s", d.Kind, d.List, d.Account)
	if d.Follower != nil {
		fmt.Fprintf(&b, ": follower %s", d.Follower)
	}
	if d.Post != "" {
		fmt.Fprintf(&b, ": post %s", d.Post)
	}
	if d.Author != nil {
		fmt.Fprintf(&b, " by %s", d.Author)
	}
	fmt.Fprintf(&b, ": %s", d.Reason)
	if d.Facts != nil {
		for _, sentence := range d.Facts.Because {
			fmt.Fprintf(&b, "\n           %s", sentence)
		}
	}
	return b.String()
}

func tellAudit(w io.Writer, s audit.Summary) {
	fmt.Fprintf(w, "accounts     %d: %d feeds compared, %d cold\n", s.Accounts, s.Checked, s.Cold)
	if s.Unwell+s.Building+s.Behind > 0 {
		fmt.Fprintf(w, "left out     %d feeds in zones that are being recovered, %d that are being built, %d whose rows "+
			"change all the time\n", s.Unwell, s.Building, s.Behind)
	}
	fmt.Fprintf(w, "posts        %d that have to be in feeds; %d left from before an unfollow, %d deleted\n", s.Entries,
		s.LeftOver, s.Hidden)
	fmt.Fprintf(w, "outboxes     %d\n", s.Outboxes)
	if s.Trees > 0 {
		fmt.Fprintf(w, "trees        %d, with %d follows\n", s.Trees, s.Follows)
	}
	if s.Served > 0 {
		fmt.Fprintf(w, "served       %d feeds\n", s.Served)
	}
	fmt.Fprintf(w, "second looks %d\n", s.Second)
	fmt.Fprintf(w, "differences  %d\n", s.Found())
	for _, what := range slices.Sorted(maps.Keys(s.Differences)) {
		fmt.Fprintf(w, "  %-18s %d\n", what, s.Differences[what])
	}
	fmt.Fprintf(w, "took         %.1f s\n", s.Seconds)
}
