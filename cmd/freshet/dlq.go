package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/deadletters"
	"freshet/internal/kafka"
)

// exitLeft: letters were left alone, because what came after them would be undone.
const exitLeft = 4

const dlqCodes = `Exit codes: 0 done, or nothing to do; 1 failed; 2 wrong usage, or there is no such letter; 3 there is
something to do, and --execute was not given`

// letterFlags are the flags that choose letters.
type letterFlags struct {
	kafka                kafkaFlags
	format               output
	group, topic, reason string
}

func (d *letterFlags) register(flags *pflag.FlagSet) {
	d.kafka.register(flags)
	d.format.register(flags)
	flags.StringVar(&d.group, "group", "", "only what this group gave up")
	flags.StringVar(&d.topic, "topic", "", "only messages of this topic")
	flags.StringVar(&d.reason, "reason", "", "only with this text in the reason, whatever the case")
}

// open connects, and says which letters are meant.
func (d *letterFlags) open(ctx context.Context, ids []string) (*deadletters.Box, deadletters.Filter, error) {
	filter := deadletters.Filter{Reason: d.reason}
	if err := d.format.validate(); err != nil {
		return nil, filter, err
	}
	for _, text := range ids {
		id, err := deadletters.ParseID(text)
		if err != nil {
			return nil, filter, &exitError{exitUsage, err}
		}
		filter.IDs = append(filter.IDs, id)
	}
	// Groups that are not freshet's own write dead letters, too, so any name may be meant.
	filter.Group, filter.Topic = d.full(d.group), d.full(d.topic)
	clients, err := d.kafka.clients()
	if err != nil {
		return nil, filter, err
	}
	box, err := deadletters.Open(ctx, d.kafka.brokers, d.kafka.names, kafka.ClientOptions(clients)...)
	if err != nil {
		return nil, filter, fmt.Errorf("--kafka: %w", err)
	}
	return box, filter, nil
}

// full is a name as it is in Kafka; the one given may lack the prefix.
func (d *letterFlags) full(name string) string {
	if name == "" || strings.HasPrefix(name, d.kafka.names.Prefix) {
		return name
	}
	return d.kafka.names.Prefix + name
}

func dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Messages that a group could not process: list, show, retry, drop",
		Long: `A message that a group cannot decode or process does not stop the group: it goes to the topic dead-letters,
byte for byte, with the group, where it lay, and why. It is kept there for 30 days.`,
		Args: func(*cobra.Command, []string) error {
			return usage("want dlq list, dlq show, dlq retry or dlq drop")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(dlqListCommand(), dlqShowCommand(), dlqRetryCommand(), dlqDropCommand())
	return cmd
}

func dlqListCommand() *cobra.Command {
	var d letterFlags
	var byReason bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "The letters that are open, or how many there are for each reason",
		Long:  "Lists what groups gave up and nobody has retried or dropped since.\n\n" + listingCodes,
		Example: `  freshet dlq list --by-reason
  freshet dlq list --group archive -o jsonl`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, filter, err := d.open(cmd.Context(), nil)
			if err != nil {
				return err
			}
			defer box.Close()
			if byReason {
				counts, err := box.Count(cmd.Context(), filter)
				if err != nil {
					return err
				}
				return d.format.write(cmd.OutOrStdout(), counts, func(w io.Writer) error { return printCounts(w, counts) })
			}
			return d.list(cmd, box, filter)
		},
	}
	d.register(cmd.Flags())
	cmd.Flags().BoolVar(&byReason, "by-reason", false, "a line for each group, topic and reason")
	return cmd
}

// list writes letters as they come: there may be many.
func (d *letterFlags) list(cmd *cobra.Command, box *deadletters.Box, filter deadletters.Filter) error {
	w := cmd.OutOrStdout()
	switch d.format {
	case "jsonl":
		encoder := json.NewEncoder(w)
		return box.Each(cmd.Context(), filter, func(l *deadletters.Letter) error { return encoder.Encode(l) })
	case "json":
		letters := []*deadletters.Letter{}
		err := box.Each(cmd.Context(), filter, func(l *deadletters.Letter) error {
			letters = append(letters, l)
			return nil
		})
		if err != nil {
			return err
		}
		return d.format.write(w, letters, nil)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "LETTER\tGROUP\tMESSAGE\tGIVEN UP\tTRIES\tBYTES\tREASON")
	err := box.Each(cmd.Context(), filter, func(l *deadletters.Letter) error {
		_, err := fmt.Fprintf(tw, "%s\t%s\t%s/%d@%d\t%s\t%d\t%d\t%s\n", l.ID, l.Group, l.Topic, l.Partition, l.Offset,
			l.GivenUp.UTC().Format(time.RFC3339), l.Tries, len(l.Value), shorten(l.Why()))
		return err
	})
	return errors.Join(err, tw.Flush())
}

