package sim

import (
	"slices"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/processors/following"
	"freshet/views"
)

// seenRows is a process' view during one read: it keeps what it has answered.
type seenRows struct {
	views.Rows
	seen map[freshet.Number][]*freshet.Following
	// frozen is for a mutation: rows are read once.
	frozen bool
}

// Row implements views.Rows.
func (s *seenRows) Row(n freshet.Number) (*freshet.Following, error) {
	if seen := s.seen[n]; s.frozen && len(seen) > 0 {
		return seen[0], nil
	}
	row, err := s.Rows.Row(n)
	if err == nil {
		s.seen[n] = append(s.seen[n], row)
	}
	return row, err
}

// read is a page that a client reads while everything goes on, and checks.
func (a *api) read(reader freshet.Number, before freshet.PostID, limit int) {
	w := a.w
	a.client("read", func(*coro) {
		rows := &seenRows{Rows: a.view, seen: map[freshet.Number][]*freshet.Following{},
			frozen: w.mutated("row read before the mark")}
		f := *a.feeds
		f.Rows = rows
		at := w.now
		began, first := w.step, a.view.rows[reader.Key()]
		page, err := f.Feed(background, reader, before, limit)
		if err != nil {
			w.count("read: fails")
			return
		}
		w.count("read: pages")
		if w.mutated("complete though the view is behind") && a.behind(reader, before, &page) {
			page.Complete, page.Next = true, 0
		}
		w.checkPage(&pageRead{
			a: a, reader: reader, before: before, page: page, began: began, rows: rows.seen, first: first,
			last: a.view.rows[reader.Key()], at: at,
		})
	})
}

// behind is for a mutation: the page ends the list, the process' row is older than the reader's feed, and nothing else
// makes the page incomplete.
func (a *api) behind(reader freshet.Number, before freshet.PostID, page *views.Page) bool {
	last := before
	if n := len(page.Posts); n > 0 {
		last = page.Posts[n-1].ID
	}
	if page.Complete || page.Next != last && !(last == 0 && page.Next>>62 == 1) {
		return false
	}
	for zone := range feeds.Zone(a.w.layout.Zones) {
		if !a.w.redis.model.Well(zone) {
			return false
		}
	}
	read := &feeds.ReadBlock{Block: reader.Block(), Slot: int(reader.Slot())}
	a.w.redis.model.Apply(read)
	feed, _, err := read.Feed(reader.Slot())
	return err == nil && !feed.Building && a.view.rows[reader.Key()].At() < feed.RowVersion
}

// pageRead is a page and the circumstances under which it was read.
type pageRead struct {
	a           *api
	reader      freshet.Number
	before      freshet.PostID
	page        views.Page
	began       int
	at          time.Time // at which it began
	rows        map[freshet.Number][]*freshet.Following
	first, last *freshet.Following
}

func (w *world) checkPage(r *pageRead) {
	page := r.page
	var ids []freshet.PostID
	for _, post := range page.Posts {
		ids = append(ids, post.ID)
	}
	w.tracef("%s: page of %v below %v: %v next %v complete %t (read since %d)",
		r.a.name, r.reader, r.before, ids, page.Next, page.Complete, r.began)
	for i, id := range ids {
		p := w.truth.posts[id]
		switch {
		case p == nil:
			w.violate("unknown post", []any{r.reader}, "%d in a feed of %s", id, w.account(r.reader))
			return
		case i > 0 && id >= ids[i-1]:
			w.violate("order", []any{r.reader, id}, "page %v", ids)
		case r.before != 0 && id >= r.before:
			w.violate("cursor", []any{r.reader, id}, "page %v of posts below %v", ids, r.before)
		case page.Next != 0 && id < page.Next:
			w.violate("next", []any{r.reader, id}, "page %v, and the next begins below %v", ids, page.Next)
		case p.answered > 0 && p.answered < r.began && !p.lost && p.exposed < r.began:
			w.violate("deleted post shown", []any{p.id, r.reader},
				"%s in a feed of %s, read since step %d; its delete was answered in step %d", w.truth.name(id), w.account(r.reader),
				r.began, p.answered)
		case r.closed(p.author):
			w.violate("post of a closed account shown", []any{p.id, p.author, r.reader}, "%s of %s in a feed of %s, read since "+
				"step %d", w.truth.name(id), w.account(p.author), w.account(r.reader), r.began)
			return
		case !r.allowed(p.author):
			w.violate("hidden post shown", []any{p.id, p.author, r.reader}, "%s of %s in a feed of %s",
				w.truth.name(id),
				w.account(p.author), w.account(r.reader))
		}
	}
	if !page.Complete {
		w.count("read: incomplete pages")
		return
	}
	if w.truth.open(r.began) {
		w.count("read: complete pages while a loss is not noticed")
		return
	}
	w.count("read: complete pages checked")
	for _, p := range w.truth.order {
		if r.mayBeKept(p) {
			continue
		}
		if p.due && p.dueAt < r.began && !p.deleted && p.id >= page.Next && (r.before == 0 || p.id < r.before) &&
			r.owed(p) &&
			!slices.Contains(ids, p.id) {
			w.violate("complete page lacks a post", []any{p.id, p.author, r.reader},
				"%s of %s is not in the feed of %s: %v, complete, below %v, next %v, read since step %d", w.truth.name(p.id),
				w.account(p.author), w.account(r.reader), names(w,
					ids), w.truth.name(r.before), w.truth.name(page.Next), r.began)
			return
		}
	}
}

func names(w *world, ids []freshet.PostID) []string {
	var all []string
	for _, id := range ids {
		all = append(all, w.truth.name(id))
	}
	return all
}

// closed says that the process knew, before the read began, that the author's account is closed.
func (r *pageRead) closed(author freshet.Number) bool {
	step, closed := r.a.accounts.closed[author]
	return closed && step < r.began
}

// allowed says that by some rows which the process had during the read the reader may see the author's posts.
func (r *pageRead) allowed(author freshet.Number) bool {
	if author == r.reader {
		return true
	}
	for _, row := range r.rows[r.reader] {
		if row.Follows(author) && !row.Mutes(author) && !row.Blocks(author) {
			for _, other := range r.rows[author] {
				if !other.Blocks(r.reader) {
					return true
				}
			}
		}
	}
	return false
}

// owed says that a post belongs on the page by every row that the process had during the read: the follow which these
// rows name is the last word in the log, or the post had come to all feeds before there was another.
func (r *pageRead) owed(p *postTruth) bool {
	t, author := r.a.w.truth, p.author
	switch {
	case t.closed[author]:
		return false
	case p.behind && r.a.w.store.posts[p.id] == nil:
		return false // by its id it is so old that it has to be in the post store already
	case author == r.reader:
		return true
	}
	for _, row := range append(r.rows[r.reader], r.first, r.last) {
		relation, ok := row.Relation(author)
		if !ok || !relation.Follows || row.Mutes(author) || row.Blocks(author) {
			return false
		}
		until, over := t.until[pairEvent{r.reader, author, following.OffsetOf(relation.Version)}]
		if over && (p.dueAt >= until || p.dueAt <= t.lastLoss) {
			return false // the tree may have let go of the reader before the post came, or came again
		}
	}
	for _, other := range append(r.rows[author], r.a.view.rows[author.Key()]) {
		if other.Blocks(r.reader) {
			return false
		}
	}
	return true
}
