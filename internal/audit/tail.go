package audit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/internal/kafka"
)

// pollRecords is how many records are taken in at once.
const pollRecords = 8192

// tail reads a topic from given offsets and goes on as it grows.
type tail struct {
	topic  string
	reader *kafka.Reader

	mu   sync.Mutex
	next map[int32]int64 // below which everything has been taken in
	err  error           // why it ended
}

// openTail begins at from, which names every partition.
func openTail(brokers []string, topic string, from map[int32]int64, opts []kgo.Opt) (*tail, error) {
	reader, err := kafka.OpenReader(brokers, topic, from, opts...)
	if err != nil {
		return nil, err
	}
	t := &tail{topic: topic, reader: reader, next: map[int32]int64{}}
	for partition, offset := range from {
		t.next[partition] = offset
	}
	return t, nil
}

// run takes records in until ctx ends, those of a partition in their order, and closes the reader. What goes wrong with
// the brokers is tried again; an error of take ends it and is what await returns from then on.
func (t *tail) run(ctx context.Context, take func([]kafka.Fetched) error) error {
	defer t.reader.Close()
	for ctx.Err() == nil {
		records, _ := t.reader.Poll(ctx, pollRecords) // who waits has a time to wait
		if len(records) == 0 {
			continue
		}
		if err := take(records); err != nil {
			err = fmt.Errorf("take in records of %s: %w", t.topic, err)
			t.mu.Lock()
			t.err = err
			t.mu.Unlock()
			return err
		}
		t.mu.Lock()
		for _, r := range records {
			t.next[r.Partition] = r.Offset + 1
		}
		t.mu.Unlock()
	}
	return nil
}

// taken is how many records have been taken in of those below ends, and how many there are of them.
func (t *tail) taken(from, ends map[int32]int64) (done, total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for partition, end := range ends {
		total += int(end - from[partition])
		done += int(min(t.next[partition], end) - from[partition])
	}
	return done, total
}

// await waits until everything below ends has been taken in.
func (t *tail) await(ctx context.Context, ends map[int32]int64) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		t.mu.Lock()
		err, behind := t.err, false
		for partition, end := range ends {
			behind = behind || t.next[partition] < end
		}
		t.mu.Unlock()
		if err != nil || !behind {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("read %s up to its ends: %w", t.topic, context.Cause(ctx))
		}
	}
}
