package check_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/twmb/franz-go/pkg/kfake"

	"freshet/internal/access/accesstest"
	"freshet/internal/check"
	"freshet/internal/config"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

const user, password = "freshet", "secret"

// deployment is a Kafka with TLS and SCRAM and a Redis with TLS and a user.
type deployment struct {
	t                   *testing.T
	cfg                 config.Config // that reaches both
	authority, stranger *accesstest.Authority
	policy              atomic.Value // what Redis does when it is full
}

func start(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, authority: accesstest.New(t), stranger: accesstest.New(t)}
	shown := d.authority.Issue("127.0.0.1").Server(t)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(shown), kfake.EnableSASL(),
		kfake.Superuser("SCRAM-SHA-512", user, password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	redis, err := miniredis.RunTLS(shown)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	redis.RequireUserAuth(user, password)
	d.policy.Store("noeviction")
	err = redis.Server().Register("CONFIG", func(c *server.Peer, _ string, _ []string) {
		c.WriteMapLen(1)
		c.WriteBulk("maxmemory-policy")
		c.WriteBulk(d.policy.Load().(string))
	})
	if err != nil {
		t.Fatal(err)
	}

	d.cfg = config.Deployment()
	d.cfg.Partitions, d.cfg.Replication, d.cfg.MinInSync, d.cfg.Zones = 2, 1, 1, 4
	d.cfg.Kafka, d.cfg.Redis = broker.ListenAddrs(), []string{redis.Addr()}
	d.cfg.KafkaAccess.TLSCA, d.cfg.RedisAccess.TLSCA = d.authority.CA, d.authority.CA
	d.cfg.KafkaAccess.User, d.cfg.RedisAccess.User = user, user
	t.Setenv(config.KafkaPasswordVariable, password)
	t.Setenv(config.RedisPasswordVariable, password)
	return d
}

