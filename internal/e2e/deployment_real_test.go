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

// deployment is every role as a process of its own, fan-out twice, on real servers. Most of the time its tests wait, so
// those with one broker that measure nothing run beside each other.
type deployment struct {
	*run
	backends
	dir     string
	brokers int
	clients []*client
	network *network      // nil: processes reach the servers directly
	cluster bool          // Redis is one
	budget  time.Duration // what a scenario may take, from its begin until everything is compared
	flags   []string      // of every process; nil: denseFlags
	program string        // that they run; empty: binary
	wrong   []string      // more variables in the environment of fan-out
}

// backends are the real servers of a test.
type backends struct{ kafka, redis, cassandra *servers.Server }

// synced makes a Cassandra of one replica keep what it has acknowledged when it is killed. Otherwise it writes its log
// a moment later, and posts that the archive has committed are gone.
var synced = map[string]string{"commitlog_sync": "batch", "commitlog_sync_period": "0ms"}

// startServers starts all three, which end with the test. The last settings are for Kafka alone, those of
// the options for Redis.
func startServers(t *testing.T, o servers.Options, kafka map[string]string) (b backends) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	brokers, store := o, o
	brokers.Settings, store.Settings = kafka, synced
	g.Go(func() (err error) { b.kafka, err = servers.Kafka(ctx, brokers); return err })
	g.Go(func() (err error) { b.redis, err = servers.Redis(ctx, o); return err })
	g.Go(func() (err error) { b.cassandra, err = servers.Cassandra(ctx, store); return err })
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
	// scenarioBudget is several times what a scenario takes on two busy cores.
	scenarioBudget = 6 * time.Minute
)

// deploy starts everything and registers accounts.
func deploy(t *testing.T, brokers int) *deployment {
	t.Helper()
	return (&deployment{run: newRun(t), dir: t.TempDir()}).start(brokers)
}

func (d *deployment) start(brokers int) *deployment {
	t := d.t
	t.Helper()
	begun := time.Now()
	d.budget, d.brokers = scenarioBudget, brokers
	if d.flags == nil {
		d.flags = denseFlags
	}
	if d.program == "" {
		d.program = binary
	}
	var advertised map[string]string
	if d.network != nil {
		advertised = map[string]string{"advertised.listeners": "PLAINTEXT://" + d.network.kafka.address()}
	}
	o := servers.Options{Brokers: brokers}
	if d.cluster {
		o.RedisNodes = 6
		// Nobody takes a busy node for one that has gone.
		o.Settings = map[string]string{"cluster-node-timeout": "60000"}
	}
	d.backends = startServers(t, o, advertised)
	if d.network != nil {
		d.network.lead(d.backends)
	}
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
func (d *deployment) role(listen, role string, env ...string) *process {
	kafka, redis := strings.Join(d.kafka.Addrs(), ","), strings.Join(d.redis.Addrs(), ",")
	cassandra := d.cassandra.Addrs()[0]
	if d.network != nil {
		kafka, redis, cassandra = d.network.kafka.address(), d.network.redis.address(), d.network.cassandra.address()
		if role == "api" {
			redis = d.network.apiRedis.address()
		}
	}
	args := []string{
		"run", role, "--listen", listen, "--admin", "127.0.0.1:0", "--data", filepath.Join(d.dir, role+listen),
		"--kafka", kafka, "--redis", redis, "--cassandra", cassandra, "--store-replication", "1", "--partitions", "8",
		"--replication", strconv.Itoa(d.brokers), "--min-in-sync", strconv.Itoa(d.brokers/2 + 1),
		// Short, so that logs are compacted all the time.
		"--log-limit", "1024",
	}
	if role == "fanout" {
		env = append(env, d.wrong...)
	}
	return executeProgram(d.t, d.program, env, listen, append(args, d.flags...)...)
}

// again starts the process of a role again, on its data.
func (d *deployment) again(p *process, env ...string) *process {
	return d.role(p.listen, p.cmd.Args[2], env...)
}

// under lets clients and readers work, before, during and after what is done to the deployment, and compares every list
// of every account with the model in the end. It ends the test unless posts were accepted meanwhile.
func (d *deployment) under(name string, do func()) {
	d.t.Helper()
	d.during(name, true, do)
}

// during is under, where requests may be answered "not now" or not.
func (d *deployment) during(name string, excused bool, do func()) {
	d.t.Helper()
	begun := time.Now()
	d.broken.Store(excused)
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
	if took := since(begun); took > d.budget {
		d.t.Errorf("%s: took %s, and may take %s", name, took, d.budget)
	}
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
