package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"

	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts/cassandrastore"
)

// The ports of addresses that name none: those that the clients add.
const (
	kafkaPort     = "9092"
	cassandraPort = "9042"
)

func (r *run) kafka(ctx context.Context) {
	opts := kafka.ClientOptions(r.login.Kafka.Config)
	var first target
	var cluster kadm.Metadata
	for _, address := range r.cfg.Kafka {
		t := target{r, "kafka", withPort(address, kafkaPort)}
		if !t.network(ctx, r.login.Kafka.TLS) {
			continue
		}
		found, err := kafka.Reach(ctx, []string{t.address}, opts...)
		if t.note(hopLogin, "cluster "+found.Cluster+as(r.login.Kafka.User), err) && first.server == "" {
			first, cluster = t, found
		}
	}
	if first.server == "" || !r.advertised(ctx, cluster) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	err := error(nil)
	if n := len(cluster.Brokers); n < int(r.cfg.Replication) {
		err = fmt.Errorf("%w: %d, for %d replicas", errFewBrokers, n, r.cfg.Replication)
	}
	if !first.note(hopBrokers, strconv.Itoa(len(cluster.Brokers)), err) {
		return
	}
	specs := r.cfg.TopicSpecs()
	missing, err := kafka.CheckTopics(ctx, []string{first.address}, specs, r.cfg.TopicPolicy(), opts...)
	found := fmt.Sprintf("%d, as they should be", len(specs))
	if len(missing) > 0 {
		found = fmt.Sprintf("%d of %d are missing: the first start creates them", len(missing), len(specs))
	}
	first.note(hopTopics, found, err)
}

// advertised goes to the addresses that the brokers tell their clients, which need not be those that were given here.
func (r *run) advertised(ctx context.Context, cluster kadm.Metadata) bool {
	all := true
	for _, broker := range cluster.Brokers {
		t := target{r, "kafka", net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port)))}
		if !r.has(t.address) {
			all = t.network(ctx, r.login.Kafka.TLS) && all
		}
	}
	return all
}

func (r *run) has(address string) bool {
	for _, result := range r.results {
		if result.Address == address {
			return true
		}
	}
	return false
}

var errFewBrokers = errors.New("too few brokers")

func (r *run) redis(ctx context.Context) {
	var first target
	for _, address := range r.cfg.Redis {
		t := target{r, "redis", address}
		if !t.network(ctx, r.login.Redis.TLS) {
			continue
		}
		if t.note(hopLogin, "answers"+as(r.login.Redis.User), r.ping(ctx, t.address)) && first.server == "" {
			first = t
		}
	}
	if first.server == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	conn, err := feeds.Connect(ctx, r.cfg.Layout(), r.cfg.Redis, feeds.WithAccess(r.login.Redis))
	if err == nil {
		err = conn.Close()
	}
	first.note(hopEviction, "evicts nothing", err)
}

func (r *run) ping(ctx context.Context, address string) error {
	client := redis.NewClient(&redis.Options{
		Addr: address, TLSConfig: r.login.Redis.TLS, Username: r.login.Redis.User,
		Password: r.login.Redis.Password.Reveal(), MaxRetries: -1, DisableIdentity: true, ContextTimeoutEnabled: true,
	})
	ctx, cancel := context.WithTimeout(ctx, hopTimeout)
	defer cancel()
	return errors.Join(client.Ping(ctx).Err(), client.Close())
}

func (r *run) cassandra(ctx context.Context) {
	for _, address := range r.cfg.Cassandra {
		t := target{r, "cassandra", withPort(address, cassandraPort)}
		if !t.network(ctx, r.login.Cassandra.TLS) {
			continue
		}
		isNew, err := cassandrastore.Check(ctx, cassandrastore.Options{
			Addrs: []string{t.address}, Keyspace: r.cfg.Keyspace(), Replication: r.cfg.PostReplicas(),
			Access: r.login.Cassandra, Log: slog.New(slog.DiscardHandler),
		})
		var schema *cassandrastore.SchemaError
		var version *cassandrastore.VersionError
		if err != nil && !errors.As(err, &schema) && !errors.As(err, &version) {
			t.note(hopLogin, "", err)
			continue
		}
		t.note(hopLogin, "answers"+as(r.login.Cassandra.User), nil)
		found := "every table is there"
		if isNew {
			found = "there are no tables: the first start creates them"
		}
		t.note(hopSchema, found, err)
	}
}

func as(user string) string {
	if user == "" {
		return ""
	}
	return ", as " + user
}
