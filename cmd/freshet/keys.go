package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/auth"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Service keys of the API: make, list and revoke them",
		Long: `Service keys are for a product's own backend: a key acts for any account. They are kept in a file, by their
hashes alone, which every API process reads that has it as --auth-keys; changes are noticed within a second.`,
		Args: func(_ *cobra.Command, args []string) error {
			return usage("keys %s: want keys create, keys list or keys revoke", strings.Join(args, " "))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(keysCreateCommand(), keysListCommand(), keysRevokeCommand())
	return cmd
}

func keysFlag(flags *pflag.FlagSet, file *string) {
	flags.StringVar(file, "auth-keys", "", "file with the service keys; freshet keys makes it")
}

// keysTool are the flags of all keys commands.
type keysTool struct {
	file   string
	format output
}

func (k *keysTool) register(flags *pflag.FlagSet) {
	keysFlag(flags, &k.file)
	k.format.register(flags)
}

func (k *keysTool) validate() error {
	if k.file == "" {
		return usage("--auth-keys is missing: which file?")
	}
	return k.format.validate()
}

// shownKey is a key as it is shown: without its hash, and once with its text.
type shownKey struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Scopes    []auth.Scope `json:"scopes"`
	CreatedAt time.Time    `json:"created_at"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty"`
	Key       string       `json:"key,omitempty"`
}

func shown(k auth.Key, text string) shownKey {
	return shownKey{ID: k.ID, Name: k.Name, Scopes: k.Scopes, CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, Key: text}
}

func keysCreateCommand() *cobra.Command {
	var k keysTool
	var name string
	var scopes []string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Makes a key and shows it, this once",
		Long: `Makes a key and shows it, this once: the file keeps its hash. Clients send it as
"Authorization: Bearer KEY".

Exit codes: 0 done, 1 failed, 2 wrong usage.`,
		Example: "  freshet keys create --auth-keys keys.json --name backend --scopes read,write --expires 2160h",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := k.validate(); err != nil {
				return err
			}
			if name == "" || life < 0 {
				return usage("keys create: want a --name, and --expires of 0 or more")
			}
			all := make([]auth.Scope, len(scopes))
			for i, s := range scopes {
				if all[i] = auth.Scope(s); !slices.Contains(auth.Scopes, all[i]) {
					return usage("--scopes %s: want some of %v", s, auth.Scopes)
				}
			}
			key, text, err := auth.CreateKey(k.file, name, all, life, time.Now())
			if err != nil {
				return err
			}
			return k.format.write(cmd.OutOrStdout(), shown(key, text), func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s\n", text)
				return err
			})
		},
	}
	k.register(cmd.Flags())
	cmd.Flags().StringVar(&name, "name", "", "what it is for (required)")
	cmd.Flags().StringSliceVar(&scopes, "scopes", []string{"read", "write"}, "what it is good for")
	cmd.Flags().DurationVar(&life, "expires", 0, "how long it is good; 0: for good")
	return cmd
}

func keysListCommand() *cobra.Command {
	var k keysTool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "The keys of a file",
		Long:  "Lists the keys of a file, those that have expired included.\n\nExit codes: 0 done, 1 failed, 2 wrong usage.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := k.validate(); err != nil {
				return err
			}
			keys, err := auth.ReadKeys(k.file)
			if err != nil {
				return err
			}
			all := make([]shownKey, len(keys))
			for i := range keys {
				all[i] = shown(keys[i], "")
			}
			return k.format.write(cmd.OutOrStdout(), all, func(w io.Writer) error { return printKeys(w, all) })
		},
	}
	k.register(cmd.Flags())
	return cmd
}

func printKeys(w io.Writer, keys []shownKey) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tSCOPES\tCREATED\tEXPIRES")
	for _, k := range keys {
		scopes := make([]string, len(k.Scopes))
		for i, s := range k.Scopes {
			scopes[i] = string(s)
		}
		expires := "never"
		if k.ExpiresAt != nil {
			expires = k.ExpiresAt.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, strings.Join(scopes, ","),
			k.CreatedAt.Format(time.RFC3339), expires)
	}
	return t.Flush()
}

func keysRevokeCommand() *cobra.Command {
	var k keysTool
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Takes a key out of the file",
		Long: `Takes a key out of the file, by the id that list shows. Processes refuse it within a second.

Exit codes: 0 done, 1 failed, 2 wrong usage.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("keys revoke: want the id of one key")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := k.validate(); err != nil {
				return err
			}
			if err := auth.RevokeKey(k.file, args[0]); err != nil {
				return err
			}
			return k.format.write(cmd.OutOrStdout(), map[string]string{"revoked": args[0]}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is revoked\n", args[0])
				return err
			})
		},
	}
	k.register(cmd.Flags())
	return cmd
}
