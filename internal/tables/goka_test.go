package tables

import (
	"context"
	"fmt"
	"hash"
	"io"
	"log"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	group      = "rows"
	input      = "input"
	partitions = 2
)

// kafka is a broker with the topics of a processor.
type kafka struct {
	t       *testing.T
	cluster *kfake.Cluster
	// refuse makes the broker refuse every record for the table.
	refuse atomic.Bool
}

func startKafka(t *testing.T) *kafka {
	t.Helper()
	k := &kafka{t: t}
	var err error
	k.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(1), kfake.SeedTopics(partitions, input),
		kfake.BrokerConfigs(map[string]string{"log.retention.ms": "-1"}))
	must(t, err)
	t.Cleanup(k.cluster.Close)
	compact := "compact"
	must(t, k.cluster.CreateTopic(group+"-table", partitions, map[string]string{"cleanup.policy": compact}))
	k.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.cluster.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if !k.refuse.Load() || len(r.Topics) == 0 || r.Topics[0].Topic != group+"-table" {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range r.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, kerr.InvalidRecord.Code, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	return k
}

func (k *kafka) config() *sarama.Config {
	c := goka.DefaultConfig()
	c.Version = sarama.V2_8_0_0
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Flush.Frequency = time.Millisecond
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Interval = 10 * time.Millisecond
	return c
}

// managers builds goka's topic managers without its defaults for new topics, which need two brokers. goka leaves some
// of its clients open, so the test closes them all; the second Close of one is an error that says nothing.
func (k *kafka) managers() goka.TopicManagerBuilder {
	c := goka.NewTopicManagerConfig()
	c.Table.Replication, c.Stream.Replication = 1, 1
	build := goka.TopicManagerBuilderWithConfig(k.config(), c)
	return func(brokers []string) (goka.TopicManager, error) {
		m, err := build(brokers)
		if err == nil {
			k.t.Cleanup(func() { _ = m.Close() })
		}
		return m, err
	}
}

// consumers builds goka's consumers, and closes them as managers does.
func (k *kafka) consumers() goka.SaramaConsumerBuilder {
	build := goka.SaramaConsumerBuilderWithConfig(k.config())
	return func(brokers []string, id string) (sarama.Consumer, error) {
		c, err := build(brokers, id)
		if err == nil {
			k.t.Cleanup(func() { _ = c.Close() })
		}
		return c, err
	}
}

var quiet = log.New(io.Discard, "", 0)

