package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/load"
	"freshet/internal/tables"
)

// latencyRate is the rate of messages at which the log's own latency is measured.
const latencyRate = 10_000

// log measures emitters and processors without freshet's own work: posts with texts as long as usual.
func (b *bench) log(ctx context.Context) error {
	emitted, err := b.emit(ctx)
	if err != nil {
		return err
	}
	for _, stateful := range []bool{false, true} {
		if err := b.consume(ctx, emitted, stateful); err != nil {
			return err
		}
	}
	if err := b.endToEnd(ctx, emitted); err != nil {
		return err
	}
	return b.compression(ctx)
}

// emit writes posts as fast as Kafka acknowledges them.
func (b *bench) emit(ctx context.Context) (int, error) {
	p, err := b.publisher()
	if err != nil {
		return 0, err
	}
	defer p.close() //nolint:errcheck // every write was acknowledged
	b.Progress("emit", 0, 0)
	var acknowledged, failed atomic.Int64
	start := time.Now()
	err = b.profile(func() error {
		for i := 0; time.Since(start) < b.For; i++ {
			id := freshet.PostID(time.Now().UnixNano())
			event := freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
				ID: id, Author: freshet.Number(i % b.Accounts), Text: p.text(), Visibility: freshet.Public, CreatedAt: start,
			}}
			if err := p.emitters.PostAsync(ctx, event, func(_ emitters.Position, err error) {
				if err != nil {
					failed.Add(1)
				}
				acknowledged.Add(1)
			}); err != nil {
				return err
			}
		}
		return nil
	})
	took := time.Since(start)
	err = errors.Join(err, p.close())
	if failed.Load() > 0 {
		err = errors.Join(err, fmt.Errorf("emit: %d writes failed", failed.Load()))
	}
	count := int(acknowledged.Load())
	b.result("emit", float64(count)/took.Seconds(), "messages/s", "one emitter, acks=all, idempotent")
	return count, err
}

// processor runs a goka processor over the posts, with a table if stateful, until the function it answers is called.
func (b *bench) processor(
	ctx context.Context, name string, stateful bool, callback func(ctx goka.Context, m *events.PostEvent) error,
) (stop func() error, err error) {
	names, group := b.servers.names, freshet.Group(name)
	member := kafka.NewGroup(kafka.GroupConfig{Name: names.Group(group), Brokers: b.servers.kafka, Logger: b.Logger})
	settings := kafka.ProcessorSettings{Group: member, Logger: b.Logger}
	edges := []goka.Edge{
		kafka.Input(names.Topic(freshet.Posts), names, group, callback), kafka.DeadLetters(names),
	}
	closed := func() error { return nil }
	if stateful {
		table := freshet.TopicSpec{
			Name: names.Table(group), Partitions: b.Partitions, Compacted: true, Retention: freshet.Forever,
		}
		policy := kafka.TopicPolicy{Replication: 1, MinInSync: 1}
		if err := kafka.EnsureTopics(ctx, b.servers.kafka, []freshet.TopicSpec{table}, policy); err != nil {
			return nil, err
		}
		kept, err := tables.Open(filepath.Join(b.servers.dir, name))
		if err != nil {
			return nil, err
		}
		closed = kept.Close
		own := kept.Processor(goka.Group(names.Group(group)), b.Partitions)
		settings.Storage, settings.Update, settings.WrapProducer = own.Builder, own.Update, own.WrapProducer
		edges = append(edges, goka.Persist(kafka.Codec[events.Stats, *events.Stats]{}))
	}
	p, err := goka.NewProcessor(b.servers.kafka, goka.DefineGroup(goka.Group(names.Group(group)), edges...),
		kafka.ProcessorOptions(settings)...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a processor: %w", err), closed())
	}
	running, cancel := context.WithCancel(ctx)
	ready := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error { return kafka.RunProcessor(running, p, sync.OnceFunc(func() { close(ready) })) })
	stop = func() error {
		cancel()
		return errors.Join(g.Wait(), closed())
	}
	select {
	case <-ready:
		return stop, nil
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), stop())
	}
}

// consume reads what was emitted, and counts posts in a table if stateful.
func (b *bench) consume(ctx context.Context, count int, stateful bool) error {
	var seen atomic.Int64
	var first atomic.Int64
	name := "consume"
	if stateful {
		name = "stateful"
	}
	stop, err := b.processor(ctx, name, stateful, func(ctx goka.Context, _ *events.PostEvent) error {
		first.CompareAndSwap(0, time.Now().UnixNano())
		if stateful {
			row, _ := ctx.Value().(*events.Stats)
			ctx.SetValue(&events.Stats{Posts: row.GetPosts() + 1})
		}
		seen.Add(1)
		return nil
	})
	if err != nil {
		return err
	}
	for int(seen.Load()) < count && err == nil {
		b.Progress(name, int(seen.Load()), count)
		err = sleepUntil(ctx, time.Now().Add(time.Millisecond))
	}
	took := time.Since(time.Unix(0, first.Load()))
	note := "a processor without a table"
	if stateful {
		note = "a row written for each message"
	}
	b.result(name, float64(count)/took.Seconds(), "messages/s", note)
	return errors.Join(err, stop())
}

