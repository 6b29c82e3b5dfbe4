package audit

import (
	"testing"

	"freshet"
	"freshet/internal/feeds"
)

// BenchmarkSuspect compares a feed of 200 posts by 50 authors, each of whom has 40, with its lists: what an account
// costs beside reading it.
func BenchmarkSuspect(b *testing.B) {
	a := account{number: 1, row: &freshet.Following{Version: 2}, lists: map[freshet.Number]*list{}}
	a.feed.RowVersion = 2
	for author := freshet.Number(2); author < 52; author++ {
		a.row.Relations = append(a.row.Relations, follows(author))
		of := &list{}
		for i := freshet.PostID(40); i > 0; i-- {
			id := i*100 + freshet.PostID(author)
			of.ids = append(of.ids, id)
			a.feed.IDs = append(a.feed.IDs, id)
		}
		a.lists[author] = of
	}
	a.feed.IDs = feeds.Newest(a.feed.IDs, 200)
	layout := feeds.Layout{Zones: 1, FeedLength: 200}
	f := flushed{below: 1 << 62}
	b.ReportAllocs()
	for b.Loop() {
		if s := suspect(a, layout, f.has); len(s.missing)+len(s.strange) > 0 || s.entries != 200 {
			b.Fatalf("%+v", s)
		}
	}
}
