package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"freshet"
	"freshet/internal/feeds"
)

// memory fills feeds and asks Redis what that has cost.
func (b *bench) memory(ctx context.Context) error {
	n := &network{count: b.Accounts, partitions: b.Partitions}
	layout := feeds.Layout{Zones: b.Zones, FeedLength: feeds.DefaultFeedLength}
	b.Entries = layout.FeedLength
	conn, err := b.servers.feeds(ctx, layout)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a client of a run that is over
	empty, err := b.used(ctx)
	if err != nil {
		return err
	}
	entries := float64(b.Accounts * layout.FeedLength)
	for _, with := range []struct {
		logLimit   int
		name, note string
	}{
		{0, "feeds without logs", "keys and headers counted"},
		{b.LogLimit, "feeds and logs", fmt.Sprintf("logs of anything up to %d bytes; keys and headers counted", b.LogLimit)},
	} {
		if err := b.servers.flush(ctx); err != nil {
			return err
		}
		if err := b.warm(ctx, conn, layout, n, with.logLimit); err != nil {
			return err
		}
		used, err := b.used(ctx)
		if err != nil {
			return err
		}
		b.result(with.name, float64(used-empty)/entries, "bytes an entry", with.note)
	}
	return errors.Join(b.apart(ctx, conn, layout), b.usualMemory(ctx, n))
}

// used is what Redis says it uses.
func (b *bench) used(ctx context.Context) (int64, error) {
	info, err := b.servers.client.InfoMap(ctx, "memory").Result()
	if err != nil {
		return 0, fmt.Errorf("ask redis what memory it uses: %w; the embedded one does not know, name a real one with "+
			"--redis", err)
	}
	used, err := strconv.ParseInt(info["Memory"]["used_memory"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("ask redis what memory it uses: %w", err)
	}
	return used, nil
}

// apart measures what is not in feeds: outboxes, and the bodies of two days.
func (b *bench) apart(ctx context.Context, conn feeds.Conn, layout feeds.Layout) error {
	const outboxes, bodies = 2000, 20_000
	if err := b.servers.flush(ctx); err != nil {
		return err
	}
	before, err := b.used(ctx)
	if err != nil {
		return err
	}
	token, err := openZones(ctx, conn, layout)
	if err != nil {
		return err
	}
	for i := range outboxes {
		b.Progress("write outboxes", i, outboxes)
		op := &feeds.AppendOutbox{Author: freshet.Number(i)}
		for j := range layout.FeedLength {
			op.IDs = feeds.AppendID(op.IDs, freshet.PostID(1<<60+j<<12))
		}
		if err := conn.Do(ctx, op); err != nil {
			return err
		}
	}
	used, err := b.used(ctx)
	if err != nil {
		return err
	}
	b.result("outboxes", float64(used-before)/float64(outboxes*layout.FeedLength), "bytes a post",
		"of authors with 800 posts or more")
	texts, before := passages(), used
	ops := make([]feeds.Op, bodies)
	for i := range ops {
		ops[i] = &feeds.PutBody{Post: freshet.PostID(1<<60 + i<<12), Token: token, Body: []byte(texts[i%len(texts)])}
	}
	if err := conn.Do(ctx, ops...); err != nil {
		return err
	}
	if used, err = b.used(ctx); err != nil {
		return err
	}
	b.result("bodies", float64(used-before)/bodies, "bytes a post",
		"for two days at most, and only what the store may lack")
	return nil
}

// usualMemory fills the usual feeds.
func (b *bench) usualMemory(ctx context.Context, n *network) error {
	const accounts, posts = 2000, feeds.DefaultFeedLength
	for _, way := range usuals[1:] {
		if err := b.servers.flush(ctx); err != nil {
			return err
		}
		before, err := b.used(ctx)
		if err != nil {
			return err
		}
		keys := n.keys()[:min(accounts, n.count)]
		for i, key := range keys {
			b.Progress("fill the usual feeds", i, len(keys))
			pipe := b.servers.client.Pipeline()
			for j := range posts {
				way.add(ctx, pipe, key, uint64(1)<<60+uint64(j)<<12)
			}
			if _, err := pipe.Exec(ctx); err != nil {
				return fmt.Errorf("fill the usual feeds: %w", err)
			}
		}
		used, err := b.used(ctx)
		if err != nil {
			return err
		}
		b.result("baseline, "+way.name, float64(used-before)/float64(len(keys)*posts), "bytes an entry",
			fmt.Sprintf("%d accounts with %d entries", len(keys), posts))
	}
	return nil
}
