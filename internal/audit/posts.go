package audit

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
)

// fact is what is known of a post.
type fact struct {
	post freshet.Post
	// found: Redis or the post store has it, deleted or not.
	found, deleted, body, stored bool
	// offset is that of the event of the body in Redis; -1 if there is none.
	offset int64
	// unwell: Redis cannot say whether the post is deleted, so what it lacks means nothing.
	unwell bool
}

// facts asks Redis and the post store for posts.
func (s *Sources) facts(ctx context.Context, ids []freshet.PostID) (map[freshet.PostID]fact, error) {
	all := make(map[freshet.PostID]fact, len(ids))
	if len(ids) == 0 {
		return all, nil
	}
	reads, ops := make([]*feeds.ReadBody, len(ids)), make([]feeds.Op, len(ids))
	for i, id := range ids {
		reads[i] = &feeds.ReadBody{Post: id}
		ops[i] = reads[i]
	}
	if err := s.cfg.Conn.Do(ctx, ops...); err != nil {
		return nil, fmt.Errorf("read %d posts: %w", len(ids), err)
	}
	stored, err := s.store.Posts(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read %d posts from the post store: %w", len(ids), err)
	}
	for i, id := range ids {
		f := fact{offset: -1, deleted: reads[i].Deleted, unwell: !reads[i].State.Well()}
		f.post, f.stored = stored[id]
		f.found = f.stored || f.deleted
		f.deleted = f.deleted || !f.post.DeletedAt.IsZero()
		var b events.Body
		if reads[i].Body != nil && proto.Unmarshal(reads[i].Body, &b) == nil {
			f.body, f.found, f.offset = true, true, reads[i].Offset
			if !f.stored {
				f.post = b.Post(id)
			}
		}
		all[id] = f
	}
	return all, nil
}

// relationship is what decides whether a viewer sees an author's posts.
func (s *Sources) relationship(viewer, author freshet.Number) (freshet.Relationship, error) {
	row, err := s.rows.Row(viewer)
	if err != nil {
		return freshet.Relationship{}, err
	}
	account, found, err := s.accounts.ByNumber(author)
	if err != nil {
		return freshet.Relationship{}, err
	}
	authorRow, err := s.rows.Row(author)
	if err != nil {
		return freshet.Relationship{}, err
	}
	return freshet.RelationshipOf(viewer, row, author, authorRow, found && account.Closed), nil
}

// leftSlack is how much later than an unfollow a post may still come to the feed: what was published before the trees
// knew.
const leftSlack = time.Minute

// excuse is why a post is rightly not missing, or rightly there.
type excuse int

const (
	none excuse = iota
	isDeleted
	isHidden  // readers are not shown it, whatever the feed has
	isNowhere // nobody knows of the post, or can know now
	belongs   // by definition it is where it is
	leftOver  // of an author whom the account followed when it came
)

// excuseMissing says why a post need not be in a feed.
func (s *Sources) excuseMissing(reader freshet.Number, e entry, f fact) (excuse, error) {
	switch {
	case f.deleted:
		return isDeleted, nil
	case !f.found || f.unwell:
		return isNowhere, nil
	}
	r, err := s.relationship(reader, e.author)
	if err != nil || freshet.InFeed(f.post, r) {
		return none, err
	}
	return isHidden, nil
}

// excuseStrange says why a post may be in a feed.
func (s *Sources) excuseStrange(reader freshet.Number, id freshet.PostID, f fact) (excuse, error) {
	switch {
	case f.deleted:
		return isDeleted, nil // whoever its author was, nobody is shown it
	case !f.found:
		return isNowhere, nil
	}
	r, err := s.relationship(reader, f.post.Author)
	if err != nil || r.Self || r.Follows {
		return belongs, err
	}
	ended, once, err := s.left.last(reader, f.post.Author)
	if err != nil {
		return none, err
	}
	if once && !id.Time().After(ended.at.Add(leftSlack)) {
		return leftOver, nil
	}
	return none, nil
}
