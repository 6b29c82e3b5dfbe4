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

// bodyReads are the ops, sorted by zone, if all of them read bodies; else nil.
func (r *Redis) bodyReads(ops []Op) []*ReadBody {
	reads := make([]*ReadBody, len(ops))
	for i, op := range ops {
		read, ok := op.(*ReadBody)
		if !ok {
			return nil
		}
		reads[i] = read
	}
	slices.SortStableFunc(reads, func(a, b *ReadBody) int {
		return int(r.layout.OfPost(a.Post)) - int(r.layout.OfPost(b.Post))
	})
	return reads
}

// queueBodies reads bodies that are sorted by zone: those of a zone with one MGET, which reads the token with them, and
// the state of a zone once.
func (r *Redis) queueBodies(ctx context.Context, pipe redis.Pipeliner, reads []*ReadBody) (answers []func() error) {
	for len(reads) > 0 {
		zone, n := r.layout.OfPost(reads[0].Post), 1
		for n < len(reads) && r.layout.OfPost(reads[n].Post) == zone {
			n++
		}
		answers = append(answers, queueZoneBodies(ctx, pipe, zone, reads[:n]))
		reads = reads[n:]
	}
	return answers
}

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

// bodyWrites are the ops, sorted by zone, if all of them are PutBodies that may write where nothing is; else nil.
func (r *Redis) bodyWrites(ops []Op) []*PutBody {
	writes := make([]*PutBody, len(ops))
	for i, op := range ops {
		write, ok := op.(*PutBody)
		if !ok || write.Replace {
			return nil
		}
		writes[i] = write
	}
	slices.SortStableFunc(writes, func(a, b *PutBody) int {
		return int(r.layout.OfPost(a.Post)) - int(r.layout.OfPost(b.Post))
	})
	return writes
}

// queueWrites writes bodies that are sorted by zone: those of a zone, under the same token, by one script.
func (r *Redis) queueWrites(ctx context.Context, pipe redis.Pipeliner, writes []*PutBody) (answers []func() error) {
	for len(writes) > 0 {
		zone, n := r.layout.OfPost(writes[0].Post), 1
		for n < len(writes) && r.layout.OfPost(writes[n].Post) == zone && writes[n].Token == writes[0].Token {
			n++
		}
		answers = append(answers, queuePutBodies(ctx, pipe, zone, writes[:n]))
		writes = writes[n:]
	}
	return answers
}

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
