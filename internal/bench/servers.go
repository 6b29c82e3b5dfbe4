package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/embedded"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
)

// servers is what a benchmark writes to: topics under a prefix that nobody else has, and a Redis that was empty.
type servers struct {
	kafka, redis []string
	embedded     bool // one of the two
	names        freshet.Names
	dir          string
	kgo          *kgo.Client
	client       redis.UniversalClient
	closers      []func() error
}

var (
	// ErrAway is wrapped by the errors about servers that do not answer.
	ErrAway = errors.New("it does not answer")
	// ErrNotEmpty is the refusal of a Redis that holds something.
	ErrNotEmpty = errors.New("this Redis is not empty, and a benchmark empties it at its end: name another")
)

func openServers(ctx context.Context, c Config) (s *servers, err error) {
	s = &servers{kafka: c.Kafka, redis: c.Redis, embedded: len(c.Kafka) == 0 || len(c.Redis) == 0}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	s.names = freshet.Names{Prefix: "bench_" + hex.EncodeToString(random[:]) + "."}
	for flag, addresses := range map[string][]string{"--kafka": c.Kafka, "--redis": c.Redis} {
		if err := dialAll(ctx, flag, addresses); err != nil {
			return s, err
		}
	}
	if s.dir, err = os.MkdirTemp("", "freshet-bench-"); err != nil {
		return s, fmt.Errorf("make a temporary directory: %w", err)
	}
	s.closers = append(s.closers, func() error { return os.RemoveAll(s.dir) })
	if len(c.Kafka) == 0 {
		broker, err := embedded.StartKafka(filepath.Join(s.dir, "kafka"), "127.0.0.1:0")
		if err != nil {
			return s, err
		}
		s.kafka = broker.Addrs()
		s.closers = append(s.closers, func() error { broker.Close(); return nil })
	}
	if len(c.Redis) == 0 {
		server, err := embedded.StartRedis("127.0.0.1:0")
		if err != nil {
			return s, err
		}
		s.redis = []string{server.Addr()}
		s.closers = append(s.closers, func() error { server.Close(); return nil })
	}
	if err := s.connect(ctx); err != nil {
		return s, err
	}
	err = kafka.EnsureTopics(ctx, s.kafka, s.names.TopicSpecs(c.Partitions, freshet.WeekRetention),
		kafka.TopicPolicy{Replication: 1, MinInSync: 1})
	return s, err
}

// dialAll wants one of the addresses to answer.
func dialAll(ctx context.Context, flag string, addresses []string) error {
	var errs []error
	for _, address := range addresses {
		dialer := net.Dialer{Timeout: 3 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		errs = append(errs, fmt.Errorf("%s %s: %w: %w", flag, address, ErrAway, err))
	}
	return errors.Join(errs...)
}

// firstAnswer is how long a server may take to answer at first: one that takes connections and says nothing is away.
const firstAnswer = 5 * time.Second

func (s *servers) connect(ctx context.Context) (err error) {
	s.kgo, err = kgo.NewClient(
		kgo.SeedBrokers(s.kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(100_000), kgo.UnknownTopicRetries(20),
		kgo.MetadataMinAge(20*time.Millisecond), // the topics are new
	)
	if err != nil {
		return fmt.Errorf("connect to kafka at %v: %w", s.kafka, err)
	}
	first, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	if err := s.kgo.Ping(first); err != nil {
		s.kgo.Close()
		return fmt.Errorf("--kafka %s: %w: %w", strings.Join(s.kafka, ","), ErrAway, err)
	}
	s.closers = append(s.closers, s.deleteTopics)
	s.client = redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: s.redis, ReadTimeout: time.Minute, WriteTimeout: time.Minute, DisableIdentity: true,
		ContextTimeoutEnabled: true,
	})
	s.closers = append(s.closers, s.client.Close)
	size, err := s.client.DBSize(first).Result()
	switch {
	case err != nil:
		return fmt.Errorf("--redis %s: %w: %w", strings.Join(s.redis, ","), ErrAway, err)
	case size > 0:
		return fmt.Errorf("--redis %s holds %d keys: %w", strings.Join(s.redis, ","), size, ErrNotEmpty)
	}
	s.closers = append(s.closers, func() error { return s.flush(context.WithoutCancel(ctx)) })
	return nil
}

// flush empties Redis.
func (s *servers) flush(ctx context.Context) error {
	flush := func(ctx context.Context, node redis.Cmdable) error { return node.FlushAll(ctx).Err() }
	err := flush(ctx, s.client)
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return flush(ctx, node) })
	}
	if err != nil {
		return fmt.Errorf("empty redis: %w", err)
	}
	return nil
}

// deleteTopics removes what the run has written to a Kafka that stays.
func (s *servers) deleteTopics() error {
	defer s.kgo.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	adm := kadm.NewClient(s.kgo)
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list the topics of this run: %w", err)
	}
	var own []string
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, s.names.Prefix) {
			own = append(own, name)
		}
	}
	if len(own) == 0 {
		return nil
	}
	if _, err := adm.DeleteTopics(ctx, own...); err != nil {
		return fmt.Errorf("delete the topics of this run: %w", err)
	}
	var groups []string
	for _, g := range []freshet.Group{
		freshet.DirectoryGroup, freshet.FollowingGroup, freshet.FanoutGroup, freshet.ArchiveGroup,
	} {
		groups = append(groups, s.names.Group(g))
	}
	_, _ = adm.DeleteGroups(ctx, groups...) // those that a benchmark did not use are not there
	return nil
}

func (s *servers) describe(ctx context.Context) (kafka, redis string) {
	if info, err := s.client.InfoMap(ctx, "server").Result(); err == nil {
		redis = info["Server"]["redis_version"] + " "
	}
	return strings.Join(s.kafka, ","), redis + strings.Join(s.redis, ",")
}

// redisCPU is what Redis has used; 0 where it does not say. Of a cluster it is one node's.
func (s *servers) redisCPU(ctx context.Context) time.Duration {
	info, err := s.client.InfoMap(ctx, "cpu").Result()
	if err != nil {
		return 0
	}
	sum := 0.0
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		if seconds, err := strconv.ParseFloat(info["CPU"][name], 64); err == nil {
			sum += seconds
		}
	}
	return time.Duration(sum * float64(time.Second))
}

// feeds connects to Redis as the program does.
func (s *servers) feeds(ctx context.Context, layout feeds.Layout) (*feeds.Redis, error) {
	return feeds.Connect(ctx, layout, s.redis)
}

// close takes back what openServers has done, in the opposite order.
func (s *servers) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}
