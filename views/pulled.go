package views

import (
	"maps"
	"time"

	"freshet"
)

// PulledAuthors is what a feed needs of Tiers.
type PulledAuthors interface {
	Pulled() (Pulled, error)
}

// Pulled is the authors who are or ever were pulled: some of their posts are in their outboxes and in no follower's
// feed, so who follows them merges these. An author is never taken out again: the posts that were not delivered while
// it was pulled are still missing from feeds when new ones are delivered. It is not changed, and safe for concurrent
// use.
type Pulled struct {
	// AsOf: whoever was stated to be pulled before that moment, by this process's clock, is among the authors.
	AsOf    time.Time
	authors map[freshet.Number]struct{}
}

// With is p with an author of whom a tier is stated.
func (p Pulled) With(t freshet.Tier) Pulled {
	if _, known := p.authors[t.Author]; known || !t.Ever {
		return p
	}
	authors := make(map[freshet.Number]struct{}, len(p.authors)+1)
	maps.Copy(authors, p.authors)
	authors[t.Author] = struct{}{}
	p.authors = authors
	return p
}

// Has says whether the author is or ever was pulled.
func (p Pulled) Has(author freshet.Number) bool {
	_, ok := p.authors[author]
	return ok
}

// whole says that a page read now lacks no author. A post is not delivered from slack after its author was stated to be
// pulled. Whoever was stated later than AsOf still has its posts delivered if that is less than slack ago. The wall
// clock counts as well as the monotonic one, which stands still while a machine sleeps.
func (p Pulled) whole(now time.Time, slack time.Duration) bool {
	return now.Sub(p.AsOf) < slack && now.Round(0).Sub(p.AsOf.Round(0)) < slack
}

// sources are the authors whose outboxes complete a warm feed.
type sources struct {
	// late are followed authors whose posts may be missing from a feed built from a version of the row: their trees have
	// not yet reported the reader, or have done so later. settled says that one of them has.
	late    []freshet.Number
	settled bool
	// pulled are the other followed authors that are or ever were pulled.
	pulled []freshet.Number
}

func sourcesOf(row *freshet.Following, version uint64, pulled Pulled) (s sources) {
	for _, relation := range row.All() {
		switch {
		case !relation.Follows:
		case !relation.Applied || relation.AppliedAt > version:
			s.late = append(s.late, relation.Account)
			s.settled = s.settled || relation.Applied
		case pulled.Has(relation.Account):
			s.pulled = append(s.pulled, relation.Account)
		}
	}
	return s
}

// Horizon tells as of when a copy of a topic has everything that was in it: the ends that the topic had at a moment are
// compared with what is applied.
type Horizon struct {
	asked time.Time
	ends  map[int32]int64 // nil: nothing is asked
	asOf  time.Time
}

// Asked notes the ends of the topic's partitions. at is the time from before they were asked for.
func (h *Horizon) Asked(at time.Time, ends map[int32]int64) { h.asked, h.ends = at, ends }

// Reached says whether everything below the ends that were asked for last is applied, or nothing is asked. applied is
// the offset below which a partition is applied.
func (h *Horizon) Reached(applied func(partition int32) int64) bool {
	for partition, end := range h.ends {
		if applied(partition) < end {
			return false
		}
	}
	if h.ends != nil {
		h.asOf, h.ends = h.asked, nil
	}
	return true
}

// AsOf is the moment up to which everything is applied; zero before that is known of any.
func (h *Horizon) AsOf() time.Time { return h.asOf }
