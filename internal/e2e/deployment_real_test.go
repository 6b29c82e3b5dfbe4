//go:build real

package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/servers"
)

func init() { onServers = true }

// deployment is every role as a process of its own, fan-out twice, on real servers.
type deployment struct {
	*run
	backends
	dir     string
	clients []*client
}

// backends are the real servers of a test.
type backends struct{ kafka, redis, cassandra *servers.Server }

// startServers starts all three, which end with the test.
func startServers(t *testing.T, o servers.Options) (b backends) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.Go(func() (err error) { b.kafka, err = servers.Kafka(ctx, o); return err })
	g.Go(func() (err error) { b.redis, err = servers.Redis(ctx, o); return err })
	g.Go(func() (err error) { b.cassandra, err = servers.Cassandra(ctx, o); return err })
	err := g.Wait()
	t.Cleanup(func() {
		for _, s := range []*servers.Server{b.kafka, b.redis, b.cassandra} {
			if s == nil {
				continue
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	deployedAccounts = 48
	deployedClients  = 8
	// calm is how many operations there are before and after a fault.
	calm = 300
	// pace keeps long faults from making so much that comparing it takes longer.
	pace = 100 * time.Millisecond
)

// deploy starts everything and registers accounts.
func deploy(t *testing.T, brokers int) *deployment {
	t.Helper()
	begun := time.Now()
	d := &deployment{run: newRun(t), dir: t.TempDir()}
	d.backends = startServers(t, servers.Options{Brokers: brokers})
	for _, role := range []string{"directory", "following", "fanout", "fanout", "archive"} {
		d.others = append(d.others, d.role(freePort(t), role))
	}
	d.proc = d.role(freePort(t), "api")
	d.restart = func() *process { return d.role(d.proc.listen, "api") }
	for _, p := range append(d.others, d.proc) {
		p.awaitReady()
	}
	inParallel(make([]int, deployedAccounts), d.registerer())
	d.clients = d.newClients(deployedClients)
	for _, c := range d.clients {
		c.pace = pace
	}
	d.quiet()
	t.Logf("servers and processes are ready after %s", since(begun))
	return d
}

// role starts a process with a data directory of its own, or that of the process that had the same address.
func (d *deployment) role(listen, role string) *process {
	replicas := strconv.Itoa(len(d.kafka.Addrs()))
	args := []string{
		"run", role, "--listen", listen, "--admin", "127.0.0.1:0", "--data", filepath.Join(d.dir, role+listen),
		"--kafka", strings.Join(d.kafka.Addrs(), ","), "--redis", strings.Join(d.redis.Addrs(), ","),
		"--cassandra", d.cassandra.Addrs()[0], "--store-replication", "1", "--partitions", "8",
		"--replication", replicas, "--min-in-sync", strconv.Itoa(len(d.kafka.Addrs())/2 + 1),
	}
	return execute(d.t, listen, append(args, denseFlags...)...)
}

// again starts the process of a role again, on its data.
func (d *deployment) again(p *process) *process {
	return d.role(p.listen, p.cmd.Args[2])
}

// under lets clients and readers work, before, during and after what is done to the deployment, and compares every list
// of every account with the model in the end. It ends the test unless posts were accepted meanwhile.
func (d *deployment) under(name string, do func()) {
	d.t.Helper()
	begun := time.Now()
	d.broken.Store(true)
	before := d.operations.Load()
	readers := d.read(2, uint64(before)<<16)
	finished := d.both(d.work(d.clients[2:], 1<<40, busy), d.work(d.clients[:2], 1<<40, []operation{{1, (*client).post}}))
	d.awaitOperations(before+calm, finished)
	posts, start := d.counted("post"), time.Now()
	do()
	took, accepted := since(start), d.counted("post")-posts
	if accepted == 0 {
		d.t.Errorf("%s: no post was accepted meanwhile", name)
	}
	d.awaitOperations(d.operations.Load()+calm, finished)
	d.enough.Store(true)
	<-finished
	d.enough.Store(false)
	readers.end()
	d.findLost()
	d.broken.Store(false)
	d.tell(name, before, time.Since(begun), readers)
	d.t.Logf("%s: %d posts accepted in the %s that it took; all is at rest after %s", name, accepted, took, since(begun))
	d.compare(name)
}

// both is closed when both channels are. Some clients only post: the others wait for what a fault holds up.
func (d *deployment) both(a, b <-chan struct{}) <-chan struct{} {
	all := make(chan struct{})
	go func() {
		<-a
		<-b
		close(all)
	}()
	return all
}

// accepts waits until a post is accepted that was sent from now on, and says how long that took.
func (d *deployment) accepts() time.Duration {
	d.t.Helper()
	begun, posts := time.Now(), d.counted("post")
	await(d.t, "another post is accepted", func() (bool, string) {
		return d.counted("post") > posts+deployedClients, fmt.Sprintf("%d posts", d.counted("post")-posts)
	})
	return since(begun)
}

// signal stops a process for a while, as a long pause of its machine would.
func (d *deployment) signal(p *process, s syscall.Signal) {
	d.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		d.t.Errorf("signal %s: %v", s, err)
	}
}

// killed kills a process, waits until clients have worked without it, and starts it again.
func (d *deployment) killed(i int) {
	d.t.Helper()
	p := d.others[i]
	p.kill()
	d.accepts()
	d.others[i] = d.again(p)
	d.others[i].awaitReady()
}