// hops are the names of the hops of a server, with a "!" behind one that failed.
func hops(results []check.Result, server string) string {
	var names []string
	for _, r := range results {
		if r.Server != server {
			continue
		}
		name := r.Hop
		if !r.OK {
			name += "!"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func (d *deployment) check(cfg config.Config) []check.Result {
	d.t.Helper()
	results, err := check.Run(context.Background(), cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range results {
		if strings.Contains(r.Detail+r.Remedy, password) {
			d.t.Errorf("the password is shown: %+v", r)
		}
	}
	return results
}

func TestEveryHopIsWell(t *testing.T) {
	d := start(t)
	results := d.check(d.cfg)
	if got := hops(results, "kafka"); got != "dns tcp tls authentication brokers topics" {
		t.Errorf("kafka: %s: %+v", got, results)
	}
	if got := hops(results, "redis"); got != "dns tcp tls authentication settings" {
		t.Errorf("redis: %s: %+v", got, results)
	}
	if check.Failed(results) != nil {
		t.Errorf("failed: %+v", check.Failed(results))
	}
	var text strings.Builder
	if err := check.Print(&text, results); err != nil || strings.Count(text.String(), "\n") != len(results)+1 {
		t.Errorf("not a line for each hop: %s, %v", text.String(), err)
	}
}

// closedPort is an address on which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func TestEachHopFails(t *testing.T) {
	d := start(t)
	const nowhere = "no-such-host.invalid:1"
	for name, tt := range map[string]struct {
		change       func(t *testing.T, c *config.Config)
		server, hops string
		remedy       string
	}{
		"kafka, another name": {func(_ *testing.T, c *config.Config) { c.Kafka = []string{nowhere} },
			"kafka", "dns!", "is the name right"},
		"redis, another name": {func(_ *testing.T, c *config.Config) { c.Redis = []string{nowhere} },
			"redis", "dns!", "is the name right"},
		"cassandra, another name": {func(_ *testing.T, c *config.Config) { c.Cassandra = []string{nowhere} },
			"cassandra", "dns!", "is the name right"},
		"kafka, a closed port": {func(t *testing.T, c *config.Config) { c.Kafka = []string{closedPort(t)} },
			"kafka", "dns tcp!", "nothing listens there"},
		"redis, a closed port": {func(t *testing.T, c *config.Config) { c.Redis = []string{closedPort(t)} },
			"redis", "dns tcp!", "nothing listens there"},
		"cassandra, a closed port": {func(t *testing.T, c *config.Config) { c.Cassandra = []string{closedPort(t)} },
			"cassandra", "dns tcp!", "nothing listens there"},
		"kafka, one broker of two is away": {func(t *testing.T, c *config.Config) {
			c.Kafka = []string{closedPort(t), c.Kafka[0]}
		}, "kafka", "dns tcp! dns tcp tls authentication brokers topics", "nothing listens there"},
		"kafka, another CA": {func(_ *testing.T, c *config.Config) { c.KafkaAccess.TLSCA = d.stranger.CA },
			"kafka", "dns tcp tls!", "--kafka-tls-ca"},
		"redis, another CA": {func(_ *testing.T, c *config.Config) { c.RedisAccess.TLSCA = d.stranger.CA },
			"redis", "dns tcp tls!", "--redis-tls-ca"},
		"kafka, another name in the certificate": {func(_ *testing.T, c *config.Config) { c.KafkaAccess.TLSName = "kafka" },
			"kafka", "dns tcp tls!", "--kafka-tls-name"},
		"redis, another password": {func(t *testing.T, _ *config.Config) { t.Setenv(config.RedisPasswordVariable, "no") },
			"redis", "dns tcp tls authentication!", "--redis-password-file"},
		"kafka, another password": {func(t *testing.T, _ *config.Config) { t.Setenv(config.KafkaPasswordVariable, "no") },
			"kafka", "dns tcp tls authentication!", "--kafka-user"},
		"kafka, too few brokers": {func(_ *testing.T, c *config.Config) { c.Replication = 3 },
			"kafka", "dns tcp tls authentication brokers!", "--replication"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := d.cfg
			tt.change(t, &cfg)
			results := d.check(cfg)
			failed := check.Failed(results)
			if hops(results, tt.server) != tt.hops || failed == nil || !strings.Contains(failed.Remedy, tt.remedy) {
				t.Errorf("got %s, %+v", hops(results, tt.server), failed)
			}
		})
	}
}

func TestRedisThatEvicts(t *testing.T) {
	d := start(t)
	d.policy.Store("allkeys-lru")
	failed := check.Failed(d.check(d.cfg))
	if failed == nil || failed.Hop != "settings" || !strings.Contains(failed.Remedy, "maxmemory-policy noeviction") {
		t.Errorf("got %+v", failed)
	}
}

func TestTLSWhereThereIsNone(t *testing.T) {
	redis := miniredis.RunT(t)
	cfg := config.Deployment()
	cfg.Redis = []string{redis.Addr()}
	cfg.RedisAccess.TLS = true
	results, err := check.Run(t.Context(), cfg)
	if err != nil || hops(results, "redis") != "dns tcp tls!" ||
		!strings.Contains(results[2].Remedy, "does not speak TLS") {
		t.Errorf("got %+v, %v", results, err)
	}
}

func TestTopicsWithOtherSettings(t *testing.T) {
	d := start(t)
	login, err := d.cfg.Login()
	if err != nil {
		t.Fatal(err)
	}
	err = kafka.EnsureTopics(t.Context(), d.cfg.Kafka, d.cfg.TopicSpecs(), d.cfg.TopicPolicy(),
		kafka.ClientOptions(login.Kafka.Config)...)
	if err != nil {
		t.Fatal(err)
	}
	if failed := check.Failed(d.check(d.cfg)); failed != nil {
		t.Errorf("with its own topics: %+v", failed)
	}
	d.cfg.Partitions = 4
	failed := check.Failed(d.check(d.cfg))
	if failed == nil || failed.Hop != "topics" || !strings.Contains(failed.Detail, "want 4, found 2") {
		t.Errorf("got %+v", failed)
	}
}
