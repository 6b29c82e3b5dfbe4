package surfaces

import (
	"maps"
	"slices"
)

// Account is an account from its registration to its end.
type Account struct{ ID string }

// Post is a post as it is now.
type Post struct {
	ID        string
	Author    *Account
	Text      string
	ReplyTo   string
	Followers bool // it is for followers only
	Deleted   bool
}

// Relation is what an account has to another.
type Relation int

// The relations.
const (
	Follows Relation = iota
	Mutes
	Blocks
)

// Pair is two accounts, in this direction.
type Pair struct{ Who, Whom *Account }

// World is all that decides who sees what.
type World struct {
	Posts   []*Post // in the order of their ids
	Related [3]map[Pair]bool
	Closed  map[*Account]bool
}

// NewWorld is one without anything in it.
func NewWorld() *World {
	w := &World{Closed: map[*Account]bool{}}
	for r := range w.Related {
		w.Related[r] = map[Pair]bool{}
	}
	return w
}

// Has says whether who has the relation to whom.
func (w *World) Has(r Relation, who, whom *Account) bool { return w.Related[r][Pair{who, whom}] }

// Hidden says whether nothing of the author is shown to the viewer, anywhere.
func (w *World) Hidden(viewer, author *Account) bool {
	return w.Closed[author] || viewer != author && (w.Has(Blocks, viewer, author) || w.Has(Blocks, author, viewer))
}

// Sees says whether the post is shown to the viewer where it is asked for.
func (w *World) Sees(viewer *Account, p *Post) bool {
	if p.Deleted || w.Hidden(viewer, p.Author) {
		return false
	}
	return !p.Followers || viewer == p.Author || w.Has(Follows, viewer, p.Author)
}

// Hears says whether the author's posts belong into the viewer's home feed.
func (w *World) Hears(viewer, author *Account) bool {
	if w.Hidden(viewer, author) {
		return false
	}
	return viewer == author || w.Has(Follows, viewer, author) && !w.Has(Mutes, viewer, author)
}

// Feed is the viewer's home feed, newest first.
func (w *World) Feed(viewer *Account) []*Post {
	return w.list(func(p *Post) bool { return w.Hears(viewer, p.Author) && w.Sees(viewer, p) })
}

// Profile is what the viewer is shown of an author's posts, newest first.
func (w *World) Profile(viewer, author *Account) []*Post {
	return w.list(func(p *Post) bool { return p.Author == author && w.Sees(viewer, p) })
}

func (w *World) list(in func(*Post) bool) []*Post {
	var found []*Post
	for _, p := range slices.Backward(w.Posts) {
		if in(p) {
			found = append(found, p)
		}
	}
	return found
}

// Clone is a copy that does not change with the world.
func (w *World) Clone() *World {
	c := NewWorld()
	for _, p := range w.Posts {
		copied := *p
		c.Posts = append(c.Posts, &copied)
	}
	for r, pairs := range w.Related {
		for pair := range pairs {
			c.Related[r][pair] = true
		}
	}
	maps.Copy(c.Closed, w.Closed)
	return c
}
