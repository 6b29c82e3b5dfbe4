package kafka

import (
	"errors"
	"fmt"
	"time"

	"freshet"

	"github.com/lovoo/goka"
)

// Record is a message of a batch.
type Record[P any] struct {
	Msg       P
	Offset    int64
	Timestamp time.Time

	data    []byte
	invalid error
}

// BatchInput is Input for a topic that may be gathered (GroupConfig.Gathered): callback gets the messages of one key
// that lay ready together, in order; one, if the topic is not gathered. The context's key and partition are those of
// all of them; its offset is the first one's.
//
// Errors are as with Handle, but for a batch that is given up: each of its messages is processed once more alone, so
// that only those become dead letters that are at fault.
func BatchInput[T any, P Message[T]](topic string, names freshet.Names, group freshet.Group,
	callback func(ctx goka.Context, batch []Record[P]) error) goka.Edge {
	return goka.Input(goka.Stream(topic), batchCodec[T, P]{}, handleBatches(names, group, callback))
}

// BatchLoop is BatchInput for the group's loop topic.
func BatchLoop[T any, P Message[T]](names freshet.Names, group freshet.Group,
	callback func(ctx goka.Context, batch []Record[P]) error) goka.Edge {
	return goka.Loop(batchCodec[T, P]{}, handleBatches(names, group, callback))
}

func handleBatches[P any](names freshet.Names, group freshet.Group,
	callback func(ctx goka.Context, batch []Record[P]) error) goka.ProcessCallback {
	letters := letterBox{stream: goka.Stream(names.Topic(freshet.DeadLetters)), group: names.Group(group)}
	return func(ctx goka.Context, value any) {
		if letters.notMine(ctx) { // a message with headers is never gathered
			return
		}
		batch, ok := value.([]Record[P])
		switch {
		case value == nil:
			letters.put(ctx, nil, errNilValue)
			return
		case !ok:
			abort(ctx, fmt.Errorf("topic %s: its codec gives a %T", ctx.Topic(), value))
			return
		}
		if batch[0].Offset == alone {
			batch[0].Offset, batch[0].Timestamp = ctx.Offset(), ctx.Timestamp()
		}
		if err := handleBatch(ctx, letters, batch, callback); err != nil {
			abort(ctx, fmt.Errorf("%s/%d at offset %d: %w", ctx.Topic(), ctx.Partition(), ctx.Offset(), err))
		}
	}
}

// handleBatch returns the errors that end the processor.
func handleBatch[P any](ctx goka.Context, letters letterBox, batch []Record[P],
	callback func(ctx goka.Context, batch []Record[P]) error) error {
	good := make([]Record[P], 0, len(batch))
	for _, r := range batch {
		if r.invalid != nil {
			letters.putAt(ctx, r.Offset, r.Timestamp, r.data, r.invalid)
			continue
		}
		good = append(good, r)
	}
	if len(good) == 0 {
		return nil
	}
	err := call(ctx, good, callback)
	switch {
	case err == nil || !errors.Is(err, ErrPoison):
		return err
	case len(good) == 1:
		letters.putAt(ctx, good[0].Offset, good[0].Timestamp, good[0].data, err)
		return nil
	}
	for i := range good {
		if err := handleBatch(ctx, letters, good[i:i+1], callback); err != nil {
			return err
		}
	}
	return nil
}

// batchCodec decodes messages, gathered or not, to a []Record[P]; it encodes as Codec does.
type batchCodec[T any, P Message[T]] struct{ Codec[T, P] }

// alone is the offset of a record that was not gathered, until the context tells it.
const alone = -1

func (c batchCodec[T, P]) Decode(data []byte) (any, error) {
	messages := []placed{{data: data, offset: alone}}
	if len(data) > 0 && data[0] == gatheredMark {
		taken, err := gatheredIn(data)
		if err == nil && len(taken) > 0 {
			messages = taken
		} // else it is no message of any kind, and becomes a dead letter
	}
	batch := make([]Record[P], len(messages))
	for i, m := range messages {
		batch[i] = Record[P]{Offset: m.offset, Timestamp: m.timestamp, data: m.data}
		value, err := c.Codec.Decode(m.data)
		if err != nil {
			return nil, err
		}
		switch v := value.(type) {
		case P:
			batch[i].Msg = v
		case *Invalid:
			batch[i].invalid = v.Err
		}
	}
	return batch, nil
}
