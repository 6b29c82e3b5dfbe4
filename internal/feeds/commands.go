package feeds

import (
	"context"
	"crypto/sha1" //nolint:gosec // compares values, as Redis' own sha1hex does; nothing is secured by it
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// BodyLife is how long bodies and tombstones stay in Redis. The archive group may not lag longer.
const BodyLife = 48 * time.Hour

// counterLife is how long the counter of a writer that has gone stays behind.
const counterLife = 48 * time.Hour

var (
	//go:embed scripts/open.lua
	openSource string
	//go:embed scripts/advance.lua
	advanceSource string
	//go:embed scripts/recover.lua
	recoverSource string
	//go:embed scripts/put_body.lua
	putBodySource string
	//go:embed scripts/put_bodies.lua
	putBodiesSource string
	//go:embed scripts/rewrite_outbox.lua
	rewriteOutboxSource string
	//go:embed scripts/drop_outbox.lua
	dropOutboxSource string
	//go:embed scripts/unload_outbox.lua
	unloadOutboxSource string
	//go:embed scripts/swap_feed.lua
	swapFeedSource string
	//go:embed scripts/compact.lua
	compactSource string

	openScript          = redis.NewScript(openSource)
	advanceScript       = redis.NewScript(advanceSource)
	recoverScript       = redis.NewScript(recoverSource)
	putBodyScript       = redis.NewScript(putBodySource)
	putBodiesScript     = redis.NewScript(putBodiesSource)
	rewriteOutboxScript = redis.NewScript(rewriteOutboxSource)
	dropOutboxScript    = redis.NewScript(dropOutboxSource)
	unloadOutboxScript  = redis.NewScript(unloadOutboxSource)
	swapFeedScript      = redis.NewScript(swapFeedSource)
	compactScript       = redis.NewScript(compactSource)

	scripts = []*redis.Script{
		openScript, advanceScript, recoverScript, putBodyScript, putBodiesScript, rewriteOutboxScript,
		dropOutboxScript, unloadOutboxScript, swapFeedScript, compactScript, claimAnswerScript, endAnswerScript,
	}
)

// queue adds the commands of an operation to a pipeline, and returns what reads their answers.
func (r *Redis) queue(ctx context.Context, pipe redis.Pipeliner, op Op) func() error {
	zone := op.InZone(r.layout)
	switch op := op.(type) {
	case *ReadZone:
		return queueState(ctx, pipe, zone, &op.State)
	case *Open:
		return queueOpen(ctx, pipe, op)
	case *Advance:
		args := []any{op.Token, op.Counter, op.Counter + 1, int(counterLife.Seconds())}
		return queueScript(ctx, pipe, advanceScript, zoneKeys(zone, op.Writer), appendInputs(args, op.Marks), &op.OK)
	case *Recover:
		args := appendInputs([]any{op.Old, op.New, op.Counter, int(counterLife.Seconds()), len(op.Ends)}, op.Ends)
		return queueScript(ctx, pipe, recoverScript, zoneKeys(zone, op.Writer), appendInputs(args, op.Marks), &op.OK)
	case *PutBody:
		return queueScript(ctx, pipe, putBodyScript, []string{zone.tokenKey(), zone.postKey(op.Post)},
			[]any{op.Token, op.Offset, op.value(), int(BodyLife.Seconds()), op.Replace}, &op.OK)
	case *PutTombstone:
		return pipe.Set(ctx, zone.postKey(op.Post), "T", BodyLife).Err
	case *ReadBody:
		return queueZoneBodies(ctx, pipe, zone, []*ReadBody{op})
	case *AppendOutbox:
		return queueAppend(ctx, pipe, zone.outboxKey(op.Author), op.IDs, &op.Length)
	case *AppendLog:
		return queueAppend(ctx, pipe, zone.logKey(op.Block), op.Entries, &op.Length)
	case *ReadOutbox:
		value := pipe.Get(ctx, zone.outboxKey(op.Author))
		state := queueState(ctx, pipe, zone, &op.State)
		return func() error { return errors.Join(bytesOf(value, &op.Value), state()) }
	case *RewriteOutbox:
		return queueScript(ctx, pipe, rewriteOutboxScript, []string{zone.tokenKey(), zone.outboxKey(op.Author)},
			[]any{op.Token, len(op.Old), sha1hex(op.Old), op.New}, &op.OK)
	case *DropOutbox:
		keys := []string{zone.tokenKey(), zone.marksKey(), zone.outboxKey(op.Author)}
		return queueScript(ctx, pipe, dropOutboxScript, keys, []any{op.Token}, &op.OK)
	case *UnloadOutbox:
		return queueScript(ctx, pipe, unloadOutboxScript, []string{zone.outboxKey(op.Author)}, []any{loadedMark}, &op.OK)
	case *DropFeeds:
		return pipe.Unlink(ctx, zone.feedsKey(op.Block)).Err
	case *ReadBlock:
		return queueReadBlock(ctx, pipe, zone, op)
	case *SwapFeed:
		return queueScript(ctx, pipe, swapFeedScript, []string{zone.tokenKey(), zone.feedsKey(op.Block)},
			[]any{op.Token, op.Generation, op.Next, slotField(op.Slot), op.Value}, &op.OK)
	case *Compact:
		return queueCompact(ctx, pipe, zone, op)
	case *ClaimAnswer:
		return queueClaimAnswer(ctx, pipe, zone, op)
	case *EndAnswer:
		return queueEndAnswer(ctx, pipe, zone, op)
	}
	return func() error { return fmt.Errorf("unknown operation %T", op) }
}

func zoneKeys(zone Zone, writer string) []string {
	return []string{zone.tokenKey(), zone.marksKey(), zone.recoveringKey(), zone.writerKey(writer)}
}

func slotField(slot byte) string { return strconv.Itoa(int(slot)) }

func sha1hex(b []byte) string {
	sum := sha1.Sum(b) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

func appendInputs(args []any, offsets map[Input]int64) []any {
	for input, offset := range offsets {
		args = append(args, input.field(), offset)
	}
	return args
}

func queueScript(
	ctx context.Context, pipe redis.Pipeliner, script *redis.Script, keys []string, args []any, ok *bool,
) func() error {
	cmd := script.EvalSha(ctx, pipe, keys, args...)
	return func() error {
		n, err := cmd.Int()
		*ok = n == 1
		return err
	}
}

func queueAppend(ctx context.Context, pipe redis.Pipeliner, key string, value []byte, length *int64) func() error {
	cmd := pipe.Do(ctx, "APPEND", key, value)
	return func() error {
		n, err := cmd.Int64()
		*length = n
		return err
	}
}

// stagedLife is how long the parts of a compaction wait for its script, which follows in the same pipeline.
const stagedLife = time.Minute

func queueCompact(ctx context.Context, pipe redis.Pipeliner, zone Zone, op *Compact) func() error {
	feeds, log := zone.stagedKey("feeds", op.Next), zone.stagedKey("log", op.Next)
	if len(op.Log) > 0 {
		pipe.Set(ctx, log, op.Log, stagedLife)
	}
	fields := 0
	if op.Feeds != nil {
		fields = 1 + len(op.Feeds)
		// What is large comes behind the expiry: the connection may break in between.
		pipe.HSet(ctx, feeds, "g", op.Next)
		pipe.PExpire(ctx, feeds, stagedLife)
		if len(op.Feeds) > 0 {
			args := make([]any, 0, 2+2*len(op.Feeds))
			args = append(args, "HSET", feeds)
			for slot, value := range op.Feeds {
				args = append(args, slotField(slot), value)
			}
			pipe.Do(ctx, args...)
		}
	}
	keys := []string{zone.tokenKey(), zone.feedsKey(op.Block), zone.logKey(op.Block), feeds, log}
	args := []any{op.Token, op.Generation, len(op.Log), fields}
	return queueScript(ctx, pipe, compactScript, keys, args, &op.OK)
}

func queueState(ctx context.Context, pipe redis.Pipeliner, zone Zone, state *ZoneState) func() error {
	token := pipe.Get(ctx, zone.tokenKey())
	recovering := pipe.Exists(ctx, zone.recoveringKey())
	return func() error {
		n, err := recovering.Result()
		if err != nil {
			return err
		}
		state.Recovering = n > 0
		state.Token, err = token.Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	}
}

func queueOpen(ctx context.Context, pipe redis.Pipeliner, op *Open) func() error {
	cmd := openScript.EvalSha(ctx, pipe, zoneKeys(op.Zone, op.Writer),
		int(counterLife.Seconds()), op.Known.Token, op.Known.Counter)
	return func() error {
		answer, err := cmd.Slice()
		if err != nil {
			return err
		}
		if len(answer) != 4 {
			return fmt.Errorf("open zone %d: %w: %d parts", op.Zone, ErrCorrupt, len(answer))
		}
		token, ok1 := answer[0].(string)
		counter, ok2 := answer[1].(int64)
		marks, ok3 := answer[2].([]any)
		recovering, ok4 := answer[3].([]any)
		if !ok1 || !ok2 || !ok3 || !ok4 {
			return fmt.Errorf("open zone %d: %w: %v", op.Zone, ErrCorrupt, answer)
		}
		op.Token, op.Counter = token, counter
		op.Marks, op.Recovering = inputsOf(marks), inputsOf(recovering)
		return nil
	}
}

// inputsOf reads a hash of offsets. What it cannot read is left out: a missing watermark counts as lost.
func inputsOf(fields []any) map[Input]int64 {
	offsets := make(map[Input]int64, len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		field, _ := fields[i].(string)
		value, _ := fields[i+1].(string)
		input, ok := parseInput(field)
		offset, err := strconv.ParseInt(value, 10, 64)
		if ok && err == nil {
			offsets[input] = offset
		}
	}
	return offsets
}

func queueReadBlock(ctx context.Context, pipe redis.Pipeliner, zone Zone, op *ReadBlock) func() error {
	log := pipe.Get(ctx, zone.logKey(op.Block))
	key := zone.feedsKey(op.Block)
	op.Feeds = map[byte][]byte{}
	var feeds func() error
	if op.Slot == AllSlots {
		cmd := pipe.HGetAll(ctx, key)
		feeds = func() error {
			fields, err := cmd.Result()
			op.Generation = fields["g"]
			for field, value := range fields {
				if slot, err := strconv.ParseUint(field, 10, 8); err == nil {
					op.Feeds[byte(slot)] = []byte(value)
				}
			}
			return err
		}
	} else {
		cmd := pipe.HMGet(ctx, key, "g", slotField(byte(op.Slot)))
		feeds = func() error {
			fields, err := cmd.Result()
			if err != nil {
				return err
			}
			op.Generation, _ = fields[0].(string)
			if value, ok := fields[1].(string); ok {
				op.Feeds[byte(op.Slot)] = []byte(value)
			}
			return nil
		}
	}
	state := queueState(ctx, pipe, zone, &op.State)
	return func() error { return errors.Join(bytesOf(log, &op.Log), feeds(), state()) }
}

func bytesOf(cmd *redis.StringCmd, value *[]byte) error {
	b, err := cmd.Bytes()
	if errors.Is(err, redis.Nil) {
		*value = nil
		return nil
	}
	*value = b
	return err
}
