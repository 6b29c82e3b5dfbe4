//go:build real

package e2e

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/views"
)

// everything is the operations that a run has to have seen.
var everything = []string{
	"post", "delete", "delete again", "look", "follow", "refused follow", "unfollow", "mute", "unmute", "block", "unblock",
	"register", "close", "register again",
}

// away is how long Cassandra is.
const away = 2 * time.Minute

// TestRealProcesses: one process after another is killed, or stands still.
func TestRealProcesses(t *testing.T) {
	t.Parallel()
	d := deploy(t, 1)
	random := d.random(1 << 32)
	d.under("calm", func() { d.accepts() })
	for _, i := range random.Perm(len(d.others)) {
		d.under("kill "+d.others[i].cmd.Args[2], func() { d.killed(i) })
	}
	d.under("processes stand still", func() {
		for _, i := range random.Perm(len(d.others)) {
			d.frozen(d.others[i], time.Duration(8+random.IntN(8))*time.Second)
		}
		d.frozenAPI(time.Duration(3+random.IntN(3)) * time.Second)
	})
	d.killedAPI()
	var sent map[origin]*kgo.Record
	d.under("poison", func() {
		sent = d.poison()
		d.accepts()
	})
	d.sameLetters(sent)
	d.wantAll(everything...)
}

// TestRealStores: Redis loses everything, or some, or takes no writes, or is slow; Cassandra is away.
func TestRealStores(t *testing.T) {
	t.Parallel()
	d := deploy(t, 1)
	d.under("FLUSHALL", func() {
		onRedis(d, (*redis.Client).FlushAll)
		d.accepts()
	})
	d.under("Redis comes back empty", func() {
		d.check(d.redis.Kill())
		d.accepts()
		d.check(d.redis.Start(t.Context()))
	})
	d.under("Redis goes back to an old snapshot", func() {
		onRedis(d, (*redis.Client).Save)
		d.accepts()
		d.unnoticed(func() {
			d.check(d.redis.Kill())
			d.check(d.redis.Start(t.Context()))
		})
	})
	d.under("Redis is read-only", func() {
		onRedis(d, replicaOf("127.0.0.1", "1"))
		d.refuses("READONLY")
		d.accepts()
		onRedis(d, replicaOf("NO", "ONE"))
	})
	d.under("Redis is full", func() {
		d.setRedis("maxmemory", "1")
		d.refuses("OOM")
		d.accepts()
		d.setRedis("maxmemory", "0")
	})
	d.under("Redis answers 2 s late", func() {
		for range 5 {
			onRedis(d, func(c *redis.Client, ctx context.Context) *redis.BoolCmd { return c.ClientPause(ctx, 2*time.Second) })
			d.accepts()
		}
	})
	d.under("Cassandra is away", func() {
		d.check(d.cassandra.Kill())
		for begun := time.Now(); time.Since(begun) < away; {
			d.accepts()
		}
		d.readsFeeds()
		d.check(d.cassandra.Start(t.Context()))
	})
	d.wantAll(everything...)
}

// TestRealBrokers: partitions get other leaders; of three brokers one is killed and comes back, then two.
func TestRealBrokers(t *testing.T) {
	d := deploy(t, 3)
	random := d.random(1 << 32)
	d.under("leaders move", func() {
		for range 3 {
			d.moveLeaders()
			d.accepts()
		}
	})
	for range 2 {
		broker := random.IntN(3)
		d.under(fmt.Sprintf("broker %d is killed", broker), func() { d.killedBroker(broker) })
	}
	d.under("two brokers are killed", func() {
		gone := random.Perm(3)[:2]
		d.check(d.kafka.Kill(gone...))
		d.notAccepting()
		d.check(d.kafka.Start(t.Context(), gone...))
		d.accepts()
	})
	d.wantAll("post", "refused post", "delete", "follow", "unfollow")
}

// killedBroker kills a broker and starts it again when posts have been accepted without it.
func (d *deployment) killedBroker(node int) {
	d.t.Helper()
	d.check(d.kafka.Kill(node))
	if took := d.accepts(); took > 30*time.Second {
		d.t.Errorf("posts are accepted again after %s, want 30 s", took)
	} else {
		d.t.Logf("posts are accepted again after %s", took)
	}
	d.check(d.kafka.Start(d.t.Context(), node))
}

// moveLeaders makes the second replica of every partition its leader, those of the groups' offsets included.
func (d *deployment) moveLeaders() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	log := openLog(d.t, d.proc)
	topics, err := log.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	var order kadm.AlterPartitionAssignmentsReq
	var which kadm.TopicsSet
	topics.EachPartition(func(p kadm.PartitionDetail) {
		order.Assign(p.Topic, p.Partition, append(slices.Clone(p.Replicas[1:]), p.Replicas[0]))
		which.Add(p.Topic, p.Partition)
	})
	ordered, err := log.admin.AlterPartitionAssignments(ctx, order)
	if err == nil {
		err = ordered.Error()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	var now kadm.TopicDetails
	moved := func() (n int) {
		topics.EachPartition(func(p kadm.PartitionDetail) {
			if leader := now[p.Topic].Partitions[p.Partition].Leader; leader >= 0 && leader != p.Leader {
				n++
			}
		})
		return n
	}
	await(d.t, "partitions have other leaders", func() (bool, string) {
		if _, err = log.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, which); err != nil {
			return false, err.Error()
		}
		if now, err = log.admin.ListTopicsWithInternal(ctx); err != nil {
			return false, err.Error()
		}
		return moved() > len(which), fmt.Sprintf("%d", moved())
	})
	d.t.Logf("%d partitions have another leader", moved())
}

