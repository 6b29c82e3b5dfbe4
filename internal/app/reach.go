package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"freshet/internal/check"
	"freshet/internal/config"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
	"freshet/internal/posts/cassandrastore"
)

const (
	// attemptTimeout bounds one try to reach a server and to make what is missing there: topics, tables.
	attemptTimeout = time.Minute
	// firstPause and lastPause are between two tries.
	firstPause, lastPause = 250 * time.Millisecond, 5 * time.Second
	// forever is the wait for a server that the process can do without.
	forever = 100 * 365 * 24 * time.Hour
)

// ErrUnreachable is wrapped by the error of a process that has given up to reach a server.
var ErrUnreachable = errors.New("cannot be reached")

// errOtherCluster is about a directory whose tables tell offsets of other topics.
var errOtherCluster = errors.New("the data belongs to another Kafka cluster")

// reachServers returns when the process has what its roles cannot do without. Every role needs Kafka; fanout needs
// Redis and the post store as well, archive the store, and so does the API where posts are saved there first.
// Otherwise the API takes posts with Kafka alone, so that where it is without them it begins, and a part of its own
// goes on trying.
func (a *App) reachServers(ctx context.Context) error {
	if err := a.reach(ctx, "kafka", a.cfg.Wait, a.reachKafka); err != nil {
		return err
	}
	if a.cfg.NeedsRedis() {
		if err := a.reachRedis(ctx); err != nil {
			return err
		}
	}
	if a.cfg.NeedsStore() && len(a.cfg.Cassandra) > 0 {
		return a.reachCassandra(ctx)
	}
	return nil
}

// reach tries until it succeeds, the wait is over, or the error is one that comes again for sure. While it tries the
// part is not ready, unless nothing waits for it.
func (a *App) reach(ctx context.Context, server string, wait time.Duration, try func(context.Context) error) error {
	begun := time.Now()
	if wait != forever {
		a.health.Starting(server)
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := try(attempt)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			if wait != forever {
				a.health.Running(server)
			}
			a.log.Debug("reached", "server", server, "after", time.Since(begun))
			return nil
		case refused(err):
			return fmt.Errorf("%s refuses this process, or is not as it has to be: %w", server, err)
		case time.Since(begun)+pause > wait:
			return fmt.Errorf("%s %w, after %s of --wait %s; freshet check tells more: %w", server, ErrUnreachable,
				time.Since(begun).Round(time.Second), wait, err)
		}
		if wait != forever {
			a.health.Failed(server, err)
		}
		a.log.Warn("a server cannot be reached, trying again", "server", server, "pause", pause, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func refused(err error) bool { return errors.Is(err, errOtherCluster) || check.Refused(err) }

func (a *App) reachKafka(ctx context.Context) error {
	opts := kafka.ClientOptions(a.servers.clients)
	found, err := kafka.Reach(ctx, a.servers.brokers, opts...)
	if err != nil {
		return err
	}
	if err := a.sameCluster(found.Cluster); err != nil {
		return err
	}
	return kafka.EnsureTopics(ctx, a.servers.brokers, a.cfg.TopicSpecs(), a.servers.policy, opts...)
}

// sameCluster remembers in the data directory which cluster its tables were made from.
func (a *App) sameCluster(id string) error {
	file := filepath.Join(a.servers.dir, "kafka.cluster")
	text, err := os.ReadFile(file) //nolint:gosec // the operator's own directory
	switch known := strings.TrimSpace(string(text)); {
	case errors.Is(err, os.ErrNotExist), err == nil && known == "": // a crash may leave an empty one
		if err := os.WriteFile(file, []byte(id+"\n"), 0o600); err != nil {
			return fmt.Errorf("note the Kafka cluster in the data directory: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("read which Kafka cluster the data belongs to: %w", err)
	case known != id:
		return fmt.Errorf("%w: --data %s was made with cluster %s, and %s is of cluster %s: name that cluster's brokers, "+
			"or another directory", errOtherCluster, a.servers.dir, known, strings.Join(a.servers.brokers, ","), id)
	}
	return nil
}

func (a *App) reachRedis(ctx context.Context) (err error) {
	a.servers.conn, err = feeds.Prepare(a.cfg.Layout(), a.servers.redis, feeds.WithAccess(a.servers.login.Redis))
	if err != nil {
		return err
	}
	a.servers.onClose(a.servers.conn.Close)
	return a.reachOrBegin(ctx, "redis", a.cfg.Has(config.Fanout), a.servers.conn.Verify)
}

func (a *App) reachCassandra(ctx context.Context) error {
	late := &posts.Late{}
	a.servers.store = late
	a.servers.onClose(late.Close)
	needed := a.cfg.Has(config.Fanout) || a.cfg.Has(config.Archive) ||
		a.cfg.Has(config.API) && a.cfg.Accept == config.AcceptStore
	return a.reachOrBegin(ctx, "cassandra", needed, func(ctx context.Context) error {
		store, err := cassandrastore.Open(ctx, cassandrastore.Options{
			Addrs: a.cfg.Cassandra, Keyspace: a.cfg.Keyspace(), Replication: a.cfg.PostReplicas(),
			Access: a.servers.login.Cassandra, Log: a.log,
		})
		if err == nil {
			late.Opened(store)
		}
		return err
	})
}

// reachOrBegin reaches what is needed, and has a part try for the rest.
func (a *App) reachOrBegin(ctx context.Context, server string, needed bool, try func(context.Context) error) error {
	if needed {
		return a.reach(ctx, server, a.cfg.Wait, try)
	}
	a.beside("reaching "+server, func(ctx context.Context) error {
		err := a.reach(ctx, server, forever, try)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the process ends
		}
		return err
	})
	return nil
}
