//go:build real

package feeds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/internal/servers"
)

// cluster is a writer on a Redis Cluster, and whom it writes for: a log of posts, each delivered to every reader.
type cluster struct {
	*fixture
	server *servers.Server
	nodes  []*redis.Client
	posts  int64
}

// readers lie in blocks, and so in zones, of their own.
var readers = func() (all []freshet.Number) {
	for i := range freshet.Number(24) {
		all = append(all, i*32+i%5)
	}
	return all
}()

func newCluster(t *testing.T) *cluster {
	t.Helper()
	server, err := servers.Redis(t.Context(), servers.Options{
		// Nobody takes a busy node for one that has gone.
		RedisNodes: 6, Settings: map[string]string{"cluster-node-timeout": "60000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{fixture: &fixture{T: t, layout: Layout{Zones: 16, FeedLength: 100_000}}, server: server}
	for _, address := range server.Addrs() {
		node := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, DisableIdentity: true})
		c.nodes = append(c.nodes, node)
		t.Cleanup(func() { _ = node.Close() })
	}
	c.group = &group{session: 1, finished: map[Input]int64{testInput: 0}}
	if c.conn, err = Connect(t.Context(), c.layout, server.Addrs()); err != nil {
		t.Fatal(err)
	}
	inputs := c.group.inputs()
	inputs.At = func(context.Context) (Positions, error) { // the post store has nothing
		released, _, _ := c.group.get()
		return Positions{Committed: map[Input]int64{testInput: released}, Stored: map[int32]int64{0: 0}}, nil
	}
	inputs.Ends = func(context.Context) (map[Input]int64, error) { return map[Input]int64{testInput: c.posts}, nil }
	c.writer = NewWriter(WriterConfig{
		Conn: c.conn, Layout: c.layout, Inputs: inputs, NoteEvery: 20 * time.Millisecond, LogLimit: 16 << 20,
		Logger: slog.New(slog.DiscardHandler), // a slot that moves refuses writes, again and again
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.writer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, c.conn.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.writer.Recover(ctx, Positions{Committed: map[Input]int64{testInput: -1}}); err != nil {
		t.Fatal(err)
	}
	return c
}

// process delivers posts up to that offset, some at a time, and goes back when it is told to.
func (c *cluster) process(to int64) {
	c.Helper()
	const atOnce = 20
	deadline := time.After(2 * time.Minute)
	for {
		c.group.mu.Lock()
		session, at := c.group.session, c.group.finished[testInput]
		c.group.mu.Unlock()
		if released, _, _ := c.group.get(); at >= to && released >= to {
			return
		}
		var flushed []<-chan error
		for i := at; i < min(at+atOnce, to); i++ {
			flushed = append(flushed, c.add(c.Context(), freshet.PostID(i+1), readers...))
		}
		for _, done := range flushed {
			select {
			case err := <-done:
				if err != nil {
					c.Fatal(err)
				}
			case <-deadline:
				c.Fatalf("at %d of %d: %v", at, to, c.writer.Err())
			}
		}
		if len(flushed) == 0 { // released by the next note
			select {
			case <-time.After(time.Millisecond):
			case <-deadline:
				c.Fatalf("at %d of %d: %v", at, to, c.writer.Err())
			}
		}
		c.group.mu.Lock()
		if c.group.session == session {
			c.group.finished[testInput] = at + int64(len(flushed))
		}
		c.group.mu.Unlock()
	}
}

// holds fails if a reader's log, the body or the outbox of a post lacks what was written.
func (c *cluster) holds(posts int64) {
	c.Helper()
	for zone := range Zone(c.layout.Zones) {
		c.await(fmt.Sprintf("zone %d is well", zone), func() bool {
			read := &ReadZone{Zone: zone}
			return c.conn.Do(c.Context(), read) == nil && read.State.Well()
		})
	}
	for _, reader := range readers {
		ids := c.logged(reader)
		slices.Sort(ids)
		if ids = slices.Compact(ids); int64(len(ids)) != posts {
			c.Errorf("the log of %d holds %d posts, want %d", reader, len(ids), posts)
		}
	}
	outbox := &ReadOutbox{Author: 7}
	if err := c.conn.Do(c.Context(), outbox); err != nil {
		c.Fatal(err)
	}
	ids, _, err := decodeOutbox(outbox.Value, c.layout.FeedLength)
	if err != nil || int64(len(ids)) != posts {
		c.Errorf("the outbox holds %d posts, want %d; %v", len(ids), posts, err)
	}
	for id := range freshet.PostID(posts) {
		body := &ReadBody{Post: id + 1}
		if err := c.conn.Do(c.Context(), body); err != nil || string(body.Body) != "body" {
			c.Fatalf("post %d: body %q, %v", id+1, body.Body, err)
		}
	}
}

func (c *cluster) do(node int, args ...any) string {
	c.Helper()
	answer, err := c.nodes[node].Do(c.Context(), args...).Result()
	if err != nil {
		c.Fatalf("%v at node %d: %v", args, node, err)
	}
	return fmt.Sprint(answer)
}

// slot is that of a zone.
func (c *cluster) slot(zone Zone) int {
	n, err := strconv.Atoi(c.do(0, "CLUSTER", "KEYSLOT", zone.tokenKey()))
	if err != nil {
		c.Fatal(err)
	}
	return n
}

// master is the node, of those that were masters in the beginning, that has a slot.
func (c *cluster) master(slot int) int {
	for i := range 2 {
		if slot < (i+1)*16384/3 {
			return i
		}
	}
	return 2
}

// move brings the slot of a zone from one node to another, a key at a time.
func (c *cluster) move(zone Zone, from, to int) {
	c.Helper()
	slot := c.slot(zone)
	source, target := c.do(from, "CLUSTER", "MYID"), c.do(to, "CLUSTER", "MYID")
	c.do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", source)
	c.do(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", target)
	host, port, _ := strings.Cut(c.server.Addrs()[to], ":")
	for {
		keys := c.nodes[from].ClusterGetKeysInSlot(c.Context(), slot, 1).Val()
		if len(keys) == 0 {
			break
		}
		c.do(from, "MIGRATE", host, port, keys[0], 0, 5000)
	}
	for _, node := range []int{to, from} {
		c.do(node, "CLUSTER", "SETSLOT", slot, "NODE", target)
	}
}

// Every zone goes to another node, and to the third, while posts are written and read. Nothing is lost, so nobody is
// to think so.
func TestClusterMovesSlotsWhileItIsWrittenAndRead(t *testing.T) {
	c := newCluster(t)
	c.posts = 3000
	stop := make(chan struct{})
	moved, reads := make(chan int, 1), make(chan int, 1)
	go func() {
		moves := 0
		defer func() { moved <- moves }()
		for round := range 2 {
			for zone := range Zone(c.layout.Zones) {
				home := c.master(c.slot(zone))
				before, _, _ := c.group.get()
				c.move(zone, (home+round)%3, (home+round+1)%3)
				moves++
				// A zone that moves takes no writes, so the writer has to get on in between.
				c.await("the writer gets on", func() bool {
					released, _, _ := c.group.get()
					return released > before || released == c.posts
				})
			}
		}
	}()
	go func() {
		n := 0
		defer func() { reads <- n }()
		for {
			for _, reader := range readers {
				select {
				case <-stop:
					return
				default:
				}
				released, _, _ := c.group.get()
				read := &ReadBlock{Block: reader.Block(), Slot: int(reader.Slot())}
				if c.conn.Do(c.Context(), read) != nil || !read.State.Well() {
					continue // told that something may be missing
				}
				n++
				ids := map[freshet.PostID]bool{}
				if err := decodeLog(read.Log, func(_ byte, id freshet.PostID) { ids[id] = true }); err != nil {
					t.Error(err)
				}
				if int64(len(ids)) < released {
					t.Errorf("reader %d finds %d posts of %d that are released", reader, len(ids), released)
				}
			}
		}
	}()
	c.process(c.posts)
	moves := <-moved
	close(stop)
	t.Logf("%d moves, %d reads", moves, <-reads)
	if moves != 2*c.layout.Zones {
		t.Errorf("%d moves, want every zone's twice", moves)
	}
	if _, _, backs := c.group.get(); backs != 0 {
		t.Errorf("went back %d times although nothing was lost", backs)
	}
	c.holds(c.posts)
}

// A master goes after its replica has missed its last writes. What was acknowledged is gone then, and comes again.
func TestClusterFailsOverWithoutItsLastWrites(t *testing.T) {
	c := newCluster(t)
	c.posts = 1500
	c.process(500)
	lost := 0
	for zone := range Zone(c.layout.Zones) {
		if c.master(c.slot(zone)) == 0 {
			lost++
		}
	}
	if lost == 0 || lost == c.layout.Zones {
		t.Fatalf("node 1 has %d of %d zones", lost, c.layout.Zones)
	}
	// The replica is thrown out, and not let in again.
	c.do(0, "ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
	c.do(0, "CLIENT", "KILL", "TYPE", "replica")
	c.await("the replica is gone", func() bool {
		return strings.Contains(c.nodes[0].Info(c.Context(), "replication").Val(), "connected_slaves:0")
	})
	c.process(1000)
	if _, _, backs := c.group.get(); backs != 0 {
		t.Fatalf("went back %d times before anything was lost", backs)
	}
	killed := time.Now()
	if err := c.server.Kill(0); err != nil {
		t.Fatal(err)
	}
	c.do(3, "CLUSTER", "FAILOVER", "TAKEOVER")
	c.process(c.posts)
	_, _, backs := c.group.get()
	t.Logf("all is there %s after the kill; went back %d times", time.Since(killed).Round(time.Millisecond), backs)
	if backs == 0 {
		t.Error("500 posts were lost, and the writer did not go back")
	}
	c.holds(c.posts)
	if _, err := Connect(t.Context(), c.layout, c.server.Addrs()[1:2]); !errors.Is(err, ErrOneOfMany) {
		t.Errorf("one address of a cluster: %v", err)
	}
}
