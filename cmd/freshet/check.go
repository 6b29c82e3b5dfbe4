package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/check"
	"freshet/internal/config"
)

func checkCommand() *cobra.Command {
	c := config.Deployment()
	var format output
	var ready string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Whether the servers can be reached from here, hop by hop, and are as they have to be",
		Long: `Goes to each server that is named, with the flags of freshet run, and writes a line for each hop: the name
(dns), the connection (tcp), TLS (tls), who is let in (authentication), and what is there (brokers and topics of Kafka,
settings of Redis, schema of Cassandra). Behind the first hop of an address that fails the others are not tried, and the
line says what to do. Brokers are tried at the addresses that they tell their clients, too. Topics that are missing and
a keyspace without tables are no failure: the first start creates them.

With --ready it asks a running process instead, at the operators' listener, whether it is ready; a container needs
nothing else to be looked after.

Exit codes: 0 every hop is well, or the process is ready; 1 one is not; 2 wrong usage.`,
		Example: `  freshet check --kafka broker1:9092 --redis redis:6379 --cassandra cassandra:9042
  freshet check --ready http://` + config.DefaultAdmin,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.validate(); err != nil {
				return err
			}
			if ready != "" {
				return checkReady(cmd.Context(), cmd.OutOrStdout(), ready)
			}
			return checkServers(cmd, c, format)
		},
	}
	serverFlags(cmd.Flags(), &c)
	layoutFlags(cmd.Flags(), &c)
	format.register(cmd.Flags())
	cmd.Flags().StringVar(&ready, "ready", "", "URL of the operators' listener of a process: is it ready?")
	return cmd
}

func checkServers(cmd *cobra.Command, c config.Config, format output) error {
	if len(c.Kafka)+len(c.Redis)+len(c.Cassandra) == 0 {
		return usage("check: name a server with --kafka, --redis or --cassandra, or a process with --ready")
	}
	if err := c.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	results, err := check.Run(cmd.Context(), c)
	if err != nil {
		return settingsAreUsage(err)
	}
	table := func(w io.Writer) error { return check.Print(w, results) }
	if err := format.write(cmd.OutOrStdout(), results, table); err != nil {
		return err
	}
	if failed := check.Failed(results); failed != nil {
		return fmt.Errorf("%s at %s fails at %s", failed.Server, failed.Address, failed.Hop)
	}
	return nil
}

// readyTimeout bounds the answer of a process.
const readyTimeout = 5 * time.Second

var errNotReady = errors.New("not ready")

func checkReady(ctx context.Context, w io.Writer, url string) error {
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	url = strings.TrimSuffix(strings.TrimSuffix(url, "/"), "/readyz") + "/readyz"
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return usage("--ready: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %w: %s", url, errNotReady, strings.TrimSpace(string(text)))
	}
	fmt.Fprint(w, string(text))
	return nil
}
