package audit

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"freshet"
)

const (
	// blocksAtOnce is how many blocks are looked at before what is suspect is looked at again, and the state is noted.
	blocksAtOnce = 256
	// workers look at blocks at a time. They wait for Redis and the post store half of the time.
	workers = 6
)

// feeds goes over blocks, beginning with one.
func (a *Auditor) feeds(ctx context.Context, from int, timed func()) error {
	const stage = "auditing blocks of feeds"
	total := a.units.count()
	for at := from; at < total; at += blocksAtOnce {
		a.cfg.Progress(stage, at, total)
		found, err := a.look(ctx, at, min(at+blocksAtOnce, total))
		if err == nil {
			err = a.report(ctx, found)
		}
		timed()
		if err == nil {
			err = a.note(min(at+blocksAtOnce, total))
		}
		if err != nil {
			return err
		}
	}
	a.cfg.Progress(stage, total, total)
	return nil
}

// look looks at blocks, and a second time at what is suspect.
func (a *Auditor) look(ctx context.Context, from, to int) ([]finding, error) {
	var blocks []unit
	for i := from; i < to; i++ {
		blocks = append(blocks, a.units.at(i))
	}
	first, err := a.lookAt(ctx, blocks, a.lists, true)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	return a.again(ctx, first, func(ctx context.Context, of []freshet.Number) ([]finding, error) {
		fresh := newLists(a.cfg.Conn, a.cfg.Layout, a.store, a.cfg.Memory/4)
		return a.lookAt(ctx, blocksOf(of), fresh, false)
	})
}

// again looks a second time at the accounts of findings, when the copies are current, and returns what was found both
// times.
func (a *Auditor) again(
	ctx context.Context, first []finding, look func(context.Context, []freshet.Number) ([]finding, error),
) ([]finding, error) {
	suspects := make([]freshet.Number, len(first))
	before := make(map[finding]bool, len(first))
	for i, f := range first {
		suspects[i], before[f] = f.account, true
	}
	slices.Sort(suspects)
	suspects = slices.Compact(suspects)
	if err := a.Current(ctx); err != nil {
		return nil, err
	}
	second, err := look(ctx, suspects)
	a.summary.Second += len(suspects)
	return slices.DeleteFunc(second, func(f finding) bool { return !before[f] }), err
}

func (a *Auditor) lookAt(ctx context.Context, blocks []unit, lists *lists, count bool) ([]finding, error) {
	var (
		mu  sync.Mutex
		all []finding
	)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, b := range blocks {
		g.Go(func() error {
			found, tally, err := a.block(ctx, b, lists)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, found...)
			if count {
				a.summary.add(tally)
			}
			return err
		})
	}
	err := g.Wait()
	slices.SortFunc(all, compareFindings)
	return all, err
}
