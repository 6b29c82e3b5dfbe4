package emitters

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
)

const (
	// redisChunk is how many operations are asked of Redis at once for a batch.
	redisChunk = 500
	// tokenLife is how long a zone's token is kept. A body is written only under the token that the zone has then, so a
	// kept one never lets more be written, but may keep a body out of a zone that has just been recovered. It is shorter
	// than any recovery: until that has ended, such a post is answered with "not now" and not as one that is unknown.
	tokenLife = 200 * time.Millisecond
)

// zoneTokens are the tokens of zones that were read less than tokenLife ago. The zero value is ready to use.
type zoneTokens struct {
	mu     sync.Mutex
	byZone map[feeds.Zone]zoneToken
}

type zoneToken struct {
	token  string
	readAt time.Time
}

func (z *zoneTokens) get(zone feeds.Zone, now time.Time) (string, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	kept, ok := z.byZone[zone]
	return kept.token, ok && now.Sub(kept.readAt) < tokenLife
}

// put keeps a token, and forgets an empty one: the zone is about to get another.
func (z *zoneTokens) put(zone feeds.Zone, token string, readAt time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if token == "" {
		delete(z.byZone, zone)
		return
	}
	if z.byZone == nil {
		z.byZone = map[feeds.Zone]zoneToken{}
	}
	z.byZone[zone] = zoneToken{token, readAt}
}

// tokensOf is the tokens of the zones of posts, as of before the posts are in the log: if Redis loses anything after
// that, a post could be deleted meanwhile and its tombstone be gone, and its body must not be written.
// It is nil when Redis does not answer.
func (p *Publisher) tokensOf(ctx context.Context, posts []freshet.Post) map[feeds.Zone]string {
	now := time.Now()
	tokens := map[feeds.Zone]string{}
	var ops []feeds.Op
	for i := range posts {
		zone := p.Layout.OfPost(posts[i].ID)
		if _, asked := tokens[zone]; asked {
			continue
		}
		token, ok := p.tokens.get(zone, now)
		tokens[zone] = token
		if !ok {
			ops = append(ops, &feeds.ReadZone{Zone: zone})
		}
	}
	if err := p.tryAll(ctx, ops); err != nil {
		p.Log.Debug("redis is away; fan-out will write posts", "posts", len(posts), "error", err)
		return nil
	}
	for _, op := range ops {
		read := op.(*feeds.ReadZone)
		tokens[read.Zone] = read.State.Token
		p.tokens.put(read.Zone, read.State.Token, now)
	}
	return tokens
}

// show writes posts that are in the log into Redis, as fan-out will do again, so that this process's readers find them
// at once. All bodies come before any outbox: who finds an id looks for its body.
func (p *Publisher) show(
	ctx context.Context, posts []freshet.Post, outcomes []Outcome, tokens map[feeds.Zone]string, saved bool,
) {
	if tokens == nil {
		p.unwritten(posts, outcomes, saved)
		return
	}
	var bodies, appends []feeds.Op
	var bodyOf []int // the posts of bodies
	outboxes := map[freshet.Number]*feeds.AppendOutbox{}
	for i := range posts {
		if i%redisChunk == redisChunk-1 {
			runtime.Gosched() // a large batch keeps nobody waiting
		}
		post := &posts[i]
		if outcomes[i].Err != nil {
			continue
		}
		// A zone that is lost takes no body. The outbox, in another zone, gets the id all the same: a page that lacks the
		// post has to know it.
		switch token := tokens[p.Layout.OfPost(post.ID)]; {
		case late(post, saved):
		case token == "":
			p.keep(post, outcomes[i].Position, saved)
		default:
			body, err := proto.Marshal(events.BodyOf(*post))
			if err != nil {
				p.Log.Error("a post cannot be encoded for redis", "post", post.ID, "error", err)
				continue
			}
			bodies = append(bodies, &feeds.PutBody{
				Post: post.ID, Token: token, Offset: rank(outcomes[i].Position, saved), Body: body,
			})
			bodyOf = append(bodyOf, i)
		}
		outbox := outboxes[post.Author]
		if outbox == nil {
			outbox = &feeds.AppendOutbox{Author: post.Author}
			outboxes[post.Author] = outbox
			appends = append(appends, outbox)
		}
		outbox.IDs = feeds.AppendID(outbox.IDs, post.ID)
	}
	if err := p.write(ctx, bodies, appends); err != nil {
		p.unwritten(posts, outcomes, saved)
		p.Log.Debug("redis does not take posts; fan-out will write them", "posts", len(posts), "error", err)
	}
	for n, op := range bodies {
		if put := op.(*feeds.PutBody); !put.OK {
			p.tokens.put(p.Layout.OfPost(put.Post), "", time.Time{}) // it may be another one by now
			p.keep(&posts[bodyOf[n]], outcomes[bodyOf[n]].Position, saved)
		}
	}
}

// rank is what a creation counts for beside what else is said of the post.
func rank(at Position, saved bool) int64 {
	return freshet.PostEvent{Kind: freshet.PostCreated, Saved: saved}.Rank(at.Offset)
}

// late says that the creation of a post that was saved first may come behind an edit.
func late(post *freshet.Post, saved bool) bool {
	return saved && time.Since(post.ID.Time()) > freshet.SavedLate
}

// keep remembers a new post whose body Redis may lack.
func (p *Publisher) keep(post *freshet.Post, at Position, saved bool) {
	p.Unwritten.Keep(feeds.Logged{Post: *post, Partition: at.Partition, Offset: at.Offset, Rank: rank(at, saved)})
}

// unwritten tells of posts that are in the log and may not be in Redis.
func (p *Publisher) unwritten(posts []freshet.Post, outcomes []Outcome, saved bool) {
	for i := range posts {
		if outcomes[i].Err != nil {
			continue
		}
		p.Unwritten.Note(posts[i].Author, posts[i].ID)
		if !late(&posts[i], saved) {
			p.keep(&posts[i], outcomes[i].Position, saved)
		}
	}
}

// write writes bodies and then outboxes. Those of a single post go together: one Redis takes them in this order, and of
// a cluster a reader may get an outbox a moment before the body, which its page then says to lack.
func (p *Publisher) write(ctx context.Context, bodies, appends []feeds.Op) error {
	if len(bodies)+len(appends) <= 2 {
		return p.tryAll(ctx, slices.Concat(bodies, appends))
	}
	if err := p.tryAll(ctx, bodies); err != nil {
		return err
	}
	return p.tryAll(ctx, appends)
}

// tryAll asks for many operations, some at a time, until Redis does not answer.
func (p *Publisher) tryAll(ctx context.Context, ops []feeds.Op) error {
	for chunk := range slices.Chunk(ops, redisChunk) {
		if err := p.within(ctx, redisGrace, chunk...); err != nil {
			return fmt.Errorf("%d operations for posts: %w", len(ops), err)
		}
	}
	return nil
}
