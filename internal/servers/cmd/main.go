// Command cmd starts real Kafka, Redis and Cassandra on loopback ports, prints their addresses and stays until Ctrl-C.
//
//	go run ./internal/servers/cmd -dir ./servers -brokers 3
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
	brokers := flag.Int("brokers", 1, "Kafka brokers: 1 or 3")
	format := flag.String("o", "text", "text or json")
	flag.Parse()
	if flag.NArg() > 0 || *format != "text" && *format != "json" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *dir, *brokers, *format)
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
	Cassandra []string `json:"cassandra"`
}

func run(ctx context.Context, dir string, brokers int, format string) (err error) {
	in := func(name string) servers.Options {
		o := servers.Options{Brokers: brokers}
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
	g.Go(func() (err error) { cassandra, err = servers.Cassandra(starting, in("cassandra")); return err })
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C
		}
		return err
	}
	found := addresses{kafka.Addrs(), redis.Addrs(), cassandra.Addrs()}
	if err := announce(found, min(brokers, 3), format, time.Since(start)); err != nil {
		return err
	}
	running, ctx := errgroup.WithContext(ctx)
	for _, s := range []*servers.Server{kafka, redis, cassandra} {
		running.Go(func() error { return s.Wait(ctx) })
	}
	return running.Wait()
}

func announce(a addresses, replication int, format string, took time.Duration) error {
	if format == "json" {
		return json.NewEncoder(os.Stdout).Encode(a)
	}
	kafka, redis, cassandra := strings.Join(a.Kafka, ","), strings.Join(a.Redis, ","), strings.Join(a.Cassandra, ",")
	fmt.Printf("ready after %s\n", took.Round(100*time.Millisecond))
	fmt.Printf("  Kafka      %s\n  Redis      %s\n  Cassandra  %s\n", kafka, redis, cassandra)
	fmt.Printf("  freshet run all --kafka %s --redis %s --cassandra %s --replication %d --min-in-sync %d\n",
		kafka, redis, cassandra, replication, replication/2+1)
	fmt.Println("Ctrl-C ends them.")
	return nil
}
