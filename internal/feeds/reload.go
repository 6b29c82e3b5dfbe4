package feeds

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// What Kafka loses before it was delivered, feeds and outboxes lack, and nothing in Redis tells it from what was never
// there. The post store has it, if the archive was quicker. So every outbox is made to be loaded from the store once
// more, and then, when no outbox is left that lacks something and says that it is whole, every feed is made cold: the
// next read builds it from those outboxes. Nothing that is in Redis alone is lost by that, because an outbox keeps what
// it has, and so neither the zones' tokens nor other members of the group have to know.

// Kept is a part of what Redis holds.
type Kept struct {
	Outboxes []freshet.Number
	Blocks   []uint64 // those with feeds
}

// UnloadOutbox takes from an outbox the mark that says that its older part has been loaded from the post store; it is
// loaded by whoever reads it next.
type UnloadOutbox struct {
	Author freshet.Number

	OK bool // there was a mark
}

// DropFeeds makes all feeds of a block cold.
type DropFeeds struct {
	Block uint64
}

// InZone implements Op.
func (o *UnloadOutbox) InZone(l Layout) Zone { return l.OfAuthor(o.Author) }

// InZone implements Op.
func (o *DropFeeds) InZone(l Layout) Zone { return l.OfBlock(o.Block) }

// Reload has every outbox loaded again from the post store, and then every feed built again, each when it is read next.
// It is for a session that is about to begin, after Recover: posts are gone that were not delivered. When it has
// returned nil and something of it is lost with Redis, the writer's counters show that, as they do for a flush.
//
// A load that began before those posts were stored and ends only now would put the mark back; posts are stored long
// before they are removed, and no read takes so long.
func (w *Writer) Reload(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case w.reloads <- func() { reply <- w.flusher.reload(ctx, w.cfg.Held) }:
	case <-w.stopped:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("wait for the feed writer: %w", ctx.Err())
	}
	return <-reply
}

var errHeld = errors.New("the feed writer was not told how to go through what redis holds")

func (f *Flusher) reload(ctx context.Context, held func(context.Context, func(Kept) error) error) error {
	if held == nil {
		return errHeld
	}
	err := held(ctx, func(k Kept) error {
		ops := make([]Op, 0, len(k.Outboxes))
		for _, author := range k.Outboxes {
			ops = append(ops, &UnloadOutbox{Author: author})
		}
		return f.guarded(ctx, ops)
	})
	if err != nil {
		return fmt.Errorf("have outboxes loaded again: %w", err)
	}
	err = held(ctx, func(k Kept) error {
		ops := make([]Op, 0, len(k.Blocks))
		for _, block := range k.Blocks {
			ops = append(ops, &DropFeeds{Block: block})
		}
		return f.guarded(ctx, ops)
	})
	if err != nil {
		return fmt.Errorf("make feeds cold: %w", err)
	}
	return nil
}

// heldAtOnce is how many keys Redis looks at in one step, for which other commands wait: below a millisecond.
const heldAtOnce = 1000

// Held goes through what Redis holds, all nodes of a cluster, in parts. What is there the whole time comes at least
// once, unless its slot moves to another node meanwhile. each is called from one goroutine at a time.
func (r *Redis) Held(ctx context.Context, each func(Kept) error) error {
	parts, failed := make(chan Kept), make(chan error, 1)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(parts)
		failed <- r.eachMaster(inner, func(ctx context.Context, node redis.Cmdable) error {
			return scan(ctx, node, parts)
		})
	}()
	var err error
	for part := range parts {
		if err == nil {
			if err = each(part); err != nil {
				cancel()
			}
		}
	}
	if scanned := <-failed; err == nil && scanned != nil {
		return fmt.Errorf("%w: go through the keys: %w", ErrAway, scanned)
	}
	return err
}

func scan(ctx context.Context, node redis.Cmdable, parts chan<- Kept) error {
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, "{z*}:*", heldAtOnce).Result()
		if err != nil {
			return err
		}
		var part Kept
		for _, key := range keys {
			part.add(key)
		}
		select {
		case parts <- part:
		case <-ctx.Done():
			return ctx.Err()
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// add takes in a key, if it is that of an outbox or of a block's feeds.
func (k *Kept) add(key string) {
	_, name, _ := strings.Cut(key, "}:")
	kind, number, _ := strings.Cut(name, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	switch {
	case err != nil:
	case kind == "outbox":
		k.Outboxes = append(k.Outboxes, freshet.Number(n))
	case kind == "feeds":
		k.Blocks = append(k.Blocks, n)
	}
}
