package emitters

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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
	Log    *slog.Logger
}

// Publish writes a new post. When it returns nil the post is in the log and will never be lost; unless Redis is away, a
// read of the author's feed, the author's posts or the post finds it.
func (p *Publisher) Publish(ctx context.Context, post freshet.Post) (Position, error) {
	zone := &feeds.ReadZone{Zone: p.Layout.OfPost(post.ID)}
	if err := p.try(ctx, zone); err != nil {
		p.Log.Debug("redis is away; fan-out will write the post", "post", post.ID, "error", err)
	}
	at, err := p.Emitters.Post(ctx, freshet.PostEvent{Kind: freshet.PostCreated, Post: post})
	if err != nil || zone.State.Token == "" {
		return at, err
	}
	body, err := proto.Marshal(events.BodyOf(post))
	if err != nil {
		return at, fmt.Errorf("encode post %s for redis: %w", post.ID, err)
	}
	// The body first: who finds the id looks for it. The token is that of before the post was in the log: had Redis lost
	// anything since, the post could have been deleted meanwhile and its tombstone be gone.
	write := &feeds.PutBody{Post: post.ID, Token: zone.State.Token, Offset: at.Offset, Body: body}
	err = p.try(ctx, write)
	if err == nil {
		err = p.try(ctx, &feeds.AppendOutbox{Author: post.Author, IDs: feeds.AppendID(nil, post.ID)})
	}
	if err != nil {
		p.Log.Debug("redis is away; fan-out will write the post", "post", post.ID, "error", err)
	}
	return at, nil
}

// redisChunk is how many operations are asked of Redis at once for a batch.
const redisChunk = 1000

// PublishAll is Publish for many posts, with an outcome for each; those that were not written have an error. All are
// written to the log at once, those of an author in the order given.
func (p *Publisher) PublishAll(ctx context.Context, posts []freshet.Post) []Outcome {
	if len(posts) == 0 {
		return nil
	}
	tokens := p.tokens(ctx, posts)
	outcomes := p.Emitters.Posts(ctx, posts)
	if err := p.show(ctx, posts, outcomes, tokens); err != nil {
		p.Log.Debug("redis is away; fan-out will write the posts", "posts", len(posts), "error", err)
	}
	return outcomes
}

// tokens reads the tokens of the zones of posts.
func (p *Publisher) tokens(ctx context.Context, posts []freshet.Post) map[feeds.Zone]string {
	reads := map[feeds.Zone]*feeds.ReadZone{}
	var ops []feeds.Op
	for _, post := range posts {
		if zone := p.Layout.OfPost(post.ID); reads[zone] == nil {
			reads[zone] = &feeds.ReadZone{Zone: zone}
			ops = append(ops, reads[zone])
		}
	}
	if err := p.tryAll(ctx, ops); err != nil {
		p.Log.Debug("redis is away; fan-out will write the posts", "posts", len(posts), "error", err)
	}
	tokens := make(map[feeds.Zone]string, len(reads))
	for zone, read := range reads {
		tokens[zone] = read.State.Token
	}
	return tokens
}

// show writes the posts that are in the log into Redis, as Publish does: all bodies before any outbox.
func (p *Publisher) show(
	ctx context.Context, posts []freshet.Post, outcomes []Outcome, tokens map[feeds.Zone]string,
) error {
	var bodies, appends []feeds.Op
	outboxes := map[freshet.Number]*feeds.AppendOutbox{}
	for i, post := range posts {
		token := tokens[p.Layout.OfPost(post.ID)]
		if outcomes[i].Err != nil || token == "" {
			continue
		}
		body, err := proto.Marshal(events.BodyOf(post))
		if err != nil {
			return fmt.Errorf("encode post %s for redis: %w", post.ID, err)
		}
		bodies = append(bodies,
			&feeds.PutBody{Post: post.ID, Token: token, Offset: outcomes[i].Position.Offset, Body: body})
		outbox := outboxes[post.Author]
		if outbox == nil {
			outbox = &feeds.AppendOutbox{Author: post.Author}
			outboxes[post.Author] = outbox
			appends = append(appends, outbox)
		}
		outbox.IDs = feeds.AppendID(outbox.IDs, post.ID)
	}
	if err := p.tryAll(ctx, bodies); err != nil {
		return err
	}
	return p.tryAll(ctx, appends)
}

// tryAll asks for many operations, some at a time, until one time Redis does not answer.
func (p *Publisher) tryAll(ctx context.Context, ops []feeds.Op) error {
	for chunk := range slices.Chunk(ops, redisChunk) {
		if err := p.within(ctx, redisGrace, chunk...); err != nil {
			return err
		}
	}
	return nil
}

// Delete deletes a post; found is false for one that never was, and the position is zero for one that is deleted
// already. The log is told first: a tombstone without a delete in the log would hide a post that is there.
func (p *Publisher) Delete(ctx context.Context, id freshet.PostID) (at Position, found bool, err error) {
	if p.Forget != nil {
		defer p.Forget(id) // also of one that another process has deleted
	}
	author, state, err := p.authorOf(ctx, id)
	if err != nil || state != postLives {
		return Position{}, state == postDeleted, err
	}
	at, err = p.Emitters.Post(ctx, freshet.PostEvent{
		Kind: freshet.PostDeleted, Post: freshet.Post{ID: id, Author: author, DeletedAt: time.Now()},
	})
	if err != nil {
		return Position{}, true, err
	}
	if err := p.within(ctx, tombstoneGrace, &feeds.PutTombstone{Post: id}); err != nil {
		p.Log.Warn("redis is away; fan-out will hide the post", "post", id, "error", err)
	}
	return at, true, nil
}

type postState int

const (
	postUnknown postState = iota
	postLives
	postDeleted
)

// authorOf finds a post's author: in Redis, else in the post store. When Redis is away, a post that the store does not
// have may still be there.
func (p *Publisher) authorOf(ctx context.Context, id freshet.PostID) (freshet.Number, postState, error) {
	read := &feeds.ReadBody{Post: id}
	away := p.try(ctx, read)
	if read.Deleted {
		return 0, postDeleted, nil
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
