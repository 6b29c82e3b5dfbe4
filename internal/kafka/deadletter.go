package kafka

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"freshet"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
)

// The headers of a dead letter, beside those that the message had.
const (
	HeaderGroup     = "dead-letter-group"     // the group that gave the message up, by its name in Kafka
	HeaderTopic     = "dead-letter-topic"     // where it lay: topic, partition and offset
	HeaderPartition = "dead-letter-partition" // decimal
	HeaderOffset    = "dead-letter-offset"    // decimal
	HeaderTimestamp = "dead-letter-timestamp" // the message's, RFC 3339 with nanoseconds
	HeaderError     = "dead-letter-error"     // why
)

// The headers of a message that is tried again: it lies where it lay, behind what has come since, and only one group is
// to process it. Others pass over it, and so should whoever reads topics without this package.
const (
	HeaderOnly  = "dead-letter-only"  // that group, by its name in Kafka
	HeaderTries = "dead-letter-tries" // how often it was given up, decimal
)

// maxErrorHeader bounds HeaderError, in bytes: a stack must not push a record over the broker's limit.
const maxErrorHeader = 4096

// ErrPoison is wrapped by the errors of Poison.
var ErrPoison = errors.New("this message cannot be processed")

var errNilValue = errors.New("the message has no value")

// Poison marks err as the message's fault: the message becomes a dead letter and the stream goes on. A callback returns
// it before it has written or emitted anything. The poison of nil is nil.
func Poison(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrPoison, err)
}

// DeadLetters is the edge that every group with a Handle, an Input or a Loop needs: it may then write dead letters.
func DeadLetters(names freshet.Names) goka.Edge {
	return goka.Output(goka.Stream(names.Topic(freshet.DeadLetters)), new(codec.Bytes))
}

// Input is a goka.Input of protobuf messages with Handle around callback. A message that is given up is written to the
// dead letters byte for byte as it was read, also when the callback had changed the message.
func Input[T any, P Message[T]](topic string, names freshet.Names, group freshet.Group,
	callback func(ctx goka.Context, msg P) error) goka.Edge {
	return goka.Input(goka.Stream(topic), inputCodec[T, P]{}, Handle(names, group, callback))
}

// Loop is Input for the group's loop topic.
func Loop[T any, P Message[T]](names freshet.Names, group freshet.Group,
	callback func(ctx goka.Context, msg P) error) goka.Edge {
	return goka.Loop(inputCodec[T, P]{}, Handle(names, group, callback))
}

// Handle makes a goka callback of one that returns errors.
//
//   - A message that is tried again for another group (HeaderOnly) is passed over.
//   - A message that is nil or *Invalid, and one for which callback returns an error that wraps ErrPoison or panics, is
//     written to the dead letters, and the stream goes on. A poisoned message is encoded again (Input keeps the bytes).
//   - Any other error ends the processor, also while it is shutting down, and the message is not committed.
//   - goka's own panics (Context.Fail, and the errors of its other methods) are passed on.
func Handle[P proto.Message](names freshet.Names, group freshet.Group,
	callback func(ctx goka.Context, msg P) error) goka.ProcessCallback {
	letters := letterBox{stream: goka.Stream(names.Topic(freshet.DeadLetters)), group: names.Group(group)}
	return func(ctx goka.Context, value any) {
		if letters.notMine(ctx) {
			return
		}
		var msg P
		var raw func() ([]byte, error)
		switch v := value.(type) {
		case nil:
			letters.put(ctx, nil, errNilValue)
			return
		case *Invalid:
			letters.put(ctx, v.Data, v.Err)
			return
		case *input[P]:
			msg, raw = v.msg, func() ([]byte, error) { return v.data, nil }
		case P:
			msg, raw = v, func() ([]byte, error) { return proto.MarshalOptions{Deterministic: true}.Marshal(v) }
		default:
			abort(ctx, fmt.Errorf("topic %s: its codec gives %T, its callback takes %T", ctx.Topic(), value, msg))
			return
		}
		err := call(ctx, msg, callback)
		switch {
		case err == nil:
		case errors.Is(err, ErrPoison):
			data, encodeErr := raw()
			if encodeErr != nil {
				abort(ctx, fmt.Errorf("dead letter: %w", errors.Join(err, encodeErr)))
				return
			}
			letters.put(ctx, data, err)
		default:
			abort(ctx, fmt.Errorf("%s/%d at offset %d: %w", ctx.Topic(), ctx.Partition(), ctx.Offset(), err))
		}
	}
}

// abort ends the processor without committing the message. Context.Fail would do the same by a panic, but returns, and
// lets the message be committed, when the processor is already shutting down.
func abort(ctx goka.Context, err error) {
	done := ctx.DeferCommit()
	done(err)
}

// call turns a panic of the callback into poison, and lets goka's own through.
func call[P any](ctx goka.Context, msg P, callback func(goka.Context, P) error) (err error) {
	guard := &guarded{gokaContext: ctx}
	defer func() {
		if guard.inside {
			return // not recovered: goka needs this panic, as it is
		}
		if r := recover(); r != nil {
			err = Poison(fmt.Errorf("panic: %v\n%s", r, debug.Stack()))
		}
	}()
	return callback(guard, msg)
}

// DeadLetterCount counts, for /metrics, what the groups of this process have given up.
var DeadLetterCount = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "freshet_dead_letters_total",
	Help: "Messages that the group could not process and has given up; freshet dlq lists them.",
}, []string{"group", "topic"})

type letterBox struct {
	stream goka.Stream
	group  string
}

// notMine says that the context's message is tried again for another group.
func (l letterBox) notMine(ctx goka.Context) bool {
	only, found := ctx.Headers()[HeaderOnly]
	return found && string(only) != l.group
}

// put emits a dead letter; the message that it is about is committed when the letter is acknowledged. nil data becomes
// a nil value, empty data an empty one.
func (l letterBox) put(ctx goka.Context, data []byte, cause error) {
	l.putAt(ctx, ctx.Offset(), ctx.Timestamp(), data, cause)
}

// putAt is put for one message of several that share a context.
func (l letterBox) putAt(ctx goka.Context, offset int64, at time.Time, data []byte, cause error) {
	text := cause.Error()
	if len(text) > maxErrorHeader {
		text = text[:maxErrorHeader]
	}
	headers := ctx.Headers().Merged(goka.Headers{
		HeaderGroup:     []byte(l.group),
		HeaderTopic:     []byte(ctx.Topic()),
		HeaderPartition: []byte(strconv.FormatInt(int64(ctx.Partition()), 10)),
		HeaderOffset:    []byte(strconv.FormatInt(offset, 10)),
		HeaderTimestamp: []byte(at.UTC().Format(time.RFC3339Nano)),
		HeaderError:     []byte(text),
	})
	DeadLetterCount.WithLabelValues(l.group, string(ctx.Topic())).Inc()
	if data == nil {
		ctx.Emit(l.stream, ctx.Key(), nil, goka.WithCtxEmitHeaders(headers))
		return
	}
	ctx.Emit(l.stream, ctx.Key(), data, goka.WithCtxEmitHeaders(headers))
}
