package audit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"freshet"
	"freshet/client"
	"freshet/internal/pause"
	"freshet/views"
)

// servedPage is how many posts of a served feed are asked for at once.
const servedPage = 100

// auditServed compares what the API serves of some accounts' feeds with the definition.
func (a *Auditor) auditServed(ctx context.Context) error {
	const stage = "comparing served feeds"
	accounts := a.opts.Accounts
	if len(accounts) == 0 {
		accounts = draw(a.size, a.opts.Served, a.opts.Seed+1)
	}
	accounts = accounts[:min(len(accounts), a.opts.Served)]
	for i, n := range accounts {
		a.cfg.Progress(stage, i, len(accounts))
		first, err := a.served(ctx, n)
		if err != nil {
			return err
		}
		a.summary.Served++
		if len(first) == 0 {
			continue
		}
		found, err := a.again(ctx, first, func(ctx context.Context, _ []freshet.Number) ([]finding, error) {
			return a.served(ctx, n)
		})
		if err == nil {
			err = a.report(ctx, found)
		}
		if err != nil {
			return err
		}
	}
	a.cfg.Progress(stage, len(accounts), len(accounts))
	return nil
}

// served compares the pages of a feed, down to as many posts as Redis keeps of one.
func (a *Auditor) served(ctx context.Context, n freshet.Number) ([]finding, error) {
	reader, known, err := a.accounts.ByNumber(n)
	if err != nil || !known || reader.Closed {
		return nil, err
	}
	row, err := a.rows.Row(n)
	if err != nil {
		return nil, err
	}
	shown, whole, err := a.pages(ctx, reader.ID)
	if err != nil {
		return nil, err
	}
	var found []finding
	last := freshet.PostID(1) << 63
	for _, id := range shown {
		if id >= last {
			found = append(found, finding{list: ListServed, kind: Misordered, account: n, post: id})
		}
		last = id
	}
	definition, err := a.define(ctx, n, row)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(shown, newestFirst)
	floor := lowest(shown)
	if whole {
		floor = 0
	}
	for _, e := range definition {
		if _, has := slices.BinarySearchFunc(shown, e.post, newestFirst); !has && e.post >= floor && a.flushed.has(e.post) {
			found = append(found, finding{ListServed, Missing, n, e.author, e.post})
		}
	}
	in := map[freshet.PostID]bool{}
	for _, e := range definition {
		in[e.post] = true
	}
	extra := slices.DeleteFunc(slices.Clone(shown), func(id freshet.PostID) bool { return in[id] || !a.flushed.has(id) })
	facts, err := a.facts(ctx, extra)
	if err != nil {
		return nil, err
	}
	for _, id := range extra {
		f := facts[id]
		r, err := a.relationship(n, f.post.Author)
		if err != nil {
			return nil, err
		}
		if f.deleted || f.found && !freshet.InFeed(f.post, r) {
			found = append(found, finding{ListServed, Extra, n, f.post.Author, id})
		}
	}
	return found, nil
}

// define is the newest posts of a feed by definition, as many as Redis keeps of one.
func (a *Auditor) define(ctx context.Context, n freshet.Number, row *freshet.Following) ([]entry, error) {
	wanted := map[freshet.Number]struct{}{}
	addAuthors(wanted, n, row)
	lists, err := newLists(a.cfg.Conn, a.cfg.Layout, a.store, a.cfg.Memory).get(ctx, wanted)
	if err != nil {
		return nil, err
	}
	var all []entry
	for author, of := range lists {
		for _, id := range of.ids {
			all = append(all, entry{id, author})
		}
	}
	slices.SortFunc(all, func(x, y entry) int { return newestFirst(x.post, y.post) })
	all = all[:min(len(all), a.cfg.Layout.FeedLength)]
	ids := make([]freshet.PostID, len(all))
	for i, e := range all {
		ids[i] = e.post
	}
	facts, err := a.facts(ctx, ids)
	if err != nil {
		return nil, err
	}
	var visible []entry
	for _, e := range all {
		why, err := a.excuseMissing(n, e, facts[e.post])
		if err != nil {
			return nil, err
		}
		if why == none {
			visible = append(visible, e)
		}
	}
	return visible, nil
}

// pages reads a feed until it ends, or there are as many posts as Redis keeps of one. Pages that say that they are not
// complete are read again; whole says that the list has ended.
func (a *Auditor) pages(ctx context.Context, id freshet.AccountID) (shown []freshet.PostID, whole bool, err error) {
	cursor := ""
	for tries := 0; len(shown) < a.cfg.Layout.FeedLength; {
		page, err := a.opts.API.FeedPage(ctx, id, client.PageOptions{Limit: servedPage, Cursor: cursor})
		var refused *client.Error
		if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
			return nil, true, nil // it was closed meanwhile
		}
		if err != nil {
			return nil, false, fmt.Errorf("read the feed of %s: %w", id, err)
		}
		if !page.Complete {
			if tries++; tries > incompleteTries {
				return nil, false, fmt.Errorf("the feed of %s stays incomplete: is Redis being recovered, or the post store "+
					"behind? %w", id, client.ErrIncomplete)
			}
			if err := pause.For(ctx, views.KeptFor); err != nil {
				return nil, false, err
			}
			continue
		}
		for _, post := range page.Items {
			shown = append(shown, post.ID)
		}
		if cursor = page.Next; cursor == "" {
			return shown, true, nil
		}
	}
	return shown, false, nil
}

// incompleteTries is how often a page that is not complete is read again, a second apart.
const incompleteTries = 30