func (d *deployment) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Error(err)
	}
}

// frozen lets a process stand still and go on.
func (d *deployment) frozen(p *process, pause time.Duration) {
	d.t.Helper()
	d.signal(p, syscall.SIGSTOP)
	timer := time.NewTimer(pause)
	d.accepts()
	<-timer.C
	d.signal(p, syscall.SIGCONT)
}

// frozenAPI lets the API stand still and go on: what was asked meanwhile is answered late.
func (d *deployment) frozenAPI(pause time.Duration) {
	d.t.Helper()
	timer := time.NewTimer(pause)
	d.signal(d.proc, syscall.SIGSTOP)
	before := d.operations.Load()
	<-timer.C
	if n := d.operations.Load() - before; n > 2*deployedClients {
		d.t.Errorf("%d operations were answered while the API stood still", n)
	}
	d.signal(d.proc, syscall.SIGCONT)
	d.accepts()
}

// killedAPI kills the API while clients work, and starts it again.
func (d *deployment) killedAPI() {
	d.t.Helper()
	d.broken.Store(true) // a process that starts has to catch up first
	d.ended("kill api", d.clients, calm/deployedClients, busy, nil, (*process).kill)
	d.broken.Store(false)
	d.compare("kill api")
}

// onRedis runs a command.
func onRedis[C redis.Cmder](d *deployment, command func(*redis.Client, context.Context) C) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	if err := command(openRedis(d.t, d.proc), ctx).Err(); err != nil {
		d.t.Error(err)
	}
}

// unnoticed takes Redis back to a state in which nothing shows that it has lost something: every zone has its token.
// Only the writer knows that its counters went back. Until it has looked, which gives every zone a new token, and for
// as long as a process keeps what it read before that, pages may say what was true when the snapshot was made. To find
// it out a reader would have to know the writers' counters, which no read asks for; nor could it go by a restart of
// Redis without turning pages away after those restarts in which nothing is lost.
func (d *deployment) unnoticed(goBack func()) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	client := d.openData()
	before, err := tokens(ctx, client)
	if err != nil || len(before) != zones {
		d.t.Fatalf("%d of %d zones have a token (%v)", len(before), zones, err)
	}
	d.staleUntil.Store(math.MaxInt64)
	goBack()
	back := time.Now()
	await(d.t, "the writer has noticed", func() (bool, string) {
		if cluster, ok := client.(*redis.ClusterClient); ok {
			cluster.ReloadState(ctx) // or it would ask a node that is gone for up to a minute
		}
		after, err := tokens(ctx, client)
		for zone, token := range after {
			if before[zone] == token {
				return false, fmt.Sprintf("zone %d has the token it had", zone)
			}
		}
		return len(after) == zones, fmt.Sprintf("%d zones with a token, %v", len(after), err)
	})
	d.t.Logf("noticed after %s; %d pages before that were older than they should be", since(back), d.staleSeen.Load())
	d.staleUntil.Store(time.Now().Add(views.KeptFor).UnixNano())
}

// openData is a client of all that Redis has, on one node or in a cluster.
func (d *deployment) openData() redis.UniversalClient {
	d.t.Helper()
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: d.redis.Addrs(), DisableIdentity: true})
	d.t.Cleanup(func() { d.check(client.Close()) })
	return client
}

// replicaOf makes Redis follow another, which makes it read-only.
func replicaOf(host, port string) func(*redis.Client, context.Context) *redis.Cmd {
	return func(c *redis.Client, ctx context.Context) *redis.Cmd { return c.Do(ctx, "REPLICAOF", host, port) }
}

func (d *deployment) setRedis(setting, value string) {
	d.t.Helper()
	onRedis(d, func(c *redis.Client, ctx context.Context) *redis.StatusCmd { return c.ConfigSet(ctx, setting, value) })
}

// refuses proves that Redis takes no writes, and says why.
func (d *deployment) refuses(why string) {
	d.t.Helper()
	err := openRedis(d.t, d.proc).Set(context.Background(), "proof", "", 0).Err()
	if err == nil || !strings.HasPrefix(err.Error(), why) {
		d.t.Errorf("a write to Redis was answered %v, want %s", err, why)
	}
}

// readsFeeds proves that feeds are answered.
func (d *deployment) readsFeeds() {
	d.t.Helper()
	open := d.ledger.open()
	a := open[rand.IntN(len(open))]
	await(d.t, "a feed is read", func() (bool, string) {
		_, answer, err := getPage(d.http, d.proc.url()+"/v1/accounts/"+a.ID+"/feed", 20, "")
		return err == nil && answer.status == http.StatusOK, fmt.Sprintf("%s %v", answer, err)
	})
}

// notAccepting waits until posts are refused, and proves that none is accepted then.
func (d *deployment) notAccepting() {
	d.t.Helper()
	refused := d.counted("refused post")
	await(d.t, "posts are refused", func() (bool, string) {
		n := d.counted("refused post")
		return n > refused+4, fmt.Sprintf("%d refused", n-refused)
	})
}
