// Package posts is the post store: every post that the posts topic ever told of, and the follower lists that the API
// shows. The archive group writes it; reads of single posts, profiles, cold feeds and old pages come from it.
//
// A store is a function of the set of events it was given. Each column of a row remembers the offset that wrote it and
// only a higher one overwrites it, so events may come twice, late or in any order, and an old event replayed never
// brings anything back:
//
//	column                                   written by
//	author, reply, visibility, created_at    created
//	text                                     created, edited
//	edited_at                                edited
//	deleted_at                               deleted
//
// All events of a post lie in one partition, that of its author, which is why an offset alone gives their order.
//
// A post may be saved here before it is published (marks.go); that is none of the above, and nobody is told of it.
//
// The package holds the interfaces and their words; pebblestore implements them on the local disk, and package
// poststest is the suite that every implementation passes.
package posts

import (
	"context"
	"time"

	"freshet"
)

// Store keeps posts and follower lists. All methods are safe for concurrent use. Times are kept to the millisecond and
// come back in UTC.
type Store interface {
	// Apply stores events of the posts topic, as many as the caller likes and of any partitions. When it returns nil
	// all of them are stored; after an error any of them may be, and the caller applies the whole slice again.
	// An event of an unknown kind is an error.
	Apply(ctx context.Context, events []Event) error

	// ApplyFollowers stores who follows whom: one row per followee and follower, of which the highest version stays.
	// Errors are as with Apply.
	ApplyFollowers(ctx context.Context, changes []FollowerChange) error

	// Posts returns those of ids that the store knows. Deleted posts are among them, with DeletedAt set, so that the
	// caller can tell "deleted" from "not stored yet". A post of which only the end is known (its delete, without its
	// creation) comes back deleted; one of which only edits are known is absent.
	Posts(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error)

	// ByAuthor returns up to limit posts of the author with ids below before, newest first, without deleted ones.
	// 0 starts at the newest; the id of the last post of a page is where the next page begins.
	ByAuthor(ctx context.Context, author freshet.Number, before freshet.PostID, limit int) ([]freshet.Post, error)

	// IDsByAuthor returns the ids of the author's newest posts, limit at most, newest first, without deleted ones: those
	// of ByAuthor's first page, for less than that costs, because no post is read.
	IDsByAuthor(ctx context.Context, author freshet.Number, limit int) ([]freshet.PostID, error)

	// Followers returns up to limit followers of the followee, ascending, beginning with the lowest number that is
	// from or above. 0 starts the list; the next page begins at the last number plus one.
	Followers(ctx context.Context, followee, from freshet.Number, limit int) ([]freshet.Number, error)

	// Progress says for each partition of posts how far the archive group has come. A partition without an entry has
	// stored nothing.
	Progress(ctx context.Context) (map[int32]Progress, error)

	// SetProgress notes how far the archive group has come in a partition, after everything below it was applied.
	// Neither field ever goes down; a lower value changes nothing.
	SetProgress(ctx context.Context, partition int32, p Progress) error

	// Close waits for nothing: the caller has ended its own calls before.
	Close() error
}

// Event is a record of the posts topic with its offset, or rather its rank; see freshet.PostEvent.
type Event struct {
	freshet.PostEvent
	Offset int64
}

// FollowerChange says whether Follower follows Followee, as of Version, which grows with each change of the pair.
type FollowerChange struct {
	Followee, Follower freshet.Number
	Follows            bool
	Version            int64
}

// Progress is how far the archive group has come in one partition of posts.
type Progress struct {
	// Offset: every record below it is stored.
	Offset int64
	// Through: every record whose Kafka timestamp is before it is stored. Zero: nothing is known.
	Through time.Time
}