// endToEnd measures from the publisher's call to the callback of a processor that has caught up with what was emitted
// before. The id of a post is the time of the call.
func (b *bench) endToEnd(ctx context.Context, emitted int) error {
	p, err := b.publisher()
	if err != nil {
		return err
	}
	defer p.close() //nolint:errcheck // of a run that is over
	var seen atomic.Int64
	var mu sync.Mutex
	times, from := load.NewHistogram(), time.Time{}
	stop, err := b.processor(ctx, "latency", false, func(_ goka.Context, m *events.PostEvent) error {
		now := time.Now()
		seen.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if at := time.Unix(0, int64(m.GetId())); !from.IsZero() && at.After(from) {
			load.Record(times, now.Sub(at))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for int(seen.Load()) < emitted {
		if err := sleepUntil(ctx, time.Now().Add(time.Millisecond)); err != nil {
			return errors.Join(err, stop())
		}
	}
	start := time.Now()
	mu.Lock()
	from = start.Add(b.Warm)
	mu.Unlock()
	const tick = time.Millisecond // ten messages at a time, evenly
	var written atomic.Int64
	for i := 0; time.Since(start) < b.For; i++ {
		b.Progress("publish to callback", int(time.Since(start).Milliseconds()), int(b.For.Milliseconds()))
		if err := sleepUntil(ctx, start.Add(time.Duration(i)*tick)); err != nil {
			return errors.Join(err, stop())
		}
		for range latencyRate / int(time.Second/tick) {
			event := freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
				ID: freshet.PostID(time.Now().UnixNano()), Author: freshet.Number(p.rng.IntN(b.Accounts)), Text: p.text(),
				Visibility: freshet.Public, CreatedAt: start,
			}}
			if err := p.emitters.PostAsync(ctx, event, func(_ emitters.Position, err error) {
				if err == nil {
					written.Add(1)
				}
			}); err != nil {
				return errors.Join(err, stop())
			}
		}
	}
	err = p.close()
	for err == nil && seen.Load() < int64(emitted)+written.Load() { // the last ones are the slowest
		err = sleepUntil(ctx, time.Now().Add(time.Millisecond))
	}
	err = errors.Join(err, stop())
	mu.Lock()
	defer mu.Unlock()
	rate := float64(times.TotalCount()) / (b.For - b.Warm).Seconds()
	b.percentiles("publish to callback", times, short(rate)+" messages/s")
	return err
}

// compression compares two topics with the same posts, by what they take on the broker's disk.
func (b *bench) compression(ctx context.Context) error {
	const posts = 50_000
	texts, rng := passages(), b.random()
	sizes := map[string]int64{}
	for _, codec := range []struct {
		name  string
		codec kgo.CompressionCodec
	}{{"plain", kgo.NoCompression()}, {"zstd", kgo.ZstdCompression()}} {
		topic := b.servers.names.Prefix + codec.name
		spec := []freshet.TopicSpec{{Name: topic, Partitions: 1, Retention: freshet.WeekRetention}}
		err := kafka.EnsureTopics(ctx, b.servers.kafka, spec, kafka.TopicPolicy{Replication: 1, MinInSync: 1})
		if err != nil {
			return err
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(b.servers.kafka...), kgo.ProducerBatchCompression(codec.codec),
			kgo.ProducerLinger(20*time.Millisecond), kgo.ProducerBatchMaxBytes(256<<10), kgo.MaxBufferedRecords(posts))
		if err != nil {
			return fmt.Errorf("connect to kafka: %w", err)
		}
		for i := range posts {
			b.Progress("compress", i, posts)
			value, err := proto.Marshal(events.PostEventOf(freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
				ID: freshet.PostID(1<<60 + i<<12), Author: freshet.Number(rng.IntN(b.Accounts)), Text: texts[i%len(texts)],
				Visibility: freshet.Public, CreatedAt: time.Now(),
			}}))
			if err != nil {
				return fmt.Errorf("encode a post: %w", err)
			}
			client.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte("author"), Value: value}, nil)
		}
		err = client.Flush(ctx)
		if err == nil {
			sizes[codec.name], err = sizeOf(ctx, client, topic)
		}
		client.Close()
		if err != nil {
			return fmt.Errorf("measure the size of %s: %w", topic, err)
		}
	}
	if sizes["zstd"] == 0 {
		b.Logger.Warn("this Kafka does not say how large its topics are; compression is left out")
		return nil
	}
	b.result("compression by zstd", float64(sizes["plain"])/float64(sizes["zstd"]), "times",
		fmt.Sprintf("%s bytes of %d posts of Newton's Opticks become %s", short(float64(sizes["plain"])), posts,
			short(float64(sizes["zstd"]))))
	return nil
}

func sizeOf(ctx context.Context, client *kgo.Client, topic string) (int64, error) {
	var set kadm.TopicsSet
	set.Add(topic, 0)
	dirs, err := kadm.NewClient(client).DescribeAllLogDirs(ctx, set)
	size := int64(0)
	dirs.Each(func(d kadm.DescribedLogDir) { size += d.Topics.Size() })
	return size, err
}