// shorten keeps a line of a table on a line of a terminal.
func shorten(text string) string {
	const most = 100
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

func printCounts(w io.Writer, counts []deadletters.Count) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "GROUP\tTOPIC\tLETTERS\tFIRST\tLAST\tREASON")
	for _, c := range counts {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%s\t%s\n", c.Group, c.Topic, c.Letters, c.First.UTC().Format(time.RFC3339),
			c.Last.UTC().Format(time.RFC3339), shorten(c.Reason))
	}
	return tw.Flush()
}

func dlqShowCommand() *cobra.Command {
	var d letterFlags
	var value bool
	cmd := &cobra.Command{
		Use:   "show LETTER...",
		Short: "All that is known of a letter, or the bytes of its message",
		Long:  "Shows letters whole.\n\n" + listingCodes,
		Example: `  freshet dlq show 3/120
  freshet dlq show 3/120 --value | protoc --decode_raw`,
		Args: someLetters,
		RunE: func(cmd *cobra.Command, args []string) error {
			if value && len(args) > 1 {
				return usage("--value writes the bytes of one message, got %d letters", len(args))
			}
			box, filter, err := d.open(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer box.Close()
			letters, err := collect(cmd.Context(), box, filter)
			if err != nil {
				return err
			}
			if value {
				_, err := cmd.OutOrStdout().Write(letters[0].Value)
				return err
			}
			return d.format.write(cmd.OutOrStdout(), letters, func(w io.Writer) error { return printLetters(w, letters) })
		},
	}
	d.register(cmd.Flags())
	cmd.Flags().BoolVar(&value, "value", false, "write the bytes of the message, and nothing else")
	return cmd
}

func someLetters(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("%s wants one LETTER or more, as freshet dlq list shows them", cmd.CommandPath())
	}
	return nil
}

// collect are the letters that are meant; those that were named and are not open are wrong usage.
func collect(
	ctx context.Context, box *deadletters.Box, filter deadletters.Filter,
) (letters []*deadletters.Letter, err error) {
	err = box.Each(ctx, filter, func(l *deadletters.Letter) error {
		letters = append(letters, l)
		return nil
	})
	if errors.Is(err, deadletters.ErrUnknown) {
		err = &exitError{exitUsage, err}
	}
	return letters, err
}

func printLetters(w io.Writer, letters []*deadletters.Letter) error {
	for i, l := range letters {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "letter     %s\ngroup      %s\n", l.ID, l.Group)
		fmt.Fprintf(w, "given up   %s, %d times\n", l.GivenUp.UTC().Format(time.RFC3339Nano), l.Tries)
		fmt.Fprintf(w, "message    %s/%d at offset %d, of %s\n", l.Topic, l.Partition, l.Offset,
			l.Time.UTC().Format(time.RFC3339Nano))
		fmt.Fprintf(w, "key        %q\n", l.Key)
		for _, h := range l.Headers {
			fmt.Fprintf(w, "header     %s: %q\n", h.Key, h.Value)
		}
		fmt.Fprintf(w, "reason     %s\n", l.Reason)
		if l.Value == nil {
			fmt.Fprintln(w, "value      none")
			continue
		}
		fmt.Fprintf(w, "value      %d bytes\n%s", len(l.Value), hex.Dump(l.Value))
	}
	return nil
}

// closing is what retry and drop have in common.
type closing struct {
	letterFlags
	all, execute bool
}

func (c *closing) register(flags *pflag.FlagSet) {
	c.letterFlags.register(flags)
	flags.BoolVar(&c.all, "all", false, "all letters that --group, --topic and --reason leave")
	flags.BoolVar(&c.execute, "execute", false, "do it; without, only say what would be done")
}

func (c *closing) letters(cmd *cobra.Command, args []string) (*deadletters.Box, []*deadletters.Letter, error) {
	if (len(args) > 0) == c.all {
		return nil, nil, usage("%s: want LETTER..., or --all", cmd.CommandPath())
	}
	box, filter, err := c.open(cmd.Context(), args)
	if err != nil {
		return nil, nil, err
	}
	letters, err := collect(cmd.Context(), box, filter)
	if err != nil {
		box.Close()
		return nil, nil, err
	}
	return box, letters, nil
}

