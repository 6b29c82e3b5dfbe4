package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// fault breaks something in a running process, and ends the test if it did not break.
type fault struct {
	name string
	do   func(r *run, random *rand.Rand)
}

var (
	flushAll    = fault{"FLUSHALL", (*run).flushAll}
	deleteZones = fault{"the keys of some zones deleted", (*run).deleteZones}
	seekBack    = fault{"fan-out reset to the earliest posts", (*run).seekBack}
)

func openRedis(t *testing.T, p *process) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: p.redis, DisableIdentity: true})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

const zones = 16

func zoneKey(zone int, kind string) string { return fmt.Sprintf("{z%d}:%s", zone, kind) }

// flushAll empties Redis. Every zone is found again with a token that it did not have before.
func (r *run) flushAll(*rand.Rand) {
	r.loseZones("FLUSHALL", zones, func(ctx context.Context, client *redis.Client) error {
		return client.FlushAll(ctx).Err()
	})
}

// deleteZones deletes every key of a few zones.
func (r *run) deleteZones(random *rand.Rand) {
	gone := random.Perm(zones)[:1+random.IntN(4)]
	r.loseZones(fmt.Sprintf("zones %v deleted", gone), 0, func(ctx context.Context, client *redis.Client) error {
		for _, zone := range gone {
			keys, err := client.Keys(ctx, zoneKey(zone, "*")).Result()
			if err != nil {
				return err
			}
			if len(keys) < 2 { // the token, and a counter
				r.t.Errorf("zone %d has only the keys %v", zone, keys)
			}
			var left *redis.IntCmd
			_, err = client.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Del(ctx, keys...)
				left = p.Exists(ctx, keys...)
				return nil
			})
			if err != nil {
				return err
			}
			if left.Val() != 0 {
				r.t.Errorf("%d keys of zone %d are there after they were deleted", left.Val(), zone)
			}
		}
		return nil
	})
}

// loseZones does something to Redis. Any loss gives every zone a new token.
func (r *run) loseZones(what string, atLeast int, lose func(context.Context, *redis.Client) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	client := openRedis(r.t, r.proc)
	size, err := client.DBSize(ctx).Result()
	if err != nil || size < int64(atLeast) {
		r.t.Errorf("Redis has %d keys before %s (%v)", size, what, err)
	}
	before, err := tokens(ctx, client)
	if err != nil || len(before) != zones {
		r.t.Errorf("%d of %d zones have a token before %s (%v)", len(before), zones, what, err)
	}
	if err := lose(ctx, client); err != nil {
		r.t.Errorf("%s: %v", what, err)
		return
	}
	await(r.t, "the writer has noticed "+what, func() (bool, string) {
		after, err := tokens(ctx, client)
		for zone, token := range after {
			if before[zone] == token {
				return false, fmt.Sprintf("zone %d has the token it had", zone)
			}
		}
		return len(after) == zones, fmt.Sprintf("%d zones with a token, %v", len(after), err)
	})
	r.t.Logf("%s: %d keys before; every zone has a new token", what, size)
}

// tokens are those of the zones that have one.
func tokens(ctx context.Context, client redis.Cmdable) (map[int]string, error) {
	tokens := map[int]string{}
	for zone := range zones {
		switch token, err := client.Get(ctx, zoneKey(zone, "token")).Result(); {
		case err == nil:
			tokens[zone] = token
		case err != redis.Nil: //nolint:errorlint // go-redis returns it as it is
			return nil, err
		}
	}
	return tokens, nil
}

const fanoutGroup = "freshet.fanout"

// seekBack resets the live group to the first post of every partition, with the tool that operators have. Its committed
// offsets go back.
func (r *run) seekBack(*rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	log := openLog(r.t, r.proc)
	committed := func() map[int32]int64 {
		offsets, err := log.admin.FetchOffsetsForTopics(ctx, fanoutGroup, postsTopic)
		if err != nil {
			r.t.Errorf("fetch the offsets of %s: %v", fanoutGroup, err)
		}
		at := map[int32]int64{}
		for partition, offset := range offsets[postsTopic] {
			at[partition] = offset.At
		}
		return at
	}
	reset := []string{
		"offsets", "reset", "--kafka", r.proc.kafka, "--admin", r.proc.admin,
		"--group", "fanout", "--topic", "posts", "--to", "earliest",
	}
	before := committed()
	if code, out := tool(r.t, reset...); code != 3 {
		r.t.Errorf("offsets reset without --execute: exit code %d, want 3\n%s", code, out)
	}
	begun := time.Now()
	if code, out := tool(r.t, append(reset, "--execute")...); code != 0 {
		r.t.Errorf("offsets reset: exit code %d\n%s", code, out)
	}
	back := int64(0)
	for partition, offset := range committed() {
		back += max(0, before[partition]-offset)
	}
	if back == 0 {
		r.t.Errorf("no committed offset of %s went back: %v", fanoutGroup, before)
	}
	r.t.Logf("the offsets of %s went back by %d records in %s", fanoutGroup, back, since(begun))
}
