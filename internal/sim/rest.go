package sim

import (
	"cmp"
	"fmt"
	"slices"

	"freshet"
	"freshet/processors/fanout"
	"freshet/processors/following"
	"freshet/views"
)

// definition is the feed of every account as the logs define it, newest first.
func (w *world) definition() map[freshet.Number][]freshet.PostID {
	type set map[freshet.Number]bool
	follows, mutes, blocks := map[freshet.Number]set{}, map[freshet.Number]set{}, map[freshet.Number]set{}
	for _, n := range w.accounts {
		follows[n], mutes[n], blocks[n] = set{}, set{}, set{}
	}
	for _, log := range w.follows.parts {
		for _, r := range log {
			e, _ := r.value.(following.Event)
			for _, target := range e.Targets {
				if target == e.Follower {
					continue
				}
				switch e.Kind {
				case following.Follow, following.Unfollow:
					follows[e.Follower][target] = e.Kind == following.Follow
				case following.Mute, following.Unmute:
					mutes[e.Follower][target] = e.Kind == following.Mute
				case following.Block, following.Unblock:
					blocks[e.Follower][target] = e.Kind == following.Block
				}
			}
		}
	}
	feed := map[freshet.Number][]freshet.PostID{}
	for _, n := range w.accounts {
		feed[n] = []freshet.PostID{} // not nil: that there is nothing is to be compared, too
		for _, p := range w.truth.order {
			a := p.author
			hidden := !p.logged || p.deleted || w.truth.closed[a]
			if !hidden && (a == n || follows[n][a] && !mutes[n][a] && !blocks[n][a] && !blocks[a][n]) {
				feed[n] = append(feed[n], p.id)
			}
		}
		slices.SortFunc(feed[n], func(a, b freshet.PostID) int { return cmp.Compare(b, a) })
	}
	return feed
}

// checkAtRest compares everything with the definition.
func (w *world) checkAtRest() {
	feed := w.definition()
	for _, a := range w.apis {
		for _, n := range w.accounts {
			w.walk(a, n, nil)
			w.walk(a, n, feed[n])
			if w.violated != nil {
				return
			}
		}
	}
	w.checkProfiles()
	w.checkTrees()
}

// walk reads a whole feed in pages; without want it is to bring the feed about.
func (w *world) walk(a *api, reader freshet.Number, want []freshet.PostID) {
	second := want != nil
	var got []freshet.PostID
	var page views.Page
	before := freshet.PostID(0)
	for pages := 0; ; pages++ {
		var err error
		page, err = a.readNow(func() (views.Page, error) {
			return a.feeds.Feed(background, reader, before, 1+w.rng.IntN(6))
		})
		if err != nil {
			w.violate("read at rest", []any{reader}, "%v", err)
			return
		}
		for _, post := range page.Posts {
			got = append(got, post.ID)
			if p := w.truth.posts[post.ID]; second && p.text != post.Text {
				w.violate("text at rest", []any{post.ID, reader}, "%s reads %q, not %q", w.truth.name(post.ID),
					post.Text, p.text)
			}
		}
		if second && !page.Complete {
			w.violate("incomplete at rest", []any{reader}, "page of %s below %s: %v next %s", w.account(reader),
				w.truth.name(before), names(w, got), w.truth.name(page.Next))
			return
		}
		if page.Next == 0 || page.Next == before && !page.Complete {
			break
		}
		if pages > 1000 {
			w.violate("endless walk", []any{reader}, "next %v", page.Next)
			return
		}
		before = page.Next
	}
	if !second || w.violated != nil {
		return
	}
	if !slices.Equal(got, want) {
		var about []any
		for _, id := range symmetric(got, want) {
			about = append(about, id)
		}
		w.violate("feed at rest", append(about, reader), "feed of %s by %s is %v, not %v", w.account(reader), a.name,
			names(w, got), names(w, want))
	}
}

func symmetric(a, b []freshet.PostID) []freshet.PostID {
	var only []freshet.PostID
	for _, id := range a {
		if !slices.Contains(b, id) {
			only = append(only, id)
		}
	}
	for _, id := range b {
		if !slices.Contains(a, id) {
			only = append(only, id)
		}
	}
	return only
}

// readNow runs a read to its end, with nobody in between.
func (a *api) readNow(read func() (page views.Page, err error)) (page views.Page, err error) {
	c := a.w.spawn(a.proc, "read at rest", func(*coro) { page, err = read() })
	for !c.ended {
		a.w.step++
		c.run()
	}
	a.w.forgetCoros()
	return page, err
}

func (w *world) checkProfiles() {
	for _, author := range w.accounts {
		var want []freshet.PostID
		for _, p := range w.truth.order {
			if p.author == author && p.logged && !p.deleted && !w.truth.closed[author] {
				want = append(want, p.id)
			}
		}
		slices.SortFunc(want, func(a, b freshet.PostID) int { return cmp.Compare(b, a) })
		var got []freshet.PostID
		for before := freshet.PostID(0); ; {
			page, err := w.apis[0].readNow(func() (views.Page, error) {
				return w.apis[0].feeds.ByAuthor(background, author, before, 1+w.rng.IntN(5))
			})
			if err != nil || !page.Complete {
				w.violate("profile at rest", []any{author}, "incomplete, error %v", err)
				return
			}
			for _, post := range page.Posts {
				got = append(got, post.ID)
			}
			if before = page.Next; before == 0 {
				break
			}
		}
		if !slices.Equal(got, want) {
			var about []any
			for _, id := range symmetric(got, want) {
				about = append(about, id)
			}
			w.violate("profile at rest", append(about, author), "posts of %s: %v, not %v", w.account(author),
				names(w, got), names(w, want))
		}
	}
}

