// Command cmd starts real Kafka, Redis and Cassandra on loopback ports, prints their addresses and stays until Ctrl-C.
//
//	go run ./internal/servers/cmd -dir ./servers -brokers 3
//	go run ./internal/servers/cmd -redis-nodes 6 -cassandra-nodes 3 -brokers 3
//	go run ./internal/servers/cmd -cassandra-nodes 0
//	go run ./internal/servers/cmd -o json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/servers"
)

func main() {
	dir := flag.String("dir", "", "keep data, logs and ports in `DIR`; empty: temporary directories")
	var o servers.Options
	flag.IntVar(&o.Brokers, "brokers", 1, "Kafka brokers: 1 or 3")
	flag.IntVar(&o.RedisNodes, "redis-nodes", 1, "Redis nodes: 1, or 6, which are a cluster of 3 masters and 3 replicas")
	flag.IntVar(&o.CassandraNodes, "cassandra-nodes", 1, "Cassandra nodes: 0, 1 or 3")
	format := flag.String("o", "text", "text or json")
	flag.Parse()
	if flag.NArg() > 0 || *format != "text" && *format != "json" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *dir, o, *format)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

// addresses is what is printed.
type addresses struct {
	Kafka     []string `json:"kafka"`
	Redis     []string `json:"redis"`
	Cassandra []string `json:"cassandra,omitempty"`
}

func run(ctx context.Context, dir string, options servers.Options, format string) (err error) {
	in := func(name string) servers.Options {
		o := options
		if dir != "" {
			o.Dir = filepath.Join(dir, name)
		}
		return o
	}
	start := time.Now()
	var kafka, redis, cassandra *servers.Server
	defer func() {
		for _, s := range []*servers.Server{cassandra, redis, kafka} {
			if s != nil {
				err = errors.Join(err, s.Close())
			}
		}
	}()
	g, starting := errgroup.WithContext(ctx)
	g.Go(func() (err error) { kafka, err = servers.Kafka(starting, in("kafka")); return err })
	g.Go(func() (err error) { redis, err = servers.Redis(starting, in("redis")); return err })
	withCassandra := options.CassandraNodes != 0
	if withCassandra {
		g.Go(func() (err error) { cassandra, err = servers.Cassandra(starting, in("cassandra")); return err })
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C
		}
		return err
	}
	found := addresses{Kafka: kafka.Addrs(), Redis: redis.Addrs()}
	started := []*servers.Server{kafka, redis}
	if withCassandra {
		found.Cassandra = cassandra.Addrs()
		started = append(started, cassandra)
	}
	if err := announce(found, options, format, time.Since(start)); err != nil {
		return err
	}
	running, ctx := errgroup.WithContext(ctx)
	for _, s := range started {
		running.Go(func() error { return s.Wait(ctx) })
	}
	return running.Wait()
}

func announce(a addresses, o servers.Options, format string, took time.Duration) error {
	if format == "json" {
		return json.NewEncoder(os.Stdout).Encode(a)
	}
	kafka, redis := strings.Join(a.Kafka, ","), strings.Join(a.Redis, ",")
	fmt.Printf("ready after %s\n", took.Round(100*time.Millisecond))
	fmt.Printf("  Kafka      %s\n  Redis      %s\n", kafka, redis)
	flags := fmt.Sprintf("--kafka %s --redis %s", kafka, redis)
	if cassandra := strings.Join(a.Cassandra, ","); cassandra != "" {
		fmt.Printf("  Cassandra  %s\n", cassandra)
		flags += " --cassandra " + cassandra
	}
	replication := fmt.Sprintf("--replication %d --min-in-sync %d", o.Brokers, o.Brokers/2+1)
	if nodes := o.CassandraNodes; nodes != 0 && nodes != o.Brokers {
		replication += fmt.Sprintf(" --store-replication %d", nodes)
	}
	fmt.Printf("  freshet run all %s %s\n", flags, replication)
	fmt.Printf("  freshet bench fanout --kafka %s --redis %s\n", kafka, redis)
	fmt.Println("Ctrl-C ends them.")
	return nil
}
