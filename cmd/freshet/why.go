package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/internal/audit"
)

func whyCommand() *cobra.Command {
	var flags storeFlags
	var format output
	cmd := &cobra.Command{
		Use:   "why ACCOUNT POST",
		Short: "Why a post is in an account's feed, or is not",
		Long: `Says, in sentences, whether a post belongs into the feed of an account, whether it is there, and what leads to
that: who follows whom and since when, mutes and blocks, how the author's posts come to the feed, what became of the
post, where its events lie in the log and whether fan-out is past them, and what Redis and the post store have.

It reads the tables of the deployment first, as freshet audit does.

Exit codes: 0 the post is where it belongs, or on its way; 1 failed; 2 wrong usage; 5 it is missing.`,
		Example: "  freshet why alice 123456789012345",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("why wants an ACCOUNT and a POST, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			post, err := freshet.ParsePostID(args[1])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if err := format.validate(); err != nil {
				return err
			}
			ids, err := accountIDs(args[:1])
			if err != nil {
				return err
			}
			var entry audit.Entry
			err = flags.with(cmd.Context(), func(s stores) error {
				return s.sources(cmd.Context(), ids, func(sources *audit.Sources, readers []freshet.Number) (err error) {
					entry, err = sources.Why(cmd.Context(), readers[0], post)
					return err
				})
			})
			if err != nil {
				return err
			}
			if err := format.write(cmd.OutOrStdout(), entry, func(w io.Writer) error { return tellWhy(w, entry) }); err != nil {
				return err
			}
			if entry.IsMissing() {
				return &exitError{exitDiffers, errors.New("the post is missing")}
			}
			return nil
		},
	}
	flags.register(cmd.Flags())
	format.register(cmd.Flags())
	return cmd
}

func tellWhy(w io.Writer, e audit.Entry) error {
	if _, err := fmt.Fprintln(w, e.Verdict); err != nil {
		return err
	}
	for _, sentence := range e.Because {
		fmt.Fprintln(w, " ", sentence)
	}
	return nil
}
