package feeds

import (
	"context"
	"crypto/sha1" //nolint:gosec // compares values, as Redis' own sha1hex does; nothing is secured by it
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
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
	//go:embed scripts/rewrite_outbox.lua
	rewriteOutboxSource string
	//go:embed scripts/drop_outbox.lua
	dropOutboxSource string
	//go:embed scripts/swap_feed.lua
	swapFeedSource string
	//go:embed scripts/compact.lua
	compactSource string

	openScript          = redis.NewScript(openSource)
	advanceScript       = redis.NewScript(advanceSource)
	recoverScript       = redis.NewScript(recoverSource)
	putBodyScript       = redis.NewScript(putBodySource)
	rewriteOutboxScript = redis.NewScript(rewriteOutboxSource)
	dropOutboxScript    = redis.NewScript(dropOutboxSource)
	swapFeedScript      = redis.NewScript(swapFeedSource)
	compactScript       = redis.NewScript(compactSource)

	scripts = []*redis.Script{
		openScript, advanceScript, recoverScript, putBodyScript, rewriteOutboxScript, dropOutboxScript,
		swapFeedScript, compactScript, claimAnswerScript, endAnswerScript,
	}
)

// ErrEvicts is returned by Connect for a Redis that would throw feeds away when it is full.
var ErrEvicts = errors.New("redis may evict keys")

// Redis is the Conn to real servers: one Redis, a Redis Cluster, or miniredis. It is safe for concurrent use.
type Redis struct {
	client redis.UniversalClient
	layout Layout
	gather *gather // nil for a cluster: there, those who ask one node would wait for the others
}

// Connect prepares Redis at the addresses: more than one are a cluster. It refuses a server whose maxmemory-policy is
// not noeviction. The client never repeats a command by itself, but
// where a cluster has moved its slot.
func Connect(ctx context.Context, layout Layout, addresses []string) (*Redis, error) {
	if err := layout.Validate(); err != nil {
		return nil, err
	}
	r := newRedis(layout, addresses)
	if err := errors.Join(r.checkEviction(ctx), r.loadScripts(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to redis at %s: %w", strings.Join(addresses, ","), err), r.Close())
	}
	return r, nil
}

func newRedis(layout Layout, addresses []string) *Redis {
	r := &Redis{layout: layout, client: redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:           addresses,
		MaxRetries:      -1,
		DisableIdentity: true,
		ReadTimeout:     10 * time.Second,
		// A Redis that takes connections and answers nothing holds nobody longer than it wants to wait.
		ContextTimeoutEnabled: true,
		WriteTimeout:          10 * time.Second,
		// A flush is megabytes.
		PipelineReadBufferSize:  256 << 10,
		PipelineWriteBufferSize: 256 << 10,
	})}
	if _, cluster := r.client.(*redis.ClusterClient); !cluster {
		r.gather = &gather{client: r.client}
	}
	return r
}

// Close closes the connections; nothing may be asked any more.
func (r *Redis) Close() error {
	if r.gather != nil {
		r.gather.close()
	}
	return r.client.Close()
}

// eachMaster runs f on every node that takes writes.
func (r *Redis) eachMaster(ctx context.Context, f func(ctx context.Context, node redis.Cmdable) error) error {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return f(ctx, node) })
	}
	return f(ctx, r.client)
}

func (r *Redis) checkEviction(ctx context.Context) error {
	return r.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		policy, err := evictionPolicy(ctx, node)
		if err == nil && policy != "noeviction" {
			err = fmt.Errorf("%w: maxmemory-policy is %q; set it to noeviction", ErrEvicts, policy)
		}
		return err
	})
}

// evictionPolicy asks for the setting, and where CONFIG is not allowed, for what INFO says of it.
func evictionPolicy(ctx context.Context, node redis.Cmdable) (string, error) {
	settings, refused := node.ConfigGet(ctx, "maxmemory-policy").Result()
	if refused == nil {
		return settings["maxmemory-policy"], nil
	}
	info, err := node.Info(ctx, "memory").Result()
	if err != nil {
		return "", fmt.Errorf("ask for the eviction policy: %w", errors.Join(refused, err))
	}
	for line := range strings.Lines(info) {
		if policy, found := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:"); found {
			return policy, nil
		}
	}
	return "", fmt.Errorf("ask for the eviction policy: %w", refused)
}

func (r *Redis) loadScripts(ctx context.Context) error {
	return r.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		for _, script := range scripts {
			if err := script.Load(ctx, node).Err(); err != nil {
				return fmt.Errorf("load scripts: %w", err)
			}
		}
		return nil
	})
}

// Do implements Conn. Commands that a restarted server does not know are taught to it again, and the error is returned
// all the same.
func (r *Redis) Do(ctx context.Context, ops ...Op) error {
	pipe := r.client.Pipeline()
	appends := r.appends(ops)
	answers := make([]func() error, 0, len(ops)-len(appends.names)+1)
	for _, op := range ops {
		if log, ok := op.(*AppendLog); ok {
			appends.queue(ctx, pipe, log)
		} else {
			answers = append(answers, r.queue(ctx, pipe, op))
		}
	}
	answers = append(answers, appends.answer)
	if err := r.exec(ctx, pipe); err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	for _, answer := range answers {
		err := answer()
		if err == nil {
			continue
		}
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			if again := r.loadScripts(ctx); again != nil {
				err = errors.Join(err, again)
			}
		}
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return nil
}

