package views

import (
	"context"

	"freshet"
)

// Record is a record of the posts topic: which post it is about, and where it lies.
type Record struct {
	Post      freshet.PostID
	Partition int32
	Offset    int64
	// Created: it tells of the post's creation, which every body of the post is from or after.
	Created bool
}

// Sight is what a reader finds of a post after a record about it.
type Sight int

// The kinds of Sight.
const (
	// Later: readers do not find what the record says yet, or cannot know whether the post is deleted.
	Later Sight = iota
	// Shown: readers find the post as the record left it, or as a later one did.
	Shown
	// Gone: the post is deleted.
	Gone
)

// Look is what a reader finds of a post.
type Look struct {
	Sight Sight
	Post  freshet.Post // of one that is Shown
	// Well, of one that is Later: the post's tombstone would be known.
	Well bool
}

// Look says what readers find of posts about which there are records. It goes the way that pages go, but for what is
// kept for a moment, which may be from before the record. An error wraps feeds.ErrAway when nothing can be said now.
func (f *Feeds) Look(ctx context.Context, records []Record) ([]Look, error) {
	all, err := f.reached(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]freshet.PostID, len(records))
	for i, r := range records {
		ids[i] = r.Post
	}
	anew := *f
	anew.Recent = nil
	// Whether the store has come to a record is known by its offset, so the time in an id says nothing here.
	bodies, err := anew.hydrate(ctx, ids, nil, reached{progress: all.progress})
	if err != nil {
		return nil, err
	}
	looks := make([]Look, len(records))
	for i, r := range records {
		stored := all.progress[r.Partition].Offset > r.Offset
		switch b := bodies[i]; {
		case b.state == bodyGone:
			looks[i].Sight = Gone
		case b.state == bodyFound && (r.Created || b.offset >= r.Offset || b.offset < 0 && stored):
			looks[i] = Look{Sight: Shown, Post: b.post}
		case b.state == bodyFound:
			looks[i].Well = true
		case b.well && stored: // neither Redis nor the store, which had it
			looks[i].Sight = Gone
		default:
			looks[i].Well = b.well
		}
	}
	return looks, nil
}
