package emitters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/crash"
	"freshet/internal/events"
	"freshet/internal/feeds"
	"freshet/internal/posts"
)

// redisGrace bounds what a post waits for Redis, before and after it is in the log: posting does not depend on Redis.
const redisGrace = time.Second

// hideGrace bounds what the answer to a delete or an edit waits for Redis. It is long: once a delete is answered no
// read of this process may show the post, nor the old text after an edit, and a Redis that is only slow goes on
// answering reads.
const hideGrace = 5 * time.Second

// storeEvery is how often an edit whose post is not in Redis asks whether the post store has it.
const storeEvery = 50 * time.Millisecond

// ErrNotShown is wrapped by the errors of edits that are in the log, and that this process does not show yet.
var ErrNotShown = errors.New("the edit is in the log and not shown yet")

// ErrSaved is wrapped by the errors about posts that are saved in the post store, not known to be in the log, and will
// be published by whoever finds them there: such a post is accepted, and shown to nobody yet.
var ErrSaved = errors.New("the post is saved, and not known to be in the log yet")

// PostStore is what deleting and editing need of the post store.
type PostStore interface {
	Posts(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]freshet.Post, error)
	Progress(ctx context.Context) (map[int32]posts.Progress, error)
}

// May says whether a post may be changed by who asks for it; its error is what the change returns.
type May func(post freshet.Post) error

// Publisher writes posts and their ends into the log, and then what fan-out will write into Redis again: so the readers
// of this process see them at once. It is safe for concurrent use.
type Publisher struct {
	Emitters *Emitters
	Conn     feeds.Conn
	Layout   feeds.Layout
	Store    PostStore
	// Forget, unless nil, is called with a post that is edited or deleted, before Edit or Delete returns.
	Forget func(post freshet.PostID)
	// Unwritten is told of posts that are in the log and not in Redis, before Publish returns; nil: nobody is.
	Unwritten *feeds.Unwritten
	// Partitions is how many partitions the posts topic has, and Slowest how long after its id was minted a post may still
	// reach the log: what is neither in Redis nor in the post store may then be on its way.
	Partitions int32
	Slowest    time.Duration
	Log        *slog.Logger

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
	crash.At(crash.Published)
	p.show(ctx, posts, []Outcome{{Position: at}}, tokens, false)
	return at, nil
}

// PublishAll is Publish for many posts, with an outcome for each; those that were not written have an error. All are
// written to the log at once, those of an author in the order given.
func (p *Publisher) PublishAll(ctx context.Context, posts []freshet.Post) []Outcome {
	if len(posts) == 0 {
		return nil
	}
	tokens := p.tokensOf(ctx, posts)
	outcomes := p.Emitters.Posts(ctx, posts, false)
	p.show(ctx, posts, outcomes, tokens, false)
	return outcomes
}

// PublishSaved is PublishAll for posts that the post store has saved. Those that are late are left to fan-out and the
// archive to show: they may be in the log already, and have been edited since.
func (p *Publisher) PublishSaved(ctx context.Context, posts []freshet.Post) []Outcome {
	if len(posts) == 0 {
		return nil
	}
	tokens := p.tokensOf(ctx, posts)
	outcomes := p.Emitters.Posts(ctx, posts, true)
	if slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Err == nil }) {
		crash.At(crash.Published)
	}
	p.show(ctx, posts, outcomes, tokens, true)
	return outcomes
}

