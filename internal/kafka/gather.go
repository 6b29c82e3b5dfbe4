package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// A claim that gathers looks ahead: what lies ready at sarama, up to a window, is sorted by key, and the messages of a
// key are handed to goka as one, so that a row which many messages change is read and written once. The order within a
// key is kept. To the tracker they remain what they are: the one message goes by the first one's offset, and when it is
// marked all of them are finished.
//
// A full window, a pause of the topic, and the bound on messages in flight hand the window over. What is in it when the
// session ends was never delivered and comes again.

// The bounds of a window: messages, and bytes of values (the last one may go over it).
const (
	windowMessages = 4096
	windowBytes    = 1 << 20
)

// window is messages that were tracked and not handed over.
type window struct {
	runs     []run          // in the order of their first messages
	byKey    map[string]int // place in runs
	messages int
	bytes    int
}

// run is the messages of one key, in order.
type run []*sarama.ConsumerMessage

func (w *window) add(msg *sarama.ConsumerMessage) {
	i, ok := w.byKey[string(msg.Key)]
	if !ok {
		i = len(w.runs)
		w.byKey[string(msg.Key)] = i
		w.runs = append(w.runs, nil)
	}
	w.runs[i] = append(w.runs[i], msg)
	w.messages++
	w.bytes += len(msg.Value)
}

func (w *window) full() bool { return w.messages >= windowMessages || w.bytes >= windowBytes }

func (w *window) reset() {
	clear(w.runs)
	w.runs, w.messages, w.bytes = w.runs[:0], 0, 0
	clear(w.byKey)
}

// gather is deliver for a claim that gathers.
func (c *claim) gather(ctx context.Context, from <-chan *sarama.ConsumerMessage, to chan<- *sarama.ConsumerMessage) {
	w := &window{byKey: map[string]int{}}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		msg, ok := c.ahead(ctx, w, pause, from)
		switch {
		case !ok:
			return
		case msg == nil:
			if !c.handOver(ctx, w, to) {
				return
			}
			continue
		}
		if !c.tracked(msg.Offset) && (!c.handOver(ctx, w, to) || !c.track(ctx, msg.Offset)) {
			return
		}
		// A message that cannot be put beside others goes alone, after those before it.
		alone := msg.Value == nil || len(msg.Headers) > 0
		if alone && !c.handOver(ctx, w, to) {
			return
		}
		if w.messages == 0 {
			pause.Reset(c.linger)
		}
		w.add(msg)
		if (alone || w.full()) && !c.handOver(ctx, w, to) {
			return
		}
	}
}

// ahead is the next message; nil when the window has waited long enough for one, and false at the end.
func (c *claim) ahead(
	ctx context.Context, w *window, pause *time.Timer, from <-chan *sarama.ConsumerMessage,
) (*sarama.ConsumerMessage, bool) {
	select { // what is there comes before the pause
	case msg, ok := <-from:
		return msg, ok
	default:
	}
	var over <-chan time.Time
	if w.messages > 0 {
		over = pause.C
	}
	select {
	case msg, ok := <-from:
		return msg, ok
	case <-over:
		return nil, true
	case <-ctx.Done():
		return nil, false
	}
}

// handOver gives what is in the window to goka; false if ctx ended first.
func (c *claim) handOver(ctx context.Context, w *window, to chan<- *sarama.ConsumerMessage) bool {
	defer w.reset()
	for _, r := range w.runs {
		if len(r) > 1 {
			c.mu.Lock()
			c.gathered[r[0].Offset] = r.others()
			c.mu.Unlock()
		}
		select {
		case to <- r.message():
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// others are the offsets of all but the first.
func (r run) others() []int64 {
	offsets := make([]int64, len(r)-1)
	for i, msg := range r[1:] {
		offsets[i] = msg.Offset
	}
	return offsets
}

// message is the one that stands for all of the run.
func (r run) message() *sarama.ConsumerMessage {
	first := r[0]
	if len(r) == 1 && (len(first.Value) == 0 || first.Value[0] != gatheredMark) {
		return first
	}
	size := 1
	for _, msg := range r {
		size += len(msg.Value) + 3*binary.MaxVarintLen64
	}
	data := append(make([]byte, 0, size), gatheredMark)
	for _, msg := range r {
		data = binary.AppendUvarint(data, uint64(msg.Offset))
		data = binary.AppendVarint(data, msg.Timestamp.UnixMilli())
		data = binary.AppendUvarint(data, uint64(len(msg.Value)))
		data = append(data, msg.Value...)
	}
	one := *first
	one.Value = data
	return &one
}

// gatheredMark begins the value of a gathered message. No protobuf message begins with it, for there is no field 0.
const gatheredMark = 0

// errGathered is wrapped by errors that mean a defect: what the claim wrote, the codec reads.
var errGathered = errors.New("not a gathered message")

// placed is a message as it was read, with its place.
type placed struct {
	data      []byte
	offset    int64
	timestamp time.Time
}

// gatheredIn takes a gathered message apart.
func gatheredIn(data []byte) ([]placed, error) {
	rest := data[1:]
	var all []placed
	for len(rest) > 0 {
		offset, n := binary.Uvarint(rest)
		if n <= 0 {
			return nil, fmt.Errorf("%w: offset of message %d", errGathered, len(all))
		}
		rest = rest[n:]
		millis, n := binary.Varint(rest)
		if n <= 0 {
			return nil, fmt.Errorf("%w: time of message %d", errGathered, len(all))
		}
		rest = rest[n:]
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, fmt.Errorf("%w: length of message %d", errGathered, len(all))
		}
		rest = rest[n:]
		all = append(all, placed{rest[:size:size], int64(offset), time.UnixMilli(millis)})
		rest = rest[size:]
	}
	return all, nil
}
