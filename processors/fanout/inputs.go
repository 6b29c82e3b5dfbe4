package fanout

import (
	"context"
	"fmt"
	"maps"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts"
)

// inputs stands between the consumer group, which speaks of topics of Kafka, and the feed writer, which speaks of what
// its messages write to Redis.
type inputs struct {
	names   freshet.Names
	group   *kafka.Group
	lookup  *kafka.Lookup
	store   posts.Reporter
	watcher *posts.Watcher // of store
}

func (in *inputs) topic(input string) string {
	switch input {
	case feeds.InputPosts:
		return in.names.Topic(freshet.Posts)
	case feeds.InputReplays:
		return in.names.Topic(freshet.Replays)
	}
	return in.names.Loop(freshet.FanoutGroup)
}

// topics are those whose messages write to Redis.
func (in *inputs) topics() []string {
	return []string{in.topic(feeds.InputPosts), in.topic(feeds.InputReplays), in.topic(feeds.InputLoop)}
}

func (in *inputs) toFeeds(offsets map[kafka.TopicPartition]int64) map[feeds.Input]int64 {
	translated := make(map[feeds.Input]int64, len(offsets))
	for _, input := range []string{feeds.InputPosts, feeds.InputReplays, feeds.InputLoop} {
		topic := in.topic(input)
		for at, offset := range offsets {
			if at.Topic == topic {
				translated[feeds.Input{Topic: input, Partition: at.Partition}] = offset
			}
		}
	}
	return translated
}

func (in *inputs) toKafka(offsets map[feeds.Input]int64) map[kafka.TopicPartition]int64 {
	translated := make(map[kafka.TopicPartition]int64, len(offsets))
	for input, offset := range offsets {
		translated[kafka.TopicPartition{Topic: in.topic(input.Topic), Partition: input.Partition}] = offset
	}
	return translated
}

func (in *inputs) hooks() feeds.Inputs {
	return feeds.Inputs{
		Finished: func() (uint64, map[feeds.Input]int64) {
			p := in.group.Positions()
			return p.Session, in.toFeeds(p.Offsets)
		},
		Release: func(session uint64, offsets map[feeds.Input]int64) {
			in.group.Release(kafka.Positions{Session: session, Offsets: in.toKafka(offsets)})
		},
		Back: func(offsets map[feeds.Input]int64) { in.group.Seek(in.toKafka(offsets)) },
		At: func(ctx context.Context) (feeds.Positions, error) {
			return in.positions(ctx, in.group.Assignment())
		},
		Ends: func(ctx context.Context) (map[feeds.Input]int64, error) {
			ends, err := in.lookup.Ends(ctx, in.topics()...)
			return in.toFeeds(ends), err
		},
	}
}

// positions looks up where the group stands in the partitions of a session that write to Redis.
func (in *inputs) positions(ctx context.Context, claims map[string][]int32) (feeds.Positions, error) {
	found, err := in.lookup.Committed(ctx, in.names.Group(freshet.FanoutGroup), in.topics()...)
	if err != nil {
		return feeds.Positions{}, err
	}
	committed := map[kafka.TopicPartition]int64{}
	for topic, partitions := range claims {
		for _, partition := range partitions {
			at := kafka.TopicPartition{Topic: topic, Partition: partition}
			offset, ok := found[at]
			if !ok {
				offset = -1
			}
			committed[at] = offset
		}
	}
	return in.beside(ctx, committed)
}

// beside puts how far the post store is beside committed offsets.
func (in *inputs) beside(ctx context.Context, committed map[kafka.TopicPartition]int64) (feeds.Positions, error) {
	progress, err := in.store.Progress(ctx)
	if err != nil {
		return feeds.Positions{}, fmt.Errorf("ask how far the post store is: %w", err)
	}
	at := feeds.Positions{Committed: in.toFeeds(committed), Stored: map[int32]int64{}}
	for partition, p := range progress {
		at.Stored[partition] = p.Offset
	}
	return at, nil
}

// assigned prepares Redis for a session and says how far it has to go back.
func (f *Fanout) assigned(
	ctx context.Context, committed map[kafka.TopicPartition]int64,
) (map[kafka.TopicPartition]int64, error) {
	at, err := f.inputs.beside(ctx, committed)
	if err != nil {
		return nil, err
	}
	d, err := f.writer.Recover(ctx, at)
	back := f.inputs.toKafka(d.Back)
	maps.Copy(back, f.inputs.toKafka(d.Marked)) // not lower than the beginning, unless that was removed
	return back, err
}

// removed makes good for what Kafka has lost before it was delivered. What was to be said to trees is said again by
// sweeps, and until then readers merge the outboxes of those that they follow; posts are in the post store, as far as
// the archive had them; and what was replayed had been a post.
func (f *Fanout) removed(ctx context.Context, gone map[kafka.TopicPartition]kafka.Gone) error {
	lost := int64(0)
	for at, records := range gone {
		if at.Topic == f.inputs.topic(feeds.InputPosts) || at.Topic == f.inputs.topic(feeds.InputLoop) {
			lost += records.To - records.From
		}
	}
	if lost == 0 {
		return nil
	}
	f.log.Warn("posts were removed before they were delivered: every feed is built anew when it is read", "records", lost)
	return f.writer.Reload(ctx)
}

// progressEvery is how often the post store is asked how far it is: what it has is not written to Redis again.
const progressEvery = time.Second

// stored says whether the post store is known to have the record at an offset of a partition of posts.
func (in *inputs) stored(partition int32, offset int64) bool {
	return offset < in.watcher.Last()[partition].Offset
}
