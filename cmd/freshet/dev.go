package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"freshet/internal/app"
	"freshet/internal/config"
	"freshet/internal/demo"
)

func devCommand() *cobra.Command {
	c := config.Default()
	withDemo := false
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Everything in one process: Kafka, Redis and the post store included",
		Long: `Everything in one process, with nothing to install: a Kafka broker, a Redis server and a post store are started
in it, and every role runs. Without --data, everything is gone when it ends.`,
		Example: "  freshet dev --demo\n  freshet dev --data ./freshet-data",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), c, withDemo)
		},
	}
	listenFlags(cmd.Flags(), &c)
	layoutFlags(cmd.Flags(), &c)
	cmd.Flags().BoolVar(&withDemo, "demo", false, "a small network that posts all the time, and a page with its feeds")
	return cmd
}

func runCommand() *cobra.Command {
	c := config.Deployment()
	cmd := &cobra.Command{
		Use:   "run ROLE...",
		Short: "Some roles, or all, on servers that are there",
		Long: `Runs roles in this process: all, or some of api directory following fanout archive. The servers are named by
--kafka, --redis and --cassandra. What is not named is started in this process, if all roles run in it that need it; a
lone role could not share it.

A server that cannot be reached is tried again for as long as --wait says, and /readyz of the operators' listener tells
so meanwhile. One that refuses this process, or has topics, tables or settings other than they have to be, ends it at
once. The API alone needs Kafka only: it takes posts while Redis and Cassandra are still away. With --accept store it
needs Cassandra, too: a post is saved there, published, and only then answered with 201.

Exit codes: 0 ended by a signal; 1 a server could not be reached or refused, or something failed for good; 2 wrong
usage.`,
		Example: "  freshet run all --kafka broker1:9092,broker2:9092 --redis redis:6379 --data /var/lib/freshet",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if c.Roles, err = config.ParseRoles(args); err != nil {
				return &exitError{exitUsage, err}
			}
			return serve(cmd.Context(), c, false)
		},
	}
	flags := cmd.Flags()
	serverFlags(flags, &c)
	flags.DurationVar(&c.Wait, "wait", c.Wait,
		"how long to try to reach servers without which the roles cannot start; 0: once")
	flags.StringVar(&c.Name, "name", "", "the process's own name, kept over restarts: its partitions wait for it for ten "+
		"seconds when it stops")
	flags.StringVar(&c.CursorKey, "cursor-key", "", "file with the key that signs cursors, the same for all processes of "+
		"the API, made if it is missing; empty: one in the directory of --data")
	listenFlags(flags, &c)
	layoutFlags(flags, &c)
	return cmd
}

// serverFlags name the servers, and how to reach them.
func serverFlags(flags *pflag.FlagSet, c *config.Config) {
	flags.StringSliceVar(&c.Kafka, "kafka", nil, "addresses of Kafka brokers; empty: start one here")
	flags.StringSliceVar(&c.Redis, "redis", nil, "address of Redis, or several of a Redis Cluster; empty: start one here")
	flags.StringSliceVar(&c.Cassandra, "cassandra", nil,
		"addresses of Cassandra nodes, for the post store; empty: keep it on this machine's disk")
	flags.Int16Var(&c.Replication, "replication", c.Replication, "replicas of each topic")
	flags.IntVar(&c.StoreReplication, "store-replication", 0, "replicas of the posts in Cassandra; 0: as of the topics")
	flags.IntVar(&c.MinInSync, "min-in-sync", c.MinInSync, "replicas that must have a record before it counts as written")
	kafkaAccessFlags(flags, &c.KafkaAccess, &c.KafkaSASL)
	accessFlags(flags, "redis", "Redis", config.RedisPasswordVariable, &c.RedisAccess)
	accessFlags(flags, "cassandra", "Cassandra", config.CassandraPasswordVariable, &c.CassandraAccess)
}

func listenFlags(flags *pflag.FlagSet, c *config.Config) {
	flags.StringVar(&c.DataDir, "data", "", "directory to keep the data in; empty: a temporary one")
	flags.StringVar(&c.Listen, "listen", c.Listen, "address of the API")
	flags.StringVar(&c.Admin, "admin", c.Admin, "address of the operators' listener: health, metrics, profiles, seeking")
	flags.StringVar(&c.KafkaListen, "kafka-listen", c.KafkaListen, "address of a Kafka broker started here")
	flags.StringVar(&c.RedisListen, "redis-listen", c.RedisListen, "address of a Redis server started here")
	apiFlags(flags, c)
}

