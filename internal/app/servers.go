package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"freshet"
	"freshet/internal/config"
	"freshet/internal/embedded"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/posts/cassandrastore"
	"freshet/internal/posts/pebblestore"
	"freshet/internal/tables"
)

// servers are what the roles stand on. What has no address is started here; after this file nothing knows the
// difference.
type servers struct {
	brokers []string
	redis   []string
	conn    *feeds.Redis // nil if no role here needs it; so is store
	store   posts.Store
	tables  *tables.Tables
	key     []byte // signs cursors

	closers []func() error // in the order of opening
}

// open starts and connects. On an error it has closed what it had opened.
func open(ctx context.Context, c config.Config, log *slog.Logger) (*servers, error) {
	s := &servers{brokers: c.Kafka, redis: c.Redis}
	if err := s.open(ctx, c, log); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *servers) open(ctx context.Context, c config.Config, log *slog.Logger) error {
	dir, err := s.dataDir(c.DataDir)
	if err != nil {
		return err
	}
	policy := kafka.TopicPolicy{Replication: c.Replication, MinInSync: c.MinInSync}

	if len(c.Kafka) == 0 {
		broker, err := embedded.StartKafka(filepath.Join(dir, "kafka"), c.KafkaListen)
		if err != nil {
			return nameFlag(err, "--kafka-listen")
		}
		s.brokers = broker.Addrs()
		s.onClose(func() error { broker.Close(); return nil })
		policy = kafka.TopicPolicy{Replication: 1, MinInSync: 1, KeepForever: true}
	}
	if len(c.Redis) == 0 && c.NeedsRedis() {
		redis, err := embedded.StartRedis(c.RedisListen)
		if err != nil {
			return nameFlag(err, "--redis-listen")
		}
		s.redis = []string{redis.Addr()}
		s.onClose(func() error { redis.Close(); return nil })
	}
	if c.NeedsStore() {
		if s.store, err = openStore(ctx, c, dir, log); err != nil {
			return err
		}
		s.onClose(s.store.Close)
	}
	if err := kafka.EnsureTopics(ctx, s.brokers, c.Names().TopicSpecs(c.Partitions, postsRetention), policy); err != nil {
		return err
	}
	if s.tables, err = tables.Open(filepath.Join(dir, "tables")); err != nil {
		return err
	}
	s.onClose(s.tables.Close)
	if c.NeedsRedis() {
		if s.conn, err = feeds.Connect(ctx, c.Layout(), s.redis); err != nil {
			return err
		}
		s.onClose(s.conn.Close)
	}
	s.key, err = cursorKey(filepath.Join(dir, "cursor.key"))
	return err
}

func openStore(ctx context.Context, c config.Config, dir string, log *slog.Logger) (posts.Store, error) {
	if len(c.Cassandra) == 0 {
		return pebblestore.Open(filepath.Join(dir, "posts"), pebblestore.Options{Log: log})
	}
	return cassandrastore.Open(ctx, cassandrastore.Options{
		Addrs: c.Cassandra, Keyspace: c.Keyspace(), Replication: cmp.Or(c.StoreReplication, int(c.Replication)),
		Log: log,
	})
}

// dataDir locks the directory, or makes a temporary one that goes at the end.
func (s *servers) dataDir(dir string) (string, error) {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "freshet-")
		if err != nil {
			return "", fmt.Errorf("make a temporary data directory: %w", err)
		}
		s.onClose(func() error { return os.RemoveAll(temporary) })
		return temporary, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make the directory of --data: %w", err)
	}
	unlock, err := embedded.LockDir(dir)
	if err != nil {
		return "", fmt.Errorf("--data: %w", err)
	}
	s.onClose(unlock)
	return dir, nil
}

// cursorKey reads the key that signs cursors, so that they stay good after a restart, or makes it.
func cursorKey(file string) ([]byte, error) {
	key, err := os.ReadFile(file) //nolint:gosec // the operator's own directory
	if err == nil && len(key) >= cursorKeySize {
		return key, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the key of cursors: %w", err)
	}
	key = make([]byte, cursorKeySize)
	_, _ = rand.Read(key) // never fails
	if err := os.WriteFile(file, key, 0o600); err != nil {
		return nil, fmt.Errorf("keep the key of cursors: %w", err)
	}
	return key, nil
}

const cursorKeySize = 32

func nameFlag(err error, flag string) error {
	if errors.Is(err, embedded.ErrPortInUse) {
		return fmt.Errorf("%w; choose another with %s", err, flag)
	}
	return err
}

func (s *servers) onClose(f func() error) { s.closers = append(s.closers, f) }

// close closes in the opposite order.
func (s *servers) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// postsRetention is how long the log of posts is kept on servers that were not started here. The post store keeps posts
// for good.
const postsRetention = freshet.WeekRetention
