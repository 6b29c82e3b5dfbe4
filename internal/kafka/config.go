package kafka

import (
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/rcrowley/go-metrics"
)

// sarama's meters cost several percent of the CPU and nobody reads them: the program has metrics of its own. The switch
// is the metrics package's, for the whole process, and has to be set before the first client.
func init() { metrics.UseNilMetrics = true }

// Config is a fresh sarama configuration for the client that goes by clientID. goka and sarama change the
// configuration that they are given, so every client gets its own: call Config again rather than sharing one.
func Config(clientID string) *sarama.Config {
	cfg := sarama.NewConfig()
	cfg.ClientID = clientID
	// The oldest protocol level that has everything used here; every broker since then speaks it.
	cfg.Version = sarama.V2_8_0_0
	// Deep enough that a claim reads on while the one partition goroutine of goka is busy; 1,024 pointers.
	cfg.ChannelBufferSize = 1024

	network(cfg)
	produce(cfg)
	consume(cfg)
	return cfg
}

func network(cfg *sarama.Config) {
	cfg.Net.DialTimeout = 5 * time.Second
	// One at a time: with several in flight a batch that is sent again can overtake its successor. (The idempotent
	// producer demands it as well.)
	cfg.Net.MaxOpenRequests = 1
	// Metadata is fetched without a context, so these bound how long a shutdown waits while no broker answers. What has
	// to outlast an election retries around it: the producer below, the group in its own loop.
	cfg.Metadata.Retry.Max = 4
	cfg.Metadata.Retry.Backoff = 250 * time.Millisecond
	// New leaders are found by the error that the old one gives; this is for what no error tells.
	cfg.Metadata.RefreshFrequency = 5 * time.Minute
	// A typing error in a topic's name must not make a topic.
	cfg.Metadata.AllowAutoTopicCreation = false
}

func produce(cfg *sarama.Config) {
	// What is acknowledged is in every in-sync replica, and once.
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Idempotent = true
	cfg.Producer.Timeout = 10 * time.Second
	// 40 s in all: an election takes seconds, a broker that was shut down hard up to its session timeout. Giving up
	// ends the processor, which costs a recovery, so later is better.
	cfg.Producer.Retry.Max = 160
	cfg.Producer.Retry.Backoff = 250 * time.Millisecond
	cfg.Producer.Retry.MaxBufferLength = 100_000
	// A commit waits for its emits, so the linger is latency that every message pays; under load batches are as large
	// as the time that the last one took.
	cfg.Producer.Flush.Frequency = 2 * time.Millisecond
	cfg.Producer.Flush.Bytes = 256 << 10
	// Events and reports are tens of bytes, mostly numbers: compressing them costs more CPU than it saves. A topic can
	// still be compressed by the broker (compression.type).
	cfg.Producer.Compression = sarama.CompressionNone
	// Just below the broker's default of 1,048,588, so that the error comes from here, with a name.
	cfg.Producer.MaxMessageBytes = 1_000_000
	// goka resolves its promises from these channels.
	cfg.Producer.Return.Successes = true
	cfg.Producer.Return.Errors = true
}

func consume(cfg *sarama.Config) {
	// A group without an offset reads everything; the default would skip what was written before it first ran.
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	// An offset out of range is an error that names it (see Group), never a silent jump.
	cfg.Consumer.Group.ResetInvalidOffsets = false
	// The only commits there are: goka never commits by itself. Half a second of work is repeated after a crash.
	cfg.Consumer.Offsets.AutoCommit.Enable = true
	cfg.Consumer.Offsets.AutoCommit.Interval = 500 * time.Millisecond
	cfg.Consumer.Offsets.Retry.Max = 5
	// A fetch waits for data, not for much of it, and takes a lot when there is a backlog.
	cfg.Consumer.Fetch.Min = 1
	cfg.Consumer.Fetch.Default = 1 << 20
	cfg.Consumer.Fetch.Max = 0 // no limit: a record larger than Default must not stop its partition
	cfg.Consumer.MaxWaitTime = 250 * time.Millisecond
	// A claim that takes no message for so long stops holding up the others of its broker.
	cfg.Consumer.MaxProcessingTime = 250 * time.Millisecond
	cfg.Consumer.Retry.Backoff = 250 * time.Millisecond
	// goka drains this channel and logs.
	cfg.Consumer.Return.Errors = true

	// 10 s without a heartbeat and the partitions go to others: longer than a garbage collection or a slow disk,
	// shorter than readers' patience. The heartbeat is how a member hears of a rebalance: at most half a second.
	cfg.Consumer.Group.Session.Timeout = 10 * time.Second
	cfg.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	// What a member may take to hand its partitions over: goka waits up to 60 s for deferred commits.
	cfg.Consumer.Group.Rebalance.Timeout = 70 * time.Second
	cfg.Consumer.Group.Rebalance.Retry.Max = 8
	cfg.Consumer.Group.Rebalance.Retry.Backoff = 250 * time.Millisecond
	// goka needs the same partitions of every topic on one member. (GroupStrategies would be asked only without it.)
	cfg.Consumer.Group.Rebalance.Strategy = goka.CopartitioningStrategy
}
