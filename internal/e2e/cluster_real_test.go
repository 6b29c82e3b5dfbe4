//go:build real

package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestRealCluster: Redis is a cluster. Zones move from node to node while they are written and read; a master is killed
// after its replica has missed its last writes, and the replica takes its place.
func TestRealCluster(t *testing.T) {
	t.Parallel()
	d := &deployment{run: newRun(t), dir: t.TempDir(), cluster: true}
	d.start(1)
	c := newCluster(d)
	d.under("zones move to other nodes", func() {
		for zone := range zones {
			from := c.master(zone)
			c.move(zone, from, (from+1)%masters)
			if at := c.master(zone); at == from {
				t.Errorf("zone %d is with node %d still", zone, at)
			}
			if zone%4 == 3 { // a zone that moves takes no writes, so let the writer get on
				d.accepts()
			}
		}
	})
	d.under("a node fails over without its last writes", func() {
		c.loseReplica(0)
		before := c.written(0)
		await(t, "the replica lacks writes", func() (bool, string) {
			n := c.written(0) - before
			return n > 16<<10, fmt.Sprintf("%d bytes", n)
		})
		d.accepts()
		d.unnoticed(func() {
			d.check(d.redis.Kill(0))
			c.do(masters, "CLUSTER", "FAILOVER", "TAKEOVER")
		})
		d.accepts()
		d.check(d.redis.Start(t.Context(), 0)) // as the replica of its replica
	})
	d.wantAll(everything...)
}

// masters are the first nodes of the cluster; the node as many places behind each is its replica.
const masters = 3

// cluster speaks with each node of a cluster.
type cluster struct {
	*deployment
	nodes []*redis.Client
}

func newCluster(d *deployment) *cluster {
	c := &cluster{deployment: d}
	for _, address := range d.redis.Addrs() {
		node := redis.NewClient(&redis.Options{Addr: address, DisableIdentity: true})
		c.nodes = append(c.nodes, node)
		d.t.Cleanup(func() { d.check(node.Close()) })
	}
	return c
}

// do asks a node.
func (c *cluster) do(node int, args ...any) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	answer, err := c.nodes[node].Do(ctx, args...).Result()
	if err != nil {
		c.t.Fatalf("%v at node %d: %v", args, node, err)
	}
	return fmt.Sprint(answer)
}

// slot is that of a zone.
func (c *cluster) slot(zone int) int {
	c.t.Helper()
	slot, err := strconv.Atoi(c.do(0, "CLUSTER", "KEYSLOT", zoneKey(zone, "token")))
	if err != nil {
		c.t.Fatal(err)
	}
	return slot
}

// master is the node that has the slot of a zone.
func (c *cluster) master(zone int) int {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	shards, err := c.nodes[0].ClusterShards(ctx).Result()
	if err != nil {
		c.t.Fatal(err)
	}
	slot := int64(c.slot(zone))
	has := func(r redis.SlotRange) bool { return r.Start <= slot && slot <= r.End }
	for _, shard := range shards {
		if !slices.ContainsFunc(shard.Slots, has) {
			continue
		}
		for _, n := range shard.Nodes {
			if at := slices.Index(c.redis.Addrs(), fmt.Sprintf("%s:%d", n.IP, n.Port)); n.Role == "master" && at >= 0 {
				return at
			}
		}
	}
	c.t.Fatalf("no node has slot %d: %v", slot, shards)
	return 0
}

// move brings the slot of a zone from one node to another, a key at a time.
func (c *cluster) move(zone, from, to int) {
	c.t.Helper()
	slot := c.slot(zone)
	source, target := c.do(from, "CLUSTER", "MYID"), c.do(to, "CLUSTER", "MYID")
	c.do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", source)
	c.do(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", target)
	host, port, err := net.SplitHostPort(c.redis.Addrs()[to])
	if err != nil {
		c.t.Fatal(err)
	}
	moved := 0
	for ; ; moved++ {
		keys, err := c.nodes[from].ClusterGetKeysInSlot(context.Background(), slot, 1).Result()
		if err != nil {
			c.t.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		c.do(from, "MIGRATE", host, port, keys[0], 0, 5000)
	}
	if moved == 0 {
		c.t.Errorf("zone %d had nothing to move", zone)
	}
	for _, node := range []int{to, from} {
		c.do(node, "CLUSTER", "SETSLOT", slot, "NODE", target)
	}
	await(c.t, "the first node has heard of it", func() (bool, string) {
		at := c.master(zone)
		return at == to, fmt.Sprintf("node %d has zone %d", at, zone)
	})
}

// loseReplica throws the replica of a master out, and lets it in no more: what is written from then on it misses.
func (c *cluster) loseReplica(master int) {
	c.t.Helper()
	c.do(master, "ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
	c.do(master, "CLIENT", "KILL", "TYPE", "replica")
	await(c.t, "the replica is gone", func() (bool, string) {
		said := c.do(master, "INFO", "replication")
		return strings.Contains(said, "connected_slaves:0"), said
	})
}

// written is how many bytes of writes a master has had.
func (c *cluster) written(master int) (n int64) {
	c.t.Helper()
	for line := range strings.Lines(c.do(master, "INFO", "replication")) {
		if _, err := fmt.Sscanf(line, "master_repl_offset:%d", &n); err == nil {
			return n
		}
	}
	c.t.Fatal("the node does not say how much it has written")
	return 0
}