// outcome is what became of a letter, or would.
type outcome struct {
	Letter deadletters.ID `json:"letter"`
	Group  string         `json:"group"`
	Does   string         `json:"does"`
	// Why says why it is left alone.
	Why string `json:"why,omitempty"`
}

// tell writes what was done, and ends a plan with the exit code of one.
func (c *closing) tell(cmd *cobra.Command, outcomes []outcome, todo int) error {
	err := c.format.write(cmd.OutOrStdout(), outcomes, func(w io.Writer) error {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "LETTER\tGROUP\tDOES\tWHY")
		for _, o := range outcomes {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", o.Letter, o.Group, o.Does, o.Why)
		}
		return tw.Flush()
	})
	if err == nil && todo > 0 && !c.execute {
		err = &exitError{exitPlan, errors.New("nothing was done: this is a plan; --execute does it")}
	}
	return err
}

func dlqRetryCommand() *cobra.Command {
	var c closing
	var outOfOrder bool
	cmd := &cobra.Command{
		Use:   "retry LETTER...",
		Short: "Has the group that gave messages up process them again",
		Long: `Writes messages to where they came from, behind what has come since, byte for byte, and closes their letters.
Only the group that gave a message up processes it again; other groups pass over it. One that fails again is a new
letter, with one try more.

A message that another one about the same has followed since (the same post; in other topics, the same key) is left
alone: processed now, it would act as if it had come last. Move the group back instead (freshet offsets reset,
freshet replay), which keeps the order, or say --out-of-order.

` + dlqCodes + `; 4 letters were left alone.`,
		Example: `  freshet dlq retry 3/120
  freshet dlq retry --all --group archive --reason "no such column" --execute`,
		RunE: func(cmd *cobra.Command, args []string) error {
			box, letters, err := c.letters(cmd, args)
			if err != nil {
				return err
			}
			defer box.Close()
			return c.retry(cmd, box, letters, outOfOrder)
		},
	}
	c.register(cmd.Flags())
	cmd.Flags().BoolVar(&outOfOrder, "out-of-order", false, "also messages that others about the same have followed")
	return cmd
}

func (c *closing) retry(
	cmd *cobra.Command, box *deadletters.Box, letters []*deadletters.Letter, outOfOrder bool,
) error {
	overtaken, err := box.Overtaken(cmd.Context(), letters)
	if errors.Is(err, deadletters.ErrForeign) {
		return &exitError{exitUsage, err}
	}
	if err != nil {
		return err
	}
	outcomes := []outcome{}
	left := 0
	todo := slices.DeleteFunc(slices.Clone(letters), func(l *deadletters.Letter) bool {
		o := outcome{l.ID, l.Group, "retry", ""}
		by, late := overtaken[l.ID]
		if late {
			o.Why = fmt.Sprintf("offset %d is about the same", by)
		}
		skip := late && !outOfOrder
		if skip {
			o.Does, left = "leave", left+1
		}
		outcomes = append(outcomes, o)
		return skip
	})
	if c.execute {
		if err := box.Retry(cmd.Context(), todo...); err != nil {
			return err
		}
	}
	if err := c.tell(cmd, outcomes, len(todo)); err != nil {
		return err
	}
	if left > 0 {
		return &exitError{exitLeft, fmt.Errorf("%d letters are left alone: others about the same have followed", left)}
	}
	return nil
}

func dlqDropCommand() *cobra.Command {
	var c closing
	cmd := &cobra.Command{
		Use:   "drop LETTER...",
		Short: "Closes letters: their messages are given up for good",
		Long: `Closes letters, so that they are not listed any more. What they hold goes with the topic's retention.

` + dlqCodes + ".",
		Example: "  freshet dlq drop 3/120 --execute",
		RunE: func(cmd *cobra.Command, args []string) error {
			box, letters, err := c.letters(cmd, args)
			if err != nil {
				return err
			}
			defer box.Close()
			if c.execute {
				if err := box.Drop(cmd.Context(), letters...); err != nil {
					return err
				}
			}
			outcomes := make([]outcome, len(letters))
			for i, l := range letters {
				outcomes[i] = outcome{Letter: l.ID, Group: l.Group, Does: "drop"}
			}
			return c.tell(cmd, outcomes, len(letters))
		},
	}
	c.register(cmd.Flags())
	return cmd
}
