package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"freshet"
	"freshet/internal/audit"
	"freshet/internal/config"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/posts/cassandrastore"
)

// storeFlags are the flags of tools that look into Kafka, Redis and the post store of a deployment that runs.
type storeFlags struct{ config config.Config }

func (f *storeFlags) register(flags *pflag.FlagSet) {
	f.config = config.Default()
	c := &f.config
	flags.StringSliceVar(&c.Kafka, "kafka", []string{config.DefaultKafkaListen}, "addresses of Kafka brokers")
	flags.StringSliceVar(&c.Redis, "redis", []string{config.DefaultRedisListen},
		"address of Redis, or several of a Redis Cluster")
	flags.StringSliceVar(&c.Cassandra, "cassandra", nil,
		"addresses of Cassandra nodes; empty: the post store is embedded in another process, and the log of posts says "+
			"what is in it")
	flags.Int16Var(&c.Replication, "replication", c.Replication, "replicas of each topic")
	flags.IntVar(&c.StoreReplication, "store-replication", 0, "replicas of the posts in Cassandra; 0: as of the topics")
	kafkaAccessFlags(flags, &c.KafkaAccess, &c.KafkaSASL)
	accessFlags(flags, "redis", "Redis", config.RedisPasswordVariable, &c.RedisAccess)
	accessFlags(flags, "cassandra", "Cassandra", config.CassandraPasswordVariable, &c.CassandraAccess)
	flags.StringVar(&c.Prefix, "prefix", freshet.DefaultPrefix, "begins the names of all topics and groups")
	flags.IntVar(&c.Zones, "zones", c.Zones, "of Redis, as the processes have it")
	flags.IntVar(&c.FeedLength, "feed-length", c.FeedLength, "posts of a cached feed, as the processes have it")
}

// stores are servers that a tool talks to.
type stores struct {
	audit.Config
	close func() error
}

// open connects to Kafka, Redis and, if it is named, Cassandra, and makes a directory for copies that goes with close.
func (f *storeFlags) open(ctx context.Context, progress func(stage string, done, total int)) (s stores, err error) {
	c := f.config
	if err := c.Validate(); err != nil {
		return s, &exitError{exitUsage, err}
	}
	login, err := c.Login()
	if err != nil {
		return s, settingsAreUsage(err)
	}
	var closers []func() error
	s.close = func() error {
		var errs []error
		for i := len(closers) - 1; i >= 0; i-- {
			errs = append(errs, closers[i]())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	clients := login.Kafka.Config
	if _, err := kafka.Reach(ctx, c.Kafka, kafka.ClientOptions(clients)...); err != nil {
		return s, fmt.Errorf("--kafka: %w", err)
	}
	conn, err := feeds.Connect(ctx, c.Layout(), c.Redis, feeds.WithAccess(login.Redis))
	if err != nil {
		return s, fmt.Errorf("--redis: %w", err)
	}
	closers = append(closers, conn.Close)
	var store posts.Store
	if len(c.Cassandra) > 0 {
		opened, err := openStore(ctx, c, login)
		if err != nil {
			return s, err
		}
		store = opened
		closers = append(closers, store.Close)
	}
	dir, err := os.MkdirTemp("", "freshet-audit-")
	if err != nil {
		return s, fmt.Errorf("make a directory for copies of the tables: %w", err)
	}
	closers = append(closers, func() error { return os.RemoveAll(dir) })
	s.Config = audit.Config{
		Brokers: c.Kafka, Names: c.Names(), Sarama: clients, Conn: conn, Layout: c.Layout(), Store: store, Dir: dir,
		Logger: slog.Default(), Progress: progress,
	}
	return s, nil
}

// with opens the servers for do, whose progress is shown by the Progress of its Config.
func (f *storeFlags) with(ctx context.Context, do func(s stores) error) (err error) {
	show := newMeter(os.Stderr, slog.Default())
	defer func() { show.end() }()
	s, err := f.open(ctx, show.stage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return do(s)
}

// sources opens copies of tables and logs for do, and finds accounts by their ids.
func (s stores) sources(
	ctx context.Context, ids []freshet.AccountID, do func(sources *audit.Sources, accounts []freshet.Number) error,
) (err error) {
	sources, err := audit.Open(ctx, s.Config)
	if err != nil {
		return layoutIsUsage(err)
	}
	defer func() { err = errors.Join(err, sources.Close()) }()
	accounts, err := numbers(sources, ids)
	if err != nil {
		return err
	}
	return layoutIsUsage(do(sources, accounts))
}

// openStore opens the post store that a deployment has in Cassandra. It makes none: a prefix that is wrong is told.
func openStore(ctx context.Context, c config.Config, login config.Login) (*cassandrastore.Store, error) {
	o := cassandrastore.Options{
		Addrs: c.Cassandra, Keyspace: c.Keyspace(), Replication: c.PostReplicas(), Access: login.Cassandra,
		Log: slog.Default(),
	}
	isNew, err := cassandrastore.Check(ctx, o)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--cassandra: %w", err)
	case isNew:
		return nil, usage("--cassandra: keyspace %s has no post store: is --prefix that of the processes?", o.Keyspace)
	}
	store, err := cassandrastore.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("--cassandra: %w", err)
	}
	return store, nil
}

// layoutIsUsage gives the error of a wrong number of zones, or of a post store that was not named, the exit code of
// wrong usage.
func layoutIsUsage(err error) error {
	if errors.Is(err, audit.ErrLayout) || errors.Is(err, audit.ErrNoStore) || errors.Is(err, audit.ErrOtherAudit) ||
		errors.Is(err, audit.ErrNoAccount) {
		return &exitError{exitUsage, err}
	}
	return err
}

// accountIDs reads ids of accounts.
func accountIDs(texts []string) ([]freshet.AccountID, error) {
	ids := make([]freshet.AccountID, len(texts))
	for i, text := range texts {
		var err error
		if ids[i], err = freshet.ParseAccountID(text); err != nil {
			return nil, &exitError{exitUsage, err}
		}
	}
	return ids, nil
}

// numbers finds accounts by their ids.
func numbers(s *audit.Sources, ids []freshet.AccountID) ([]freshet.Number, error) {
	all := make([]freshet.Number, 0, len(ids))
	for _, id := range ids {
		account, found, err := s.Account(id)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, usage("there is no account %s", id)
		}
		all = append(all, account.Number)
	}
	return all, nil
}