// run runs a processor that stores each message's value under its key, until stop is called or it fails. stop returns
// the processor's error.
func (k *kafka) run(tables *Tables) (p *goka.Processor, stop func() error) {
	k.t.Helper()
	g := goka.DefineGroup(group,
		goka.Input(input, new(codec.Bytes), func(ctx goka.Context, msg any) { ctx.SetValue(msg) }),
		goka.Persist(new(codec.Bytes)))
	holder := tables.Processor(group, partitions)
	p, err := goka.NewProcessor(k.cluster.ListenAddrs(), g,
		goka.WithStorageBuilder(holder.Builder),
		goka.WithUpdateCallback(holder.Update(goka.DefaultUpdate)),
		goka.WithConsumerGroupBuilder(goka.ConsumerGroupBuilderWithConfig(k.config())),
		goka.WithConsumerSaramaBuilder(k.consumers()),
		goka.WithTopicManagerBuilder(k.managers()),
		goka.WithProducerBuilder(func(brokers []string, id string, hasher func() hash.Hash32) (goka.Producer, error) {
			producer, err := goka.ProducerBuilderWithConfig(k.config())(brokers, id, hasher)
			if err != nil {
				return nil, err
			}
			return holder.WrapProducer(producer), nil
		}),
		goka.WithLogger(quiet))
	must(k.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return p, func() error { cancel(); return <-done }
}

func (k *kafka) view(tables *Tables, name string) (v *goka.View, stop func()) {
	k.t.Helper()
	v, err := goka.NewView(k.cluster.ListenAddrs(), group+"-table", new(codec.Bytes),
		goka.WithViewStorageBuilder(tables.View(name).Builder),
		goka.WithViewCallback(tables.View(name).Update(goka.DefaultUpdate)),
		goka.WithViewConsumerSaramaBuilder(k.consumers()),
		goka.WithViewTopicManagerBuilder(k.managers()),
		goka.WithViewAutoReconnect(),
		goka.WithViewLogger(quiet))
	must(k.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	return v, func() {
		cancel()
		must(k.t, <-done)
	}
}

func (k *kafka) emit(from, to int) {
	k.t.Helper()
	e, err := goka.NewEmitter(k.cluster.ListenAddrs(), input, new(codec.Bytes),
		goka.WithEmitterProducerBuilder(goka.ProducerBuilderWithConfig(k.config())),
		goka.WithEmitterTopicManagerBuilder(k.managers()), goka.WithEmitterLogger(quiet))
	must(k.t, err)
	for i := from; i < to; i++ {
		_, err := e.Emit(fmt.Sprint("key", i%50), fmt.Append(nil, i))
		must(k.t, err)
	}
	must(k.t, e.Finish())
}

// eventually waits until ok says true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// changelog is the table that the changelog describes.
func (k *kafka) changelog() map[string]string {
	k.t.Helper()
	consumer, err := sarama.NewConsumer(k.cluster.ListenAddrs(), k.config())
	must(k.t, err)
	defer func() { must(k.t, consumer.Close()) }()
	table := map[string]string{}
	for p := range int32(partitions) {
		end := k.cluster.PartitionInfo(group+"-table", p).HighWatermark
		pc, err := consumer.ConsumePartition(group+"-table", p, sarama.OffsetOldest)
		must(k.t, err)
		for offset := int64(-1); offset < end-1; {
			select {
			case msg := <-pc.Messages():
				offset = msg.Offset
				if !strings.HasPrefix(string(msg.Key), fencePrefix) {
					play(table, row{string(msg.Key), msg.Value})
				}
			case <-time.After(30 * time.Second):
				k.t.Fatalf("partition %d of the changelog: nothing behind offset %d of %d", p, offset, end)
			}
		}
		must(k.t, pc.Close())
	}
	return table
}

// stored is what lies in the database for a processor or a view.
func stored(t *testing.T, tables *Tables, o owner) map[string]string {
	t.Helper()
	found := map[string]string{}
	for p := range int32(partitions) {
		st, err := Holder{tables: tables, owner: o}.Builder(group+"-table", p)
		must(t, err)
		must(t, st.Open())
		it, err := st.Iterator()
		must(t, err)
		for it.Next() {
			value, err := it.Value()
			must(t, err)
			found[string(it.Key())] = string(value)
		}
		it.Release()
		must(t, st.Close())
	}
	return found
}

func want(from, to int) map[string]string {
	table := map[string]string{}
	for i := from; i < to; i++ {
		table[fmt.Sprint("key", i%50)] = fmt.Sprint(i)
	}
	return table
}

// A processor whose table rows are refused leaves nothing of them on disk; when Kafka takes them again, the processor's
// disk, the views' and the changelog agree, and so does a table that is recovered from nothing.
func TestGoka(t *testing.T) {
	k := startKafka(t)
	dir := t.TempDir()
	tables := openTables(t, dir, vfs.Default)
	own := owner{processorKind, group}

	p, stop := k.run(tables)
	k.emit(0, 200)
	first := want(0, 200)
	eventually(t, "the changelog has 200 rows", func() bool { return k.length() == 200+partitions })
	k.refuse.Store(true)
	k.emit(200, 300)
	// The processor fails by itself; its error says why.
	<-p.Done()
	if err := stop(); err == nil {
		t.Fatal("the processor did not fail, though its rows were refused")
	}
	must(t, tables.Close())

	tables = openTables(t, dir, vfs.Default)
	if got := stored(t, tables, own); !maps.Equal(got, first) || !maps.Equal(got, k.changelog()) {
		t.Fatalf("after the refusal: got %v, want %v", got, first)
	}

	k.refuse.Store(false)
	_, stop = k.run(tables)
	one, stopOne := k.view(tables, "one")
	two, stopTwo := k.view(tables, "two")
	all := want(0, 300)
	for name, v := range map[string]*goka.View{"one": one, "two": two} {
		eventually(t, "view "+name+" has everything", func() bool {
			for key, value := range all {
				if got, err := v.Get(key); err != nil || got == nil || string(got.([]byte)) != value {
					return false
				}
			}
			return v.Recovered()
		})
	}
	stopOne()
	stopTwo()
	must(t, stop())
	changelog := k.changelog()
	if !maps.Equal(changelog, all) {
		t.Fatalf("the changelog: %v, want %v", changelog, all)
	}
	for _, o := range []owner{own, {viewKind, "one"}, {viewKind, "two"}} {
		if got := stored(t, tables, o); !maps.Equal(got, changelog) {
			t.Errorf("%c %s: got %v, want %v", o.kind, o.name, got, changelog)
		}
	}
	must(t, tables.Close())

	tables = openTables(t, t.TempDir(), vfs.Default)
	p, stop = k.run(tables)
	eventually(t, "a processor without local data has recovered", p.Recovered)
	must(t, stop())
	if got := stored(t, tables, own); !maps.Equal(got, changelog) {
		t.Errorf("recovered from nothing: got %v, want %v", got, changelog)
	}
	must(t, tables.Close())
}

// length is how many records the changelog has, of which each session has written a fence a partition.
func (k *kafka) length() (n int64) {
	for _, p := range k.cluster.PartitionInfos(group + "-table") {
		n += p.HighWatermark
	}
	return n
}
