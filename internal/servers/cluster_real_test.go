//go:build real

package servers

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// gone closes a server and looks for what it has left: listeners and files.
func gone(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for i, n := range s.nodes {
		if _, err := net.Dial("tcp", n.address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("node %d after the end: %v", i+1, err)
		}
		if err := syscall.Kill(n.process.now.pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("node %d, process %d, after the end: %v", i+1, n.process.now.pid, err)
		}
	}
	if _, err := os.Stat(s.Dir()); s.temporary && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory after the end: %v", err)
	}
}

// A cluster answers for every slot, goes on without a master, which comes back as a replica, and is the same cluster
// when it is started again.
func TestRedisCluster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "redis")
	s := started(t, Redis, Options{RedisNodes: 6, Dir: dir})
	client := func(s *Server) *redis.ClusterClient {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: s.Addrs(), DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
	}
	c := client(s)
	t.Cleanup(func() { _ = c.Close() })
	keys := []string{"a", "b", "c", "d", "e", "f"} // of all three masters
	for _, key := range keys {
		if err := c.Set(t.Context(), key, key, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	masters := func() (found []string) {
		_ = s.withNodes(func(nodes []*redis.Client) error {
			for _, node := range nodes {
				if strings.Contains(node.Info(t.Context(), "replication").Val(), "role:master") {
					found = append(found, node.Options().Addr)
				}
			}
			return nil
		})
		return found
	}
	if got := strings.Join(masters(), " "); got != strings.Join(s.Addrs()[:clusterMasters], " ") {
		t.Errorf("the masters are %s, of %v", got, s.Addrs())
	}
	// Replicas have what their masters acknowledged, within a moment.
	if err := c.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		return node.Do(ctx, "WAIT", 1, 5000).Err()
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(0); err != nil {
		t.Fatal(err)
	}
	await(t, "the replica of node 1 is a master", func() bool {
		return slices.Contains(masters(), s.Addrs()[clusterMasters])
	})
	for _, key := range keys {
		await(t, "key "+key+" is read", func() bool {
			// The client looks once a minute, and does not take a dead node for a reason to; and whichever node it asks may
			// not have heard of the new master yet.
			c.ReloadState(t.Context())
			return c.Get(t.Context(), key).Val() == key
		})
	}
	if err := s.Start(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := started(t, Redis, Options{RedisNodes: 6, Dir: dir})
	c = client(again)
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Set(t.Context(), "a", "again", 0).Err(); err != nil {
		t.Error(err)
	}
	gone(t, again)
}

func TestCassandraThreeNodes(t *testing.T) {
	begin := time.Now()
	step := func(what string) { t.Logf("%s after %s", what, time.Since(begin).Round(100*time.Millisecond)) }
	s, err := Cassandra(t.Context(), Options{CassandraNodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer gone(t, s)
	step("three nodes serve")
	config := gocql.NewCluster(s.Addrs()...)
	_, port, err := net.SplitHostPort(s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if config.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	config.Timeout, config.ConnectTimeout = 30*time.Second, 30*time.Second
	c, err := config.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, statement := range []string{
		"CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
		"CREATE TABLE k.t (a int PRIMARY KEY, b text)",
	} {
		if err := c.Query(statement).Exec(); err != nil {
			t.Fatal(err)
		}
	}
	step("a table")
	write := func(key int, consistency gocql.Consistency) error {
		return c.Query("INSERT INTO k.t (a, b) VALUES (?, 'kept')", key).Consistency(consistency).Exec()
	}
	if err := write(1, gocql.All); err != nil {
		t.Errorf("with all three: %v", err)
	}
	if err := s.Kill(2); err != nil {
		t.Fatal(err)
	}
	await(t, "two of three are a quorum", func() bool { return write(2, gocql.Quorum) == nil })
	var got string
	if err := c.Query("SELECT b FROM k.t WHERE a = 1").Consistency(gocql.Quorum).Scan(&got); err != nil || got != "kept" {
		t.Errorf("two of three: got %q, %v", got, err)
	}
	step("two nodes serve")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	step("the third is back")
	await(t, "all three are there again", func() bool { return write(3, gocql.All) == nil })
}
