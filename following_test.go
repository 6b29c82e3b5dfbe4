package freshet_test

import (
	"testing"
	"time"

	"freshet"
)

// Whoever has anything against seeing a post, of the six that there are, does not see it; whoever has nothing does.
func TestCanSee(t *testing.T) {
	deleted := time.Unix(1, 0)
	allowed := []struct {
		name string
		post freshet.Post
		r    freshet.Relationship
	}{
		{"a stranger", freshet.Post{}, freshet.Relationship{}},
		{"one who mutes the author", freshet.Post{}, freshet.Relationship{Mutes: true}},
		{"the author", freshet.Post{Visibility: freshet.FollowersOnly}, freshet.Relationship{Self: true}},
		{"a follower", freshet.Post{Visibility: freshet.FollowersOnly}, freshet.Relationship{Follows: true}},
	}
	for _, c := range allowed {
		if !freshet.CanSee(c.post, c.r) {
			t.Errorf("%s does not see a post: %+v", c.name, c.post)
		}
		if wants := c.r.Self || c.r.Follows && !c.r.Mutes; freshet.InFeed(c.post, c.r) != wants {
			t.Errorf("in the feed of %s: %t, want %t", c.name, !wants, wants)
		}
		hidden := c.post
		hidden.DeletedAt = deleted
		if freshet.CanSee(hidden, c.r) || freshet.InFeed(hidden, c.r) {
			t.Errorf("%s sees a deleted post", c.name)
		}
		closed := c.r
		closed.AuthorClosed = true
		if freshet.CanSee(c.post, closed) || freshet.InFeed(c.post, closed) {
			t.Errorf("%s sees the post of a closed account", c.name)
		}
		for _, against := range []func(*freshet.Relationship){
			func(r *freshet.Relationship) { r.Blocks = true },
			func(r *freshet.Relationship) { r.BlockedBy = true },
		} {
			blocked := c.r
			against(&blocked)
			if !c.r.Self && (freshet.CanSee(c.post, blocked) || freshet.InFeed(c.post, blocked)) {
				t.Errorf("%s sees a post across a block: %+v", c.name, blocked)
			}
		}
	}
	if freshet.CanSee(freshet.Post{Visibility: freshet.FollowersOnly}, freshet.Relationship{}) {
		t.Error("a stranger sees a post for followers")
	}
	if freshet.InFeed(freshet.Post{}, freshet.Relationship{Follows: true, Mutes: true}) {
		t.Error("a muted author is in the feed")
	}
}

// The rows of both sides say it, each of its own account; a row that is not there says nothing.
func TestRelationshipOf(t *testing.T) {
	viewer := &freshet.Following{Muted: []freshet.Number{2}, Blocked: []freshet.Number{2}}
	viewer.SetRelation(freshet.Relation{Account: 2, Follows: true})
	author := &freshet.Following{Blocked: []freshet.Number{1}}
	for _, c := range []struct {
		viewer, author *freshet.Following
		of             freshet.Number
		want           freshet.Relationship
	}{
		{viewer, nil, 2, freshet.Relationship{Follows: true, Mutes: true, Blocks: true}},
		{nil, author, 2, freshet.Relationship{BlockedBy: true}},
		{viewer, author, 3, freshet.Relationship{BlockedBy: true}},
		{nil, nil, 1, freshet.Relationship{Self: true}},
	} {
		if got := freshet.RelationshipOf(1, c.viewer, c.of, c.author, false); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}
