package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet/internal/access"
)

const (
	clusterMasters  = 3
	clusterReplicas = 3
	clusterSlots    = 16384
	// clusterTimeout, in milliseconds, is how long a node is silent until the others replace it. A busy machine is slow.
	clusterTimeout = "5000"
	// clusterPorts of each node: for clients, and for the other nodes.
	clusterPorts = 2
)

// errForming is wrapped by what is said while the nodes of a cluster get to know each other.
var errForming = errors.New("the cluster is forming")

// redisCluster starts nodes that know nothing of each other and makes them a cluster. What they have agreed on is in
// their directories, so a later start in the same ones only waits.
func redisCluster(ctx context.Context, program string, o Options) (*Server, error) {
	s, err := prepare("redis", o, o.RedisNodes, clusterPorts)
	if err != nil {
		return nil, err
	}
	for i := range o.RedisNodes {
		name, dir := fmt.Sprintf("Redis node %d", i+1), filepath.Join(s.dir, fmt.Sprintf("node-%d", i+1))
		err := s.addRedis(name, program, dir, s.ports.numbers[clusterPorts*i], map[string]string{
			"cluster-enabled":      "yes",
			"cluster-config-file":  "nodes.conf",
			"cluster-port":         strconv.Itoa(s.ports.numbers[clusterPorts*i+1]),
			"cluster-announce-ip":  "127.0.0.1",
			"cluster-node-timeout": clusterTimeout,
			// A replica stays where it was put, replaces its master however much it has missed, and is filled at once.
			"cluster-allow-replica-migration": "no",
			"cluster-replica-validity-factor": "0",
			"repl-diskless-sync-delay":        "0",
		}, o.Settings)
		if err != nil {
			return nil, s.abandon(err)
		}
	}
	formed := filepath.Join(s.dir, "formed")
	if _, err := os.Stat(formed); err == nil {
		s.serves = s.clusterServes
		return s.open(ctx)
	}
	s.serves = func(ctx context.Context) error {
		for _, address := range s.Addrs() {
			if err := pingRedis(ctx, address, access.Access{}); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := s.open(ctx); err != nil {
		return nil, err
	}
	s.serves = s.clusterServes
	if err = s.formCluster(ctx); err == nil {
		err = s.awaitServing(ctx)
	}
	if err == nil {
		err = writeFile(formed, "The nodes are a cluster.\n")
	}
	if err != nil {
		return nil, errors.Join(err, s.Kill(), s.ports.release())
	}
	return s, nil
}

// formCluster makes a cluster of nodes, whatever they were before.
func (s *Server) formCluster(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return s.withNodes(func(nodes []*redis.Client) error {
		for i, node := range nodes {
			_ = node.FlushAll(ctx).Err() // a replica refuses, and is empty after the reset
			if err := node.Do(ctx, "CLUSTER", "RESET", "HARD").Err(); err != nil {
				return fmt.Errorf("reset node %d: %w", i+1, err)
			}
			if i < clusterMasters {
				first, end := i*clusterSlots/clusterMasters, (i+1)*clusterSlots/clusterMasters
				if err := node.ClusterAddSlotsRange(ctx, first, end-1).Err(); err != nil {
					return fmt.Errorf("give slots to node %d: %w", i+1, err)
				}
			}
			// Epochs that differ from the beginning: nodes with the same one have to agree first.
			if err := node.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
				return fmt.Errorf("number node %d: %w", i+1, err)
			}
		}
		for i := range nodes[1:] {
			port, bus := s.ports.numbers[clusterPorts*(i+1)], s.ports.numbers[clusterPorts*(i+1)+1]
			if err := nodes[0].Do(ctx, "CLUSTER", "MEET", "127.0.0.1", port, bus).Err(); err != nil {
				return fmt.Errorf("introduce node %d: %w", i+2, err)
			}
		}
		for i, replica := range nodes[clusterMasters:] {
			master, err := nodes[i].Do(ctx, "CLUSTER", "MYID").Text()
			if err != nil {
				return err
			}
			for replica.ClusterReplicate(ctx, master).Err() != nil { // until it has heard of it
				select {
				case <-ctx.Done():
					return fmt.Errorf("make node %d a replica of node %d: %w", clusterMasters+i+1, i+1, ctx.Err())
				case <-time.After(attemptEvery):
				}
			}
		}
		return nil
	})
}

// clusterServes wants every slot served, every node known to every other, and every replica to have what its master
// has.
func (s *Server) clusterServes(ctx context.Context) error {
	return s.withNodes(func(nodes []*redis.Client) error {
		replicas := 0
		for i, node := range nodes {
			cluster, err := node.ClusterInfo(ctx).Result()
			if err != nil {
				return err
			}
			known := fmt.Sprintf("cluster_known_nodes:%d\r\n", len(nodes))
			if !strings.Contains(cluster, "cluster_state:ok") || !strings.Contains(cluster, known) {
				return fmt.Errorf("%w: node %d says %s", errForming, i+1, strings.Join(strings.Fields(cluster), " "))
			}
			replication, err := node.Info(ctx, "replication").Result()
			if err != nil {
				return err
			}
			if strings.Contains(replication, "master_link_status:up") {
				replicas++
			}
		}
		if replicas != clusterReplicas {
			return fmt.Errorf("%w: %d of %d replicas have caught up", errForming, replicas, clusterReplicas)
		}
		return nil
	})
}

// withNodes calls f with a client for each node.
func (s *Server) withNodes(f func(nodes []*redis.Client) error) error {
	nodes := make([]*redis.Client, len(s.nodes))
	for i, address := range s.Addrs() {
		nodes[i] = redis.NewClient(&redis.Options{
			Addr: address, MaxRetries: -1, DisableIdentity: true, ContextTimeoutEnabled: true,
		})
	}
	err := f(nodes)
	for _, node := range nodes {
		err = errors.Join(err, node.Close())
	}
	return err
}
