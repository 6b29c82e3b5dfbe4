// Package processortest runs processors and views on a Kafka in the test's own process, through the constructors and
// options of the program. Only the waiting times are shorter.
package processortest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"freshet"
	"freshet/internal/kafka"
	"freshet/internal/tables"
)

// Patience is how long a test waits for what should happen: on a machine that is kept busy, beside other tests and
// under the race detector, starting a processor takes longer than 15 s.
const Patience = time.Minute

// Cluster is a Kafka with all topics.
type Cluster struct {
	Brokers []string
	Names   freshet.Names
	Fake    *kfake.Cluster
	// Sweeper makes the sweeper for the table of a processor that is started from now on; nil sweeps none.
	Sweeper func(table tables.Holder) *kafka.Sweeper
	// Gathered is the GroupConfig's, of processors that are started from now on.
	Gathered   map[string]time.Duration
	t          testing.TB
	partitions int32
}

// Start starts a Kafka for the time of the test.
func Start(t testing.TB, partitions int32) *Cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	c := &Cluster{Brokers: fake.ListenAddrs(), Names: freshet.Names{Prefix: "test."}, Fake: fake, t: t,
		partitions: partitions}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err = kafka.EnsureTopics(ctx, c.Brokers, c.Names.TopicSpecs(partitions, freshet.Forever),
		kafka.TopicPolicy{Replication: 1, MinInSync: 1, KeepForever: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Config is kafka.Config, quicker to notice things.
func (c *Cluster) Config(clientID string) *sarama.Config {
	cfg := kafka.Config(clientID)
	cfg.Consumer.MaxWaitTime = 20 * time.Millisecond
	cfg.Consumer.Offsets.AutoCommit.Interval = 20 * time.Millisecond
	cfg.Consumer.Group.Heartbeat.Interval = 50 * time.Millisecond
	cfg.Consumer.Group.Rebalance.Retry.Backoff = 20 * time.Millisecond
	return cfg
}

// Logger is silent, unless PROCESSOR_TEST_LOG is set.
func (c *Cluster) Logger() *slog.Logger {
	if os.Getenv("PROCESSOR_TEST_LOG") == "" {
		return slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("test", c.t.Name())
}

// Run runs something until the returned function is called, which waits for its end; at the latest when the test ends.
// Its error is the test's.
func (c *Cluster) Run(what string, run func(context.Context) error) (stop func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			c.t.Errorf("%s: %v", what, err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	c.t.Cleanup(stop)
	return stop
}

// Make is the shape of every processor's constructor.
type Make func(brokers []string, names freshet.Names, opts ...goka.ProcessorOption) (*goka.Processor, error)

// Processor runs a processor, with an empty local table, and returns when it consumes. The returned function stops it.
func (c *Cluster) Processor(group freshet.Group, mk Make) (stop func()) {
	c.t.Helper()
	name := c.Names.Group(group)
	local, err := tables.Open(c.t.TempDir())
	if err != nil {
		c.t.Fatal(err)
	}
	table := local.Processor(goka.Group(name), c.partitions)
	processor, err := mk(c.Brokers, c.Names, kafka.ProcessorOptions(kafka.ProcessorSettings{
		Config: c.Config,
		Group: kafka.NewGroup(kafka.GroupConfig{
			Name: name, Brokers: c.Brokers, Config: c.Config(name), Logger: c.Logger(),
			Gathered: c.Gathered,
		}),
		Storage: table.Builder, Update: table.Update, WrapProducer: table.WrapProducer,
		Logger: c.Logger(),
	})...)
	if err != nil {
		c.t.Fatal(err)
	}
	beside := []func(context.Context) error{table.Watch}
	if c.Sweeper != nil {
		beside = append(beside, c.Sweeper(table).Run)
	}
	ready := make(chan struct{})
	stop = c.Run(name, func(ctx context.Context) error {
		err := kafka.RunProcessor(ctx, processor, func() { close(ready) }, beside...)
		return errors.Join(err, local.Close())
	})
	c.Await(name+" consumes", ready)
	return stop
}

// ViewSettings are the settings of a view, with an empty local table.
func (c *Cluster) ViewSettings(clientID string) kafka.ViewSettings {
	return kafka.ViewSettings{
		ClientID: clientID, Config: c.Config, Storage: storage.MemoryBuilder(), Logger: c.Logger(),
	}
}

// Await waits for a channel to be closed.
func (c *Cluster) Await(what string, ready <-chan struct{}) {
	c.t.Helper()
	select {
	case <-ready:
	case <-time.After(Patience):
		c.t.Fatalf("not so after %s: %s", Patience, what)
	}
}

// Until polls until what is asked for is so.
func (c *Cluster) Until(what string, condition func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			c.t.Fatalf("not so after %s: %s", Patience, what)
		}
	}
}

// HoldProduce lets the next produce request wait until release is closed.
func (c *Cluster) HoldProduce(release <-chan struct{}) {
	c.Fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.Fake.SleepControl(func() { <-release })
		c.Fake.DropControl()
		return nil, nil, false
	})
}

// Put writes records as they are, the partition included.
func (c *Cluster) Put(records ...*kgo.Record) {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

// Read returns the records of a topic from its beginning, once there are count.
func (c *Cluster) Read(topic string, count int) []*kgo.Record {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.t.Fatalf("read %s: %d of %d records: %v", topic, len(records), count, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}
