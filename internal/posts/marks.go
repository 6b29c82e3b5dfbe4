package posts

import (
	"context"
	"time"

	"freshet"
)

// Marks is the posts that are saved before they are published. Such a post is marked until it is known to be in the
// log; nothing else that a store answers tells of it before the archive group has stored its creation.
//
// What is saved ranks below every event, so a save that comes late or again changes nothing. A mark is only taken off
// when the log has the post's creation or its delete; whether a save that comes after that brings the mark back is left
// open, for whoever finds it then finds the post in the store as well.
//
// Marked posts are found by the time in their ids, a Slot at a time. Which slots may have some is what Sweeps says, so
// nobody looks at all posts, and what was looked through is not read again.
type Marks interface {
	// Save saves posts and marks them. When it returns nil all of them are saved; after an error any of them may be.
	Save(ctx context.Context, posts []freshet.Post) error

	// Unmark takes marks off. A post that has none, or is not known, is left as it is.
	Unmark(ctx context.Context, ids []freshet.PostID) error

	// Marked lists the posts of a slot that have a mark, ascending; also such as were published, or deleted, since.
	Marked(ctx context.Context, slot Slot) ([]freshet.PostID, error)

	// Saved returns those of ids that are saved, have a mark, and of which the store knows neither creation nor delete.
	Saved(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error)

	// Sweeps says which slots may have marked posts.
	Sweeps(ctx context.Context) (Sweeps, error)

	// NoteSweeps notes what is not zero in s. First stays what it was when it was noted for the first time; none of the
	// others ever goes down.
	NoteSweeps(ctx context.Context, s Sweeps) error
}

// Database is a whole post store.
type Database interface {
	Store
	Marks
}

// Slot is ten seconds of post ids. The first is that of freshet.Epoch.
type Slot int64

// SlotLength is how long a slot is.
const SlotLength = 10 * time.Second

// SlotOf is the slot of an id.
func SlotOf(id freshet.PostID) Slot { return Slot(id.Time().Sub(freshet.Epoch) / SlotLength) }

// SlotAt is the slot of the ids that are minted at a time.
func SlotAt(t time.Time) Slot { return SlotOf(freshet.FirstPostID(t)) }

// Begin is the time from which on ids are in the slot.
func (s Slot) Begin() time.Time { return freshet.Epoch.Add(time.Duration(s) * SlotLength) }

// Sweeps says how far the marked posts of all slots were looked through.
type Sweeps struct {
	// First is the first slot in which a post may have been saved; 0: none ever was.
	First Slot
	// Opened is the last one in which posts may be saved.
	Opened Slot
	// Closed is the last one that is about to be looked through: who saves a post there, or below, cannot rely on that any
	// more.
	Closed Slot
	// Swept is the last one below and in which all marked posts were published.
	Swept Slot
}
