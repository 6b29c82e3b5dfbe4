package views

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/posts"
)

type bodyState int

const (
	bodyUnknown bodyState = iota // nowhere, and too young for that to mean anything
	bodyFound
	bodyGone // deleted, or there never was one
)

type body struct {
	state bodyState
	post  freshet.Post
	well  bool // nothing was lacking: a body that is unknown was never written
	// offset is that of the record in posts of which the body is; -1 if it is from the post store.
	offset int64
}

// hydrate finds the posts of ids: in Redis, else among known, else in the post store, else among those that this
// process has put into the log and Redis did not take; known may be nil. What the store had reached was asked before
// known was read and before this was called.
//
// A delete is answered when its tombstone is in Redis, and the store may get to know of it only later. So the store's
// word that a post is there counts only beside a zone that has all its tombstones; in one that is being recovered, the
// store must have passed every delete whose tombstone may be missing. A body in such a zone is not trusted at all; a
// tombstone always is, because a delete is in the log before it.
func (f *Feeds) hydrate(
	ctx context.Context, ids []freshet.PostID, known map[freshet.PostID]freshet.Post, reached reached,
) ([]body, error) {
	bodies := make([]body, len(ids))
	drawn := f.Recent.look(ids, bodies)
	var reads []*feeds.ReadBody // nil for those that are kept
	var ops []feeds.Op
	for i, id := range ids {
		if bodies[i].state == bodyFound {
			continue
		}
		if reads == nil {
			reads, ops = make([]*feeds.ReadBody, len(ids)), make([]feeds.Op, 0, len(ids)-i)
		}
		reads[i] = &feeds.ReadBody{Post: id}
		ops = append(ops, reads[i])
	}
	if len(ops) == 0 {
		return bodies, nil
	}
	if err := f.Conn.Do(ctx, ops...); err != nil {
		return nil, fmt.Errorf("read %d posts: %w", len(ops), err)
	}
	defer func() { f.keep(bodies, reads, drawn) }()
	var missing []freshet.PostID
	for i, read := range reads {
		if read == nil {
			continue
		}
		own, logged := f.Unwritten.Find(ids[i])
		switch post, ok := decodeBody(read); {
		case read.Deleted, logged && !own.DeletedAt.IsZero():
			bodies[i].state = bodyGone
		case ok && read.State.Well() && (!logged || read.Offset >= own.Rank):
			bodies[i] = body{state: bodyFound, post: post, offset: read.Offset}
		default:
			missing = append(missing, ids[i])
		}
	}
	if len(missing) == 0 {
		return bodies, nil
	}
	stored, away := known, false
	if known == nil {
		var err error
		stored, err = f.Store.Posts(ctx, missing)
		if away = errors.Is(err, freshet.ErrStoreAway); away {
			reached.through = 0 // what it does not say is not known
		} else if err != nil {
			return nil, fmt.Errorf("read %d posts from the post store: %w", len(missing), err)
		}
	}
	for i, id := range ids {
		if bodies[i].state != bodyUnknown {
			continue
		}
		bodies[i].well = reads[i].State.Well() && !away
		post, found := stored[id]
		own, logged := f.unwritten(id, reached)
		switch {
		case found && !post.DeletedAt.IsZero():
			bodies[i].state = bodyGone
		case found || logged && !away: // the store may know of a delete
			if !reached.tombstones(reads[i]) {
				continue
			}
			bodies[i] = body{state: bodyFound, post: post, offset: -1}
			if logged {
				bodies[i].post, bodies[i].offset = own.Post, own.Offset
			}
		case id < reached.through:
			bodies[i].state = bodyGone
		}
	}
	return bodies, nil
}

// unwritten is a post of this process that Redis did not take, and that the store need not have as it is by now.
func (f *Feeds) unwritten(id freshet.PostID, reached reached) (feeds.Logged, bool) {
	post, ok := f.Unwritten.Find(id)
	if stored := reached.progress[post.Partition].Offset; ok && stored > post.Offset {
		f.Unwritten.Forget(id, stored) // the store may have what came after it
		return feeds.Logged{}, false
	}
	return post, ok
}

// keep keeps what was found now.
func (f *Feeds) keep(bodies []body, reads []*feeds.ReadBody, drawn ticket) {
	if f.Recent == nil {
		return
	}
	var found []freshet.Post
	for i, read := range reads {
		if read != nil && bodies[i].state == bodyFound {
			found = append(found, bodies[i].post)
		}
	}
	f.Recent.keep(found, drawn)
}

// Post finds one post that is not deleted and whose author's account is open. When there may be one that cannot be had
// now, the error wraps feeds.ErrAway, or freshet.ErrUnsettled if all answer and none has it yet.
func (f *Feeds) Post(ctx context.Context, id freshet.PostID) (freshet.Post, bool, error) {
	reached, err := f.reached(ctx)
	if err != nil {
		return freshet.Post{}, false, err
	}
	bodies, err := f.hydrate(ctx, []freshet.PostID{id}, nil, reached)
	if err != nil {
		return freshet.Post{}, false, err
	}
	switch {
	case bodies[0].state == bodyUnknown && !bodies[0].well:
		return freshet.Post{}, false, fmt.Errorf("look for post %s, which may be where nothing can be read: %w", id,
			feeds.ErrAway)
	case bodies[0].state == bodyUnknown && posts.MayCome(id, reached.through, f.Now()):
		return freshet.Post{}, false, fmt.Errorf("look for post %s: %w", id, freshet.ErrUnsettled)
	case bodies[0].state != bodyFound:
		return freshet.Post{}, false, nil
	}
	post := bodies[0].post
	r, err := f.relationship(post.Author, nil, post.Author)
	return post, freshet.CanSee(post, r), err
}

func decodeBody(read *feeds.ReadBody) (freshet.Post, bool) {
	var b events.Body
	if read.Body == nil || proto.Unmarshal(read.Body, &b) != nil {
		return freshet.Post{}, false
	}
	return b.Post(read.Post), true
}
