package feeds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// sameKind are the ops, sorted by zone, if all of them are of one kind and such as they should be; else nil.
func sameKind[T Op](layout Layout, ops []Op, such func(T) bool) []T {
	same := make([]T, len(ops))
	for i, op := range ops {
		one, ok := op.(T)
		if !ok || !such(one) {
			return nil
		}
		same[i] = one
	}
	slices.SortStableFunc(same, func(a, b T) int { return int(a.InZone(layout)) - int(b.InZone(layout)) })
	return same
}

// eachZone queues ops that are sorted by zone: those of a zone that go together at once.
func eachZone[T Op](
	layout Layout, ops []T, together func(a, b T) bool, queue func(zone Zone, ops []T) func() error,
) (answers []func() error) {
	for len(ops) > 0 {
		zone, n := ops[0].InZone(layout), 1
		for n < len(ops) && ops[n].InZone(layout) == zone && together(ops[0], ops[n]) {
			n++
		}
		answers = append(answers, queue(zone, ops[:n]))
		ops = ops[n:]
	}
	return answers
}

// queueBodies queues operations of which all read bodies, or all write bodies where nothing is: what is in a zone is
// read, or written under one token, at once. It is nil for any others.
func (r *Redis) queueBodies(ctx context.Context, pipe redis.Pipeliner, ops []Op) []func() error {
	if reads := sameKind(r.layout, ops, func(*ReadBody) bool { return true }); reads != nil {
		return eachZone(r.layout, reads, func(_, _ *ReadBody) bool { return true },
			func(zone Zone, reads []*ReadBody) func() error { return queueZoneBodies(ctx, pipe, zone, reads) })
	}
	if writes := sameKind(r.layout, ops, func(w *PutBody) bool { return !w.Replace }); writes != nil {
		return eachZone(r.layout, writes, func(a, b *PutBody) bool { return a.Token == b.Token },
			func(zone Zone, writes []*PutBody) func() error { return queuePutBodies(ctx, pipe, zone, writes) })
	}
	return nil
}

// queueZoneBodies reads bodies of a zone with one MGET, which reads the token with them, and the zone's state once.
func queueZoneBodies(ctx context.Context, pipe redis.Pipeliner, zone Zone, reads []*ReadBody) func() error {
	keys := make([]string, len(reads), len(reads)+1)
	for i, read := range reads {
		keys[i] = zone.postKey(read.Post)
	}
	values := pipe.MGet(ctx, append(keys, zone.tokenKey())...)
	recovering := pipe.HGetAll(ctx, zone.recoveringKey())
	return func() error {
		found, err := values.Result()
		if err := errors.Join(err, recovering.Err()); err != nil {
			return err
		}
		if len(found) != len(reads)+1 {
			return fmt.Errorf("%w: %d values for %d keys", ErrCorrupt, len(found), len(reads)+1)
		}
		token, _ := found[len(reads)].(string)
		state := ZoneState{Token: token, Recovering: len(recovering.Val()) > 0}
		waits := waitsOf(recovering.Val())
		for i, read := range reads {
			value, _ := found[i].(string)
			read.State, read.Waits = state, waits
			read.decode(value)
		}
		return nil
	}
}

// waitsOf is what a zone waits for; nil if nothing.
func waitsOf(fields map[string]string) map[Input]int64 {
	if len(fields) == 0 {
		return nil
	}
	waits := make(map[Input]int64, len(fields))
	for field, value := range fields {
		if input, ok := parseInput(field); ok {
			waits[input], _ = strconv.ParseInt(value, 10, 64) // only the scripts write it
		}
	}
	return waits
}

// decode reads the value of a post's key. One that cannot be read is as if it were not there: the post store has the
// post, or fan-out writes it again.
func (o *ReadBody) decode(value string) {
	o.Body, o.Offset, o.Deleted = nil, 0, strings.HasPrefix(value, "T")
	rest, ok := strings.CutPrefix(value, "B")
	if !ok {
		return
	}
	offset, body, found := strings.Cut(rest, ":")
	if n, err := strconv.ParseInt(offset, 10, 64); found && err == nil {
		o.Offset, o.Body = n, []byte(body)
	}
}

// queuePutBodies writes bodies of a zone, under the same token, by one script.
func queuePutBodies(ctx context.Context, pipe redis.Pipeliner, zone Zone, writes []*PutBody) func() error {
	keys := append(make([]string, 0, 1+len(writes)), zone.tokenKey())
	args := append(make([]any, 0, 2+2*len(writes)), writes[0].Token, int(BodyLife.Seconds()))
	for _, write := range writes {
		keys = append(keys, zone.postKey(write.Post))
		args = append(args, write.Offset, write.value())
	}
	cmd := putBodiesScript.EvalSha(ctx, pipe, keys, args...)
	return func() error {
		done, err := cmd.Int64Slice()
		if err != nil {
			return err
		}
		if len(done) != len(writes) {
			return fmt.Errorf("%w: %d answers for %d bodies", ErrCorrupt, len(done), len(writes))
		}
		for i, write := range writes {
			write.OK = done[i] == 1
		}
		return nil
	}
}

// value is the body as it lies in Redis.
func (o *PutBody) value() []byte {
	b := append(make([]byte, 0, 24+len(o.Body)), 'B')
	b = strconv.AppendInt(b, o.Offset, 10)
	return append(append(b, ':'), o.Body...)
}
