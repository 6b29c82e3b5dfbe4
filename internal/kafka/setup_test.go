package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/internal/kafka/kafkatest"

	"freshet"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

const patience = 15 * time.Second

var testNames = freshet.Names{Prefix: "t."}

// await polls until what is asked for is so.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s: %s", patience, what)
		}
	}
}

func testLogger(t *testing.T) *slog.Logger {
	if os.Getenv("KAFKA_TEST_LOG") == "" {
		return slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("test", t.Name())
}

// testConfig is Config, quicker to notice things.
func testConfig(clientID string) *sarama.Config {
	cfg := Config(clientID)
	cfg.Consumer.MaxWaitTime = 20 * time.Millisecond
	cfg.Consumer.Offsets.AutoCommit.Interval = 20 * time.Millisecond
	cfg.Consumer.Group.Heartbeat.Interval = 50 * time.Millisecond
	cfg.Consumer.Group.Rebalance.Retry.Backoff = 20 * time.Millisecond
	return cfg
}

// cluster is a Kafka with a client for what a test asks of it.
type cluster struct {
	*kfake.Cluster
	t       *testing.T
	brokers []string
	client  *kgo.Client
	adm     *kadm.Client
}

func newCluster(t *testing.T, partitions int32, topics ...string) *cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &cluster{Cluster: fake, t: t, brokers: fake.ListenAddrs(), client: client, adm: kadm.NewClient(client)}
}

// write produces count values, "0", "1" and so on.
func (c *cluster) write(topic string, partition int32, count int) {
	c.t.Helper()
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Partition: partition, Key: []byte(fmt.Sprint("k", i)),
			Value: []byte(fmt.Sprint(i))}
	}
	c.put(records...)
}

func (c *cluster) put(records ...*kgo.Record) {
	c.t.Helper()
	if err := c.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

// committed is the group's offset, -1 if it has none.
func (c *cluster) committed(group, topic string, partition int32) int64 {
	c.t.Helper()
	offsets, err := c.adm.FetchOffsetsForTopics(context.Background(), group, topic)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1
	}
	if err != nil {
		c.t.Fatal(err)
	}
	o, _ := offsets.Lookup(topic, partition)
	return o.At
}

func (c *cluster) awaitCommitted(group, topic string, partition int32, want int64) {
	c.t.Helper()
	await(c.t, fmt.Sprintf("%s/%d committed at %d", topic, partition, want), func() bool {
		return c.committed(group, topic, partition) == want
	})
}

// read returns the records of a topic from its beginning, once there are count.
func (c *cluster) read(topic string, count int) []*kgo.Record {
	c.t.Helper()
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.t.Fatalf("read %s: %d of %d: %v", topic, len(records), count, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func (c *cluster) group(name string, change func(*GroupConfig)) *Group {
	cfg := GroupConfig{Name: name, Brokers: c.brokers, Config: testConfig(name), Logger: testLogger(c.t)}
	if change != nil {
		change(&cfg)
	}
	return NewGroup(cfg)
}

// running is a processor that runs.
type running struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// start runs a processor on our group, or, if group is nil, on goka's own.
func (c *cluster) start(group *Group, name string, edges []goka.Edge, more ...goka.ProcessorOption) *running {
	c.t.Helper()
	var opts []goka.ProcessorOption
	if group != nil {
		opts = ProcessorOptions(ProcessorSettings{Config: testConfig, Group: group, Logger: testLogger(c.t),
			Storage: storage.MemoryBuilder()})
	} else {
		opts = ProcessorOptions(ProcessorSettings{Config: testConfig, Group: c.group(name, nil),
			Logger: testLogger(c.t), Storage: storage.MemoryBuilder()})
		opts = append(opts, goka.WithConsumerGroupBuilder(goka.ConsumerGroupBuilderWithConfig(testConfig(name))))
	}
	p, err := goka.NewProcessor(c.brokers, goka.DefineGroup(goka.Group(name), edges...), append(opts, more...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: c.t, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = p.Run(ctx)
	}()
	c.t.Cleanup(func() { _ = r.stop() }) // a test that cares has asked before
	return r
}

// stop ends the processor and returns what Run returned.
func (r *running) stop() error {
	r.cancel()
	return r.wait()
}

func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(70 * time.Second):
		r.t.Fatal("the processor does not stop")
	}
	return r.err
}

func (r *running) alive() bool {
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

func textInput(topic string, callback goka.ProcessCallback) goka.Edge {
	return goka.Input(goka.Stream(topic), new(codec.String), callback)
}

func edges(e ...goka.Edge) []goka.Edge { return e }

// seen counts the messages of each place.
type seen struct {
	mu    sync.Mutex
	at    map[string]int
	order []string
	total atomic.Int64
}

func (s *seen) add(ctx goka.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string]int{}
	}
	place := fmt.Sprintf("%s/%d@%d", ctx.Topic(), ctx.Partition(), ctx.Offset())
	s.at[place]++
	s.order = append(s.order, place)
	s.total.Add(1)
}

func (s *seen) times(topic string, partition int32, offset int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[fmt.Sprintf("%s/%d@%d", topic, partition, offset)]
}

func (s *seen) inOrder() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.order...)
}

// deferrals keeps the deferred commits of callbacks.
type deferrals struct {
	mu   sync.Mutex
	done map[int64]func(error)
}

func (d *deferrals) add(ctx goka.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = map[int64]func(error){}
	}
	d.done[ctx.Offset()] = ctx.DeferCommit()
}

func (d *deferrals) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.done)
}

func (d *deferrals) finish(offset int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done[offset](nil)
}

func (d *deferrals) finishAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, done := range d.done {
		done(nil)
	}
	d.done = nil
}

// heldAcks is a producer whose acknowledgements of one topic wait.
type heldAcks struct {
	goka.Producer
	topic string
	mu    sync.Mutex
	open  bool
	held  []func()
}

func (h *heldAcks) wrap(p goka.Producer) goka.Producer {
	h.Producer = p
	return h
}

func (h *heldAcks) EmitWithHeaders(topic, key string, value []byte, headers goka.Headers) *goka.Promise {
	ack := h.Producer.EmitWithHeaders(topic, key, value, headers)
	if topic != h.topic {
		return ack
	}
	promise, finish := goka.NewPromiseWithFinisher()
	ack.ThenWithMessage(func(msg *sarama.ProducerMessage, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.open {
			finish(msg, err)
			return
		}
		h.held = append(h.held, func() { finish(msg, err) })
	})
	return promise
}

func (h *heldAcks) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}

func (h *heldAcks) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = true
	for _, f := range h.held {
		f()
	}
	h.held = nil
}
