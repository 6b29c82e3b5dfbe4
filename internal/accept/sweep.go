package accept

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/emitters"
	"freshet/internal/feeds"
	"freshet/internal/pause"
	"freshet/internal/posts"
)

const (
	// SweepAge is how old a mark is, by the post's id, before a sweep looks at it: longer than a producer tries, which is
	// 40 s while Kafka is away, so that sweeps find what nobody works on any more. One that comes too soon, by a clock
	// that is ahead, publishes a post twice.
	SweepAge = time.Minute
	// sweepEvery is the pause between two sweeps of a process, of which up to a half more is drawn: the processes take
	// turns then, and what one has swept the next one passes over.
	sweepEvery = 5 * time.Second
	// SweepMost is how many posts a sweep publishes at a time.
	SweepMost = 256
)

// Run opens slots, takes marks off and sweeps, until ctx ends; then it returns nil.
func (d *Desk) Run(ctx context.Context) error {
	var g errgroup.Group
	if d.SaveFirst {
		g.Go(func() error {
			d.keepOpen(ctx)
			return nil
		})
	}
	g.Go(func() error {
		d.unmarker.run(ctx, d.Marks, d.troubles(ctx, "marks of posts that are in the log stay for now"))
		return nil
	})
	g.Go(func() error {
		failed := d.troubles(ctx, "posts that are saved and not published wait")
		d.sweptTo.Store(d.Now().Add(-SweepAge).UnixNano())
		for {
			failed(d.sweep(ctx))
			if pause.For(ctx, sweepEvery+rand.N(sweepEvery/2)) != nil {
				return nil //nolint:nilerr // to be ended is no failure
			}
		}
	})
	return g.Wait()
}

func (d *Desk) keepOpen(ctx context.Context) {
	failed := d.troubles(ctx, "the post store does not say where posts can be saved")
	for {
		failed(d.slots.open(ctx, d.Marks, d.Now()))
		if pause.For(ctx, lookEvery) != nil {
			return
		}
	}
}

// troubles logs the first of several failures in a row.
func (d *Desk) troubles(ctx context.Context, what string) func(error) {
	silent := true
	return func(err error) {
		if err != nil && ctx.Err() == nil && silent && !errors.Is(err, posts.ErrNotOpen) {
			d.Log.Warn(what, "error", err)
		}
		silent = err == nil
	}
}

// sweep publishes what was left saved in slots that are old enough, one slot after another.
func (d *Desk) sweep(ctx context.Context) error {
	to := d.Now().Add(-SweepAge)
	at, err := d.Marks.Sweeps(ctx)
	if err != nil {
		return err
	}
	if at.First == 0 {
		d.done(to)
		return nil
	}
	last := min(at.Opened, posts.SlotAt(to)-1) // of which every post is that old
	next := max(at.Swept+1, at.First)
	if next > last {
		d.done(to)
		return nil
	}
	if last > at.Closed {
		if err := d.Marks.NoteSweeps(ctx, posts.Sweeps{Closed: last}); err != nil {
			return err
		}
	}
	settle := d.settle
	if settle == nil {
		settle = pause.For
	}
	if settle(ctx, closeWait) != nil {
		return nil //nolint:nilerr // to be ended is no failure
	}
	for ; next <= last; next++ {
		if at, err = d.Marks.Sweeps(ctx); err != nil { // another process may have come further
			return err
		}
		if next = max(next, at.Swept+1); next > last {
			break
		}
		d.sweptTo.Store(next.Begin().UnixNano())
		if err := d.sweepSlot(ctx, next); err != nil {
			return err
		}
		if err := d.Marks.NoteSweeps(ctx, posts.Sweeps{Swept: next}); err != nil {
			return err
		}
	}
	d.done(to)
	return nil
}

// done notes that nothing that was old enough at a time is left.
func (d *Desk) done(to time.Time) {
	d.sweptTo.Store(to.Add(-posts.SlotLength).UnixNano())
	d.waiting.Store(0)
}

// sweepSlot returns nil when no post of the slot waits any more.
func (d *Desk) sweepSlot(ctx context.Context, slot posts.Slot) error {
	marked, err := d.Marks.Marked(ctx, slot)
	if err != nil {
		return err
	}
	left := len(marked)
	for ids := range slices.Chunk(marked, SweepMost) {
		left -= len(ids)
		waiting, err := d.sweepSome(ctx, ids)
		if err != nil {
			d.waiting.Store(int64(left + waiting))
			return fmt.Errorf("sweep the posts of %s: %w", slot.Begin().UTC().Format(time.DateTime), err)
		}
	}
	return nil
}

// sweepSome publishes those of marked posts that are not known to be in the log, and takes the marks off. It returns
// how many may still wait, 0 without an error.
func (d *Desk) sweepSome(ctx context.Context, ids []freshet.PostID) (waiting int, err error) {
	saved, err := d.Marks.Saved(ctx, ids)
	if err != nil {
		return len(ids), err
	}
	d.dropKnown(ctx, saved)
	all := make([]freshet.Post, 0, len(saved))
	for _, id := range ids { // ascending, as their authors wrote them
		if post, ok := saved[id]; ok {
			all = append(all, post)
		}
	}
	var errs []error
	done := ids
	for i, o := range d.Emitters.Posts(ctx, all, true) {
		id := all[i].ID
		switch {
		case o.Err == nil:
			d.swept.Add(1)
		case errors.Is(o.Err, emitters.ErrUnavailable):
			errs = append(errs, o.Err)
			done = slices.DeleteFunc(slices.Clone(done), func(d freshet.PostID) bool { return d == id })
		default:
			d.Log.Error("a saved post can never be published, and is given up", "post", id, "error", o.Err)
		}
	}
	if len(all) > len(errs) {
		d.Log.Info("published posts that were saved and left", "posts", len(all)-len(errs), "first", all[0].ID)
	}
	if err := d.Marks.Unmark(ctx, done); err != nil {
		return len(ids), err
	}
	if len(errs) > 0 {
		return len(errs), fmt.Errorf("%d of %d posts were not published: %w", len(errs), len(all), errs[0])
	}
	return 0, nil
}

// dropKnown leaves out the posts that Redis knows, of which the archive has yet to hear: bodies and tombstones are only
// of what is in the log. While Redis is away some are published twice.
func (d *Desk) dropKnown(ctx context.Context, saved map[freshet.PostID]freshet.Post) {
	ops := make([]feeds.Op, 0, len(saved))
	for id := range saved {
		ops = append(ops, &feeds.ReadBody{Post: id})
	}
	if len(ops) == 0 {
		return
	}
	asking, cancel := context.WithTimeout(ctx, hideTimeout)
	defer cancel()
	if err := d.Conn.Do(asking, ops...); err != nil {
		d.Log.Debug("redis does not say which posts it knows", "posts", len(ops), "error", err)
		return
	}
	for _, op := range ops {
		if read := op.(*feeds.ReadBody); read.Deleted || read.Body != nil { //nolint:forcetypeassert // they are
			delete(saved, read.Post)
		}
	}
}