// exec runs a pipeline. An error is that of ctx; each command knows whether it has failed.
func (r *Redis) exec(ctx context.Context, pipe redis.Pipeliner) error {
	if commands := pipe.Cmds(); r.gather != nil && len(commands) <= gatherRequest {
		return r.gather.do(ctx, commands)
	}
	_, _ = pipe.Exec(ctx) // the error of the first command that failed; nil replies are no failures
	return nil
}

// appends are the AppendLogs of a pipeline. There are tens of thousands in a flush, so what they need is allocated
// together.
type appends struct {
	names    []string
	args     []any
	ops      []*AppendLog
	commands []*redis.IntCmd
}

func (r *Redis) appends(ops []Op) *appends {
	var names []byte
	var ends []int
	for _, op := range ops {
		if log, ok := op.(*AppendLog); ok {
			names = r.layout.OfBlock(log.Block).appendNumbered(names, "log", log.Block)
			ends = append(ends, len(names))
		}
	}
	a := &appends{
		names: make([]string, len(ends)), args: make([]any, 0, 3*len(ends)),
		ops: make([]*AppendLog, 0, len(ends)), commands: make([]*redis.IntCmd, 0, len(ends)),
	}
	all, begin := string(names), 0
	for i, end := range ends {
		a.names[i] = all[begin:end]
		begin = end
	}
	return a
}

// entriesOf is the value that an AppendLog appends, as go-redis writes it: a slice would be copied.
type entriesOf AppendLog

// MarshalBinary implements encoding.BinaryMarshaler.
func (e *entriesOf) MarshalBinary() ([]byte, error) { return e.Entries, nil }

func (a *appends) queue(ctx context.Context, pipe redis.Pipeliner, op *AppendLog) {
	begin := len(a.args)
	a.args = append(a.args, "append", &a.names[len(a.ops)], (*entriesOf)(op))
	command := redis.NewIntCmd(ctx, a.args[begin:len(a.args):len(a.args)]...)
	a.ops, a.commands = append(a.ops, op), append(a.commands, command)
	_ = pipe.Process(ctx, command) // queueing has no errors
}

func (a *appends) answer() error {
	for i, command := range a.commands {
		if err := command.Err(); err != nil {
			return err
		}
		a.ops[i].Length = command.Val()
	}
	return nil
}

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
		value := append([]byte("B"+strconv.FormatInt(op.Offset, 10)+":"), op.Body...)
		return queueScript(ctx, pipe, putBodyScript, []string{zone.tokenKey(), zone.postKey(op.Post)},
			[]any{op.Token, op.Offset, value, int(BodyLife.Seconds()), op.Replace}, &op.OK)
	case *PutTombstone:
		return pipe.Set(ctx, zone.postKey(op.Post), "T", BodyLife).Err
	case *ReadBody:
		return queueReadBody(ctx, pipe, zone, op)
	case *AppendOutbox:
		return queueAppend(ctx, pipe, zone.outboxKey(op.Author), op.IDs, &op.Length)
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
	case *ReadBlock:
		return queueReadBlock(ctx, pipe, zone, op)
	case *SwapFeed:
		return queueScript(ctx, pipe, swapFeedScript, []string{zone.tokenKey(), zone.feedsKey(op.Block)},
			[]any{op.Token, op.Generation, op.Next, slotField(op.Slot), op.Value}, &op.OK)
	case *Compact:
		args := []any{op.Token, op.Generation, op.Next, op.Log}
		for slot := range byte(freshet.SlotsPerBlock) {
			if value, changed := op.Feeds[slot]; changed {
				args = append(args, slotField(slot), value)
			}
		}
		keys := []string{zone.tokenKey(), zone.feedsKey(op.Block), zone.logKey(op.Block)}
		return queueScript(ctx, pipe, compactScript, keys, args, &op.OK)
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

func queueReadBody(ctx context.Context, pipe redis.Pipeliner, zone Zone, op *ReadBody) func() error {
	body := pipe.Get(ctx, zone.postKey(op.Post))
	token := pipe.Get(ctx, zone.tokenKey())
	recovering := pipe.HGetAll(ctx, zone.recoveringKey())
	return func() error {
		var value, tokenValue []byte
		if err := errors.Join(bytesOf(body, &value), bytesOf(token, &tokenValue), recovering.Err()); err != nil {
			return err
		}
		op.State = ZoneState{Token: string(tokenValue), Recovering: len(recovering.Val()) > 0}
		op.Waits = map[Input]int64{}
		for field, value := range recovering.Val() {
			if input, ok := parseInput(field); ok {
				op.Waits[input], _ = strconv.ParseInt(value, 10, 64) // only the scripts write it
			}
		}
		op.Body, op.Offset, op.Deleted = nil, 0, len(value) > 0 && value[0] == 'T'
		if len(value) == 0 || value[0] != 'B' {
			return nil
		}
		// A value that cannot be read is as if it were not there: the post store has it, or fan-out writes it again.
		offset, rest, found := strings.Cut(string(value[1:]), ":")
		if n, err := strconv.ParseInt(offset, 10, 64); found && err == nil {
			op.Offset, op.Body = n, []byte(rest)
		}
		return nil
	}
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
