package emitters

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
)

// redisGrace bounds what a post waits for Redis, before and after it is in the log: posting does not depend on Redis.
const redisGrace = time.Second

// tombstoneGrace bounds what the answer to a delete waits for Redis. It is long: once a delete is answered no read of
// this process may show the post, and a Redis that is only slow goes on answering reads.
const tombstoneGrace = 5 * time.Second

// PostStore is what deleting needs of the post store.
type PostStore interface {
	Posts(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error)
}

// Publisher writes posts and their ends into the log, and then what fan-out will write into Redis again: so the readers
// of this process see them at once. It is safe for concurrent use.
type Publisher struct {
	Emitters *Emitters
	Conn     feeds.Conn
	Layout   feeds.Layout
	Store    PostStore
	// Forget, unless nil, is called with a post that is deleted, before Delete returns.
	Forget func(post freshet.PostID)
	// Unwritten, unless nil, is called with a post that is in the log and not in Redis, before Publish returns.
	Unwritten func(author freshet.Number, post freshet.PostID)
	Log       *slog.Logger

	tokens zoneTokens
}

// Publish writes a new post. When it returns nil the post is in the log and will never be lost; unless Redis does not
// take it, a read of the author's feed, the author's posts or the post finds it.
func (p *Publisher) Publish(ctx context.Context, post freshet.Post) (Position, error) {
	posts := []freshet.Post{post}
	tokens := p.tokensOf(ctx, posts)
	at, err := p.Emitters.Post(ctx, freshet.PostEvent{Kind: freshet.PostCreated, Post: post})
	if err != nil {
		return at, err
	}
	p.show(ctx, posts, []Outcome{{Position: at}}, tokens)
	return at, nil
}

// PublishAll is Publish for many posts, with an outcome for each; those that were not written have an error. All are
// written to the log at once, those of an author in the order given.
func (p *Publisher) PublishAll(ctx context.Context, posts []freshet.Post) []Outcome {
	if len(posts) == 0 {
		return nil
	}
	tokens := p.tokensOf(ctx, posts)
	outcomes := p.Emitters.Posts(ctx, posts)
	p.show(ctx, posts, outcomes, tokens)
	return outcomes
}

// Delete deletes a post; found is false for one that never was, and the position is zero for one that is deleted
// already. The log is told first: a tombstone without a delete in the log would hide a post that is there. Only when
// Redis has the tombstone is nothing shown any more, and only then does Delete return nil; one that fails with
// ErrUnavailable may have happened, and is to be tried again.
func (p *Publisher) Delete(ctx context.Context, id freshet.PostID) (at Position, found bool, err error) {
	if p.Forget != nil {
		defer p.Forget(id) // also of one that another process has deleted
	}
	author, state, err := p.authorOf(ctx, id)
	if err != nil || state == postUnknown || state == postHidden {
		return Position{}, state == postHidden, err
	}
	if state == postLives {
		at, err = p.Emitters.Post(ctx, freshet.PostEvent{
			Kind: freshet.PostDeleted, Post: freshet.Post{ID: id, Author: author, DeletedAt: time.Now()},
		})
		if err != nil {
			return Position{}, true, err
		}
	}
	if err := p.within(ctx, tombstoneGrace, &feeds.PutTombstone{Post: id}); err != nil {
		return Position{}, true, fmt.Errorf("hide post %s, whose delete is in the log: %w: %w", id, ErrUnavailable, err)
	}
	return at, true, nil
}

type postState int

const (
	postUnknown postState = iota
	postLives
	postDeleted // as the post store has it
	postHidden  // by its tombstone
)

// authorOf finds a post's author: in Redis, else in the post store. When Redis is away, a post that the store does not
// have may still be there.
func (p *Publisher) authorOf(ctx context.Context, id freshet.PostID) (freshet.Number, postState, error) {
	read := &feeds.ReadBody{Post: id}
	away := p.try(ctx, read)
	if read.Deleted {
		return 0, postHidden, nil
	}
	var body events.Body
	if len(read.Body) > 0 && proto.Unmarshal(read.Body, &body) == nil {
		return freshet.Number(body.GetAuthor()), postLives, nil
	}
	stored, err := p.Store.Posts(ctx, []freshet.PostID{id})
	if err != nil {
		return 0, postUnknown, fmt.Errorf("look for post %s: %w: %w", id, ErrUnavailable, err)
	}
	post, known := stored[id]
	switch {
	case known && post.DeletedAt.IsZero():
		return post.Author, postLives, nil
	case known:
		return 0, postDeleted, nil
	case away != nil:
		return 0, postUnknown, fmt.Errorf("look for post %s: %w: %w", id, ErrUnavailable, away)
	case !read.State.Well():
		return 0, postUnknown, fmt.Errorf("look for post %s: redis is being recovered: %w", id, ErrUnavailable)
	}
	return 0, postUnknown, nil
}

func (p *Publisher) try(ctx context.Context, op feeds.Op) error { return p.within(ctx, redisGrace, op) }

func (p *Publisher) within(ctx context.Context, grace time.Duration, ops ...feeds.Op) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	return p.Conn.Do(ctx, ops...)
}