func apiFlags(flags *pflag.FlagSet, c *config.Config) {
	keysFlag(flags, &c.Auth.KeysFile)
	flags.StringVar(&c.Auth.JWKS, "auth-jwks", "", "file or URL with the public keys of tokens (JWKS)")
	flags.StringVar(&c.Auth.Issuer, "auth-issuer", "", "issuer (iss) that tokens must name")
	flags.StringVar(&c.Auth.Audience, "auth-audience", "", "audience (aud) that tokens must name")
	flags.StringVar(&c.Accept, "accept", c.Accept, `how posts are accepted: "log" publishes a post, and the archive `+
		`stores it; "store" saves it in the post store first`)
	flags.Float64Var(&c.RateLimit, "rate-limit", 0,
		"cost units a second for each caller of the API (a read 1, a post 3); 0: no limit")
	flags.IntVar(&c.RateBurst, "rate-burst", 0, "cost units that a caller may save up; 0: those of ten seconds")
	flags.IntVar(&c.MaxInFlight, "max-in-flight", c.MaxInFlight,
		"requests that the API works on at once; more are told to come again")
	flags.Float64Var(&c.AuditRate, "audit-rate", 0,
		"accounts a second whose feeds an API process compares with their definition, round and round; 0: none")
	flags.IntVar(&c.MaxStreams, "max-streams", c.MaxStreams, "streams of feeds that the API keeps open")
}

func layoutFlags(flags *pflag.FlagSet, c *config.Config) {
	flags.StringVar(&c.Prefix, "prefix", c.Prefix, "begins the names of all topics and groups")
	flags.Int32Var(&c.Partitions, "partitions", c.Partitions, "of each topic: a power of two, fixed for good")
	flags.IntVar(&c.Zones, "zones", c.Zones, "of Redis, fixed for good")
	flags.IntVar(&c.FeedLength, "feed-length", c.FeedLength, "posts of a cached feed; fixed while Redis keeps data")
	flags.IntVar(&c.PageSize, "page-size", c.PageSize, "followers that a page of a follower tree holds")
	flags.Int64Var(&c.PullAbove, "pull-above", c.PullAbove,
		"followers above which an author's posts are read from its outbox instead of delivered; 0: never")
	flags.IntVar(&c.LogLimit, "log-limit", c.LogLimit,
		"bytes of a block's log in Redis from which on it is merged into feeds")
	flags.IntVar(&c.FlushEntries, "flush-entries", c.FlushEntries, "feed entries that may wait for a flush to Redis")
	flags.IntVar(&c.FlushBytes, "flush-bytes", c.FlushBytes, "bytes that may wait for a flush to Redis")
	flags.IntVar(&c.ColdAfter, "cold-after", c.ColdAfter, "days that a feed is kept in Redis without being read")
}

// serve runs a process until a signal ends it.
func serve(ctx context.Context, c config.Config, withDemo bool) error {
	if err := c.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	if withDemo && c.Auth.Enabled() {
		return usage("--demo has no credentials: leave --auth-keys and --auth-jwks out")
	}
	start := time.Now()
	log := slog.Default()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var network *demo.Network
	var pages http.Handler
	if withDemo {
		network = demo.New()
		pages = network
	}
	a, err := app.Open(c, log, pages)
	if err != nil {
		return settingsAreUsage(err)
	}
	var g errgroup.Group
	g.Go(func() error {
		defer cancel()
		return a.Run(ctx)
	})
	select {
	case <-ctx.Done():
		return g.Wait()
	case <-a.Ready():
	}
	announce(a, c, time.Since(start), withDemo)
	if withDemo {
		g.Go(func() error { return network.Run(ctx, a.APIURL(), log) })
	}
	return g.Wait()
}

func announce(a *app.App, c config.Config, took time.Duration, withDemo bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "freshet is ready after %s\n", took.Round(time.Millisecond))
	if url := a.APIURL(); url != "" {
		who := ""
		if !c.Auth.Enabled() {
			who = "   (no authentication: anyone who reaches it may do anything)"
		}
		fmt.Fprintf(&b, "  API        %s/v1%s\n", url, who)
		if withDemo {
			fmt.Fprintf(&b, "  a feed     %s/\n", url)
		}
	}
	fmt.Fprintf(&b, "  operators  %s/readyz   /metrics\n", a.AdminURL())
	fmt.Fprintf(&b, "  Kafka      %s\n", strings.Join(a.Kafka(), ","))
	if len(a.Redis()) > 0 {
		fmt.Fprintf(&b, "  Redis      %s\n", strings.Join(a.Redis(), ","))
	}
	if len(c.Cassandra) > 0 {
		fmt.Fprintf(&b, "  Cassandra  %s\n", strings.Join(c.Cassandra, ","))
	}
	if c.DataDir == "" {
		b.WriteString("  data       in a temporary directory that goes with this process; keep it with --data DIR\n")
	} else {
		fmt.Fprintf(&b, "  data       %s\n", c.DataDir)
	}
	b.WriteString("Ctrl-C ends it.\n")
	fmt.Print(b.String())
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Version and build",
		Args:  noArguments,
		Run: func(*cobra.Command, []string) {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version + " " + info.GoVersion
			}
			fmt.Println("freshet", version)
		},
	}
}