// Delete deletes a post; found is false for one that never was, and the position is zero for one that is deleted
// already. An error that wraps freshet.ErrUnsettled says that there may be one, and that nothing was done. The log is
// told first: a tombstone without a delete in the log would hide a post that is there. Only when Redis has the
// tombstone is nothing shown any more, and only then does Delete return nil; one that fails with ErrUnavailable may
// have happened, and is to be tried again.
func (p *Publisher) Delete(ctx context.Context, id freshet.PostID, may May) (at Position, found bool, err error) {
	if p.Forget != nil {
		defer p.Forget(id) // also of one that another process has deleted
	}
	// Any body will do: what was deleted may be deleted again.
	there, err := p.look(ctx, id, func(feeds.ZoneState) bool { return true })
	if err != nil || there.state == postUnknown {
		return Position{}, false, err
	}
	if there.state == postDeleted && !there.whole {
		return Position{}, true, nil // whose it was is not known any more, and nothing is done
	}
	if err := may(there.post); err != nil || there.hidden {
		return Position{}, true, err
	}
	if there.state == postLives {
		end := freshet.Post{ID: id, Author: there.post.Author, DeletedAt: time.Now()}
		at, err = p.Emitters.Post(ctx, freshet.PostEvent{Kind: freshet.PostDeleted, Post: end})
		if err != nil {
			return Position{}, true, err
		}
		p.Unwritten.Change(logged(there.post, end.DeletedAt, at))
	}
	if err := p.within(ctx, hideGrace, &feeds.PutTombstone{Post: id}); err != nil {
		return Position{}, true, fmt.Errorf("hide post %s, whose delete is in the log: %w: %w", id, ErrUnavailable, err)
	}
	return at, true, nil
}

// Edit gives a post another text and returns the post as it is then; found is false for one that is deleted or never
// was. An error that wraps freshet.ErrUnsettled says that there may be one, and that nothing was done. The log is told
// first. In Redis the text is replaced where there is one; where there is none, Unwritten has the post, and the edit
// with it, or the post store has the post, and Edit waits, until ctx ends, for it to have the edit. The position is
// that of the edit also when the error wraps ErrNotShown.
func (p *Publisher) Edit(
	ctx context.Context, id freshet.PostID, text string, may May,
) (post freshet.Post, at Position, found bool, err error) {
	if p.Forget != nil {
		defer p.Forget(id)
	}
	there, err := p.look(ctx, id, feeds.ZoneState.Well)
	if err != nil || there.state != postLives {
		return freshet.Post{}, Position{}, false, err
	}
	post = there.post
	if err := may(post); err != nil {
		return freshet.Post{}, Position{}, true, err
	}
	post.Text, post.EditedAt = text, time.Now()
	at, err = p.Emitters.Post(ctx, freshet.PostEvent{Kind: freshet.PostEdited, Post: post})
	if err != nil {
		return freshet.Post{}, Position{}, true, err
	}
	body, err := proto.Marshal(events.BodyOf(post))
	if err != nil {
		return post, at, true, fmt.Errorf("encode post %s for redis: %w", id, err)
	}
	// The token is that of when the post was found to live; see Publish. Only a body that is there is replaced: a process
	// that was asleep for days could otherwise bring a post back whose tombstone has expired.
	write := &feeds.PutBody{Post: id, Token: there.token, Offset: at.Offset, Body: body, Replace: true}
	if err := p.within(ctx, hideGrace, write); err != nil {
		p.Log.Debug("redis does not take an edit", "post", id, "error", err)
	}
	remembered := p.Unwritten.Change(logged(post, time.Time{}, at))
	if there.well && (write.OK || remembered) {
		return post, at, true, nil
	}
	return post, at, true, p.awaitShown(ctx, id, at)
}

// logged is a post as an edit or a delete left it.
func logged(post freshet.Post, deleted time.Time, at Position) feeds.Logged {
	post.DeletedAt = deleted
	return feeds.Logged{Post: post, Partition: at.Partition, Offset: at.Offset, Rank: at.Offset}
}

// awaitShown waits until readers find an edit, or a later one: in Redis, or in the post store with nothing older in
// Redis. In a zone that is being recovered readers do not trust Redis, so the store has to have the edit, and fan-out
// may yet write the text of before, so Redis has to have it, too.
func (p *Publisher) awaitShown(ctx context.Context, id freshet.PostID, at Position) error {
	tick := time.NewTicker(storeEvery)
	defer tick.Stop()
	for {
		read := &feeds.ReadBody{Post: id}
		err := p.try(ctx, read)
		if err != nil && ctx.Err() == nil && !feeds.IsMoving(err) {
			p.Log.Warn("redis is away; fan-out will show the edit", "post", id, "error", err)
			return nil // nor is anybody shown the text of before
		}
		if err == nil {
			well, there := read.State.Well(), read.Body != nil && read.Offset >= at.Offset
			if read.Deleted || well && there {
				return nil
			}
			var progress map[int32]posts.Progress
			progress, err = p.Store.Progress(ctx)
			stored := err == nil && progress[at.Partition].Offset > at.Offset
			if stored && (there || well && read.Body == nil) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("edit post %s: neither redis nor the post store has come to %s: %w: %w", id, at, ErrNotShown,
				errors.Join(context.Cause(ctx), err))
		}
	}
}