// rowOf and nodeOf look into the tables of whoever owns the partition.
func (w *world) rowOf(n freshet.Number) *freshet.Following {
	row, _ := w.following.lookUp(n.Key()).(*freshet.Following)
	return row
}

func (w *world) nodeAt(a fanout.Address) *fanout.Node {
	node, _ := w.fanout.lookUp(a.Key()).(*fanout.Node)
	return node
}

func (g *group) lookUp(key string) any {
	partition := g.table.partition(key)
	if h := g.owner[partition]; h != nil && h.sess != nil && h.sess.ready {
		for _, p := range h.sess.parts {
			if p.number == partition {
				return p.rows[key]
			}
		}
	}
	return nil
}

func (w *world) checkTrees() {
	held := map[[2]freshet.Number]int{}
	for _, author := range w.accounts {
		entries := w.checkTree(fanout.Address{Author: author}, held)
		root := w.nodeAt(fanout.Address{Author: author})
		if total := root.Total(); total != uint64(entries) {
			w.violate("totals at rest", []any{author}, "the root of %s says %d followers, its pages hold %d",
				w.account(author), total, entries)
		}
	}
	for _, follower := range w.accounts {
		row := w.rowOf(follower)
		for _, author := range w.accounts {
			relation, _ := row.Relation(author)
			places := held[[2]freshet.Number{author, follower}]
			last, known := w.truth.last[[2]freshet.Number{follower, author}]
			switch {
			case relation.Follows && !relation.Applied:
				w.violate("applied at rest", []any{follower, author}, "%s follows %s, not applied", w.account(follower),
					w.account(author))
			case relation.Follows && (!known || following.OffsetOf(relation.Version) != last):
				w.violate("row at rest", []any{follower, author}, "%s follows %s at version %d, the log says %d",
					w.account(follower), w.account(author), relation.Version, last)
			case relation.Follows && places == 0, !relation.Follows && places > 0:
				w.violate("tree at rest", []any{follower, author}, "%s follows %s: %t; it is in %d places",
					w.account(follower), w.account(author), relation.Follows, places)
			case places > 1:
				w.count("tree: a follower in two places")
			}
		}
		if row.At() > 0 && follower != 0 {
			list, _ := w.store.Followers(background, follower, 0, 1000)
			for _, other := range w.accounts {
				if r, _ := w.rowOf(other).Relation(follower); r.Follows != slices.Contains(list, other) {
					w.violate("follower list at rest", []any{other, follower},
						"%s follows %s: %t; the store says otherwise", w.account(other), w.account(follower), r.Follows)
				}
			}
		}
	}
}

// checkTree counts the entries of a subtree. Nodes that the parent does not know of must not hold anybody.
func (w *world) checkTree(at fanout.Address, held map[[2]freshet.Number]int) int {
	node := w.nodeAt(at)
	if node == nil {
		return 0
	}
	entries := len(node.Followers)
	for _, f := range node.Followers {
		held[[2]freshet.Number{at.Author, f}]++
		for depth, branch := range at.Path {
			if b, _ := (fanout.Address{Author: at.Author, Path: at.Path[:depth]}).Branch(f); b != branch {
				w.violate("path at rest", []any{at.Author, f}, "%s is at %s, off its path", w.account(f), at.Key())
			}
		}
	}
	for child := range byte(fanout.Children) {
		below := w.checkTree(at.Child(child), held)
		if below > 0 && !node.Opened(child) {
			w.violate("open at rest", []any{at.Author}, "child %d of %s holds %d followers and is not open", child,
				at.Key(), below)
		}
		entries += below
	}
	return entries
}

// keyed shows the key of a row with the name of its account.
func (w *world) keyed(key string) string {
	a, err := fanout.ParseAddress(key)
	if err != nil {
		return key
	}
	return fmt.Sprint(w.account(a.Author), " ", a.Path)
}

func (w *world) show(value any) string {
	if !w.cfg.Trace {
		return ""
	}
	switch v := value.(type) {
	case *freshet.Following:
		s := fmt.Sprintf("version %d next %d", v.Version, v.Next)
		for _, r := range v.Relations {
			s += fmt.Sprintf(" %s:%t@%d,applied=%t@%d", w.account(r.Account), r.Follows, r.Version, r.Applied,
				r.AppliedAt)
		}
		return s
	case *fanout.Node:
		var s []string
		for _, f := range v.Followers {
			s = append(s, w.account(f))
		}
		return fmt.Sprintf("%v open %b subtotals %v reported %d", s, v.Open, v.Subtotals, v.Reported)
	}
	return fmt.Sprint(value)
}
