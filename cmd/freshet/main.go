// Command freshet is a feed service: every role of it, and the tools to run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

// Exit codes beside 0 and 1.
const (
	exitUsage = 2
	exitPlan  = 3 // offsets and replay --plan: there is something to do, and --execute was not given
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tuneMemory(os.Getenv)
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := 1
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, "freshet:", err)
	}
	return code
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "freshet",
		Short: "A feed service: accounts follow accounts, accounts post, everyone reads a home feed",
		Long: `A feed service: accounts follow accounts, accounts post, everyone reads a home feed.

Unless the environment sets them, GOGC is 300 and GOMEMLIMIT half of the machine's memory.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("there is no command %q; freshet --help lists them", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var level slog.Level
	var format string
	root.PersistentFlags().TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	root.PersistentFlags().StringVar(&format, "log-format", "text", "text or json")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		options := &slog.HandlerOptions{Level: level}
		switch format {
		case "text":
			slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, options)))
		case "json":
			slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, options)))
		default:
			return usage("--log-format %s: want text or json", format)
		}
		redis.SetLogger(redisLog{})
		return nil
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	root.AddCommand(devCommand(), runCommand(), importCommand(), offsetsCommand(), keysCommand(), benchCommand(),
		loadCommand(), checkCommand(), migrateCommand(), topicsCommand(), topologyCommand(), replayCommand(),
		auditCommand(), whyCommand(), rebuildCommand(), dlqCommand(), versionCommand())
	return root
}

// redisLog is for what go-redis says by itself, which whoever asked Redis is told as well.
type redisLog struct{}

// Printf implements the logger that go-redis wants.
func (redisLog) Printf(ctx context.Context, format string, v ...any) {
	slog.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, v...))
}
