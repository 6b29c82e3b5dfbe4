package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/IBM/sarama"

	"freshet/internal/config"
	"freshet/internal/embedded"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/posts/pebblestore"
	"freshet/internal/tables"
)

// servers are what the roles stand on. What has no address is started here; after this file nothing knows the
// difference.
type servers struct {
	brokers []string
	redis   []string
	policy  kafka.TopicPolicy
	login   config.Login
	clients func(clientID string) *sarama.Config // of Kafka, all of them
	conn    *feeds.Redis                         // nil if no role here needs it; so is store
	store   posts.Database
	tables  *tables.Tables
	dir     string // of the data
	key     []byte // signs cursors

	closers []func() error // in the order of opening
}

// open starts what is started here and opens what lies here; reach.go has the rest. On an error it has closed what it
// had opened.
func open(c config.Config, log *slog.Logger) (*servers, error) {
	s := &servers{brokers: c.Kafka, redis: c.Redis, policy: c.TopicPolicy()}
	if err := s.open(c, log); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *servers) open(c config.Config, log *slog.Logger) (err error) {
	if s.login, err = c.Login(); err != nil {
		return err
	}
	s.clients = clients(s.login.Kafka, c.Name)
	if s.dir, err = s.dataDir(c.DataDir); err != nil {
		return err
	}
	if len(c.Kafka) == 0 {
		broker, err := embedded.StartKafka(filepath.Join(s.dir, "kafka"), c.KafkaListen)
		if err != nil {
			return nameFlag(err, "--kafka-listen")
		}
		s.brokers = broker.Addrs()
		s.onClose(func() error { broker.Close(); return nil })
		s.policy = kafka.TopicPolicy{Replication: 1, MinInSync: 1, KeepForever: true}
	}
	if len(c.Redis) == 0 && c.NeedsRedis() {
		redis, err := embedded.StartRedis(c.RedisListen)
		if err != nil {
			return nameFlag(err, "--redis-listen")
		}
		s.redis = []string{redis.Addr()}
		s.onClose(func() error { redis.Close(); return nil })
	}
	if len(c.Cassandra) == 0 && c.NeedsStore() {
		s.store, err = pebblestore.Open(filepath.Join(s.dir, "posts"), pebblestore.Options{Log: log})
		if err != nil {
			return err
		}
		s.onClose(s.store.Close)
	}
	if s.tables, err = tables.Open(filepath.Join(s.dir, "tables")); err != nil {
		return err
	}
	s.onClose(s.tables.Close)
	file := c.CursorKey
	if file == "" {
		file = filepath.Join(s.dir, "cursor.key")
	}
	s.key, err = cursorKey(file)
	return err
}

// clients makes the configuration of a client: how it reaches the brokers, and by which name it is a member of a group.
func clients(security kafka.Security, name string) func(clientID string) *sarama.Config {
	return func(clientID string) *sarama.Config {
		cfg := security.Config(clientID)
		cfg.Consumer.Group.InstanceId = name
		return cfg
	}
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

// cursorKey reads the key that signs cursors, so that they stay good after a restart, or makes it. Processes that share
// the file may start at the same time: whose key comes first is that of all.
func cursorKey(file string) ([]byte, error) {
	key, err := os.ReadFile(file) //nolint:gosec // the operator's own
	if errors.Is(err, os.ErrNotExist) {
		if err = newCursorKey(file); err == nil || errors.Is(err, os.ErrExist) {
			key, err = os.ReadFile(file) //nolint:gosec // the operator's own
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the key of cursors: %w", err)
	}
	if len(key) < cursorKeySize {
		return nil, fmt.Errorf("the key of cursors %s has %d bytes: want at least %d random ones, or no file, to have one "+
			"made", file, len(key), cursorKeySize)
	}
	return key, nil
}

// newCursorKey makes the file, whole from the first moment.
func newCursorKey(file string) error {
	key := make([]byte, cursorKeySize)
	_, _ = rand.Read(key) // never fails
	part, err := os.CreateTemp(filepath.Dir(file), "cursor-*.part")
	if err != nil {
		return err
	}
	_, err = part.Write(key)
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Link(part.Name(), file)
	}
	return errors.Join(err, os.Remove(part.Name()))
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