type postState int

const (
	postUnknown postState = iota
	postLives
	postDeleted
)

// found is what is known of a post.
type found struct {
	state postState
	post  freshet.Post
	whole bool // post is what it was; always so of one that lives, and of what the store has
	// hidden says that Redis has the tombstone: nobody is shown the post.
	hidden bool
	token  string // of the post's zone, as it was when the post was looked for
	well   bool   // so was the zone, and is as long as it has this token
}

// with is f with the post, all of which is known.
func (f found) with(post freshet.Post) found {
	f.state, f.post, f.whole = postLives, post, true
	if !post.DeletedAt.IsZero() {
		f.state = postDeleted
	}
	return f
}

// look finds a post: in Redis, where the state of its zone is one to trust a body, else in the post store, else among
// those that Redis did not take. When Redis is away, a post that the store does not have may still be there.
func (p *Publisher) look(ctx context.Context, id freshet.PostID, trust func(feeds.ZoneState) bool) (found, error) {
	read := &feeds.ReadBody{Post: id}
	away := p.try(ctx, read)
	there := found{token: read.State.Token, well: read.State.Well(), hidden: read.Deleted}
	own, remembered := p.Unwritten.Find(id)
	if remembered && !own.DeletedAt.IsZero() {
		return there.with(own.Post), nil
	}
	var body events.Body
	if len(read.Body) > 0 && trust(read.State) && proto.Unmarshal(read.Body, &body) == nil {
		return there.with(body.Post(id)), nil
	}
	if read.Deleted { // that is the answer; the store may be away
		short, cancel := context.WithTimeout(ctx, redisGrace)
		defer cancel()
		ctx = short
	}
	stored, err := p.Store.Posts(ctx, []freshet.PostID{id})
	post, known := stored[id]
	switch {
	case read.Deleted:
		there.state, there.post, there.whole = postDeleted, post, known
		return there, nil
	case err != nil:
		return found{}, fmt.Errorf("look for post %s: %w: %w", id, ErrUnavailable, err)
	case known:
		return there.with(post), nil
	case away != nil:
		return found{}, fmt.Errorf("look for post %s: %w: %w", id, ErrUnavailable, away)
	case remembered && trust(read.State):
		return there.with(own.Post), nil
	case !read.State.Well():
		return found{}, fmt.Errorf("look for post %s: redis is being recovered: %w", id, ErrUnavailable)
	}
	return p.settled(ctx, id, there)
}

// settled is the answer about a post that neither Redis nor the post store has: that there is none, if that is sure.
// The store is asked once more after it has told how far it is, for it goes on.
func (p *Publisher) settled(ctx context.Context, id freshet.PostID, there found) (found, error) {
	progress, err := p.Store.Progress(ctx)
	if err != nil {
		return found{}, fmt.Errorf("look for post %s: ask the post store how far it is: %w: %w", id, ErrUnavailable, err)
	}
	if posts.MayCome(id, posts.Through(progress, p.Partitions, p.Slowest), time.Now()) {
		return found{}, fmt.Errorf("look for post %s: %w", id, freshet.ErrUnsettled)
	}
	stored, err := p.Store.Posts(ctx, []freshet.PostID{id})
	if err != nil {
		return found{}, fmt.Errorf("look for post %s: %w: %w", id, ErrUnavailable, err)
	}
	if post, known := stored[id]; known {
		return there.with(post), nil
	}
	return there, nil
}

func (p *Publisher) try(ctx context.Context, op feeds.Op) error { return p.within(ctx, redisGrace, op) }

func (p *Publisher) within(ctx context.Context, grace time.Duration, ops ...feeds.Op) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	return p.Conn.Do(ctx, ops...)
}
