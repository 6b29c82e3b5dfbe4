package emitters_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/processors/processortest"
)

// TestPosts writes more posts at once than there are places: each lies where its outcome says, and those of an author
// in the order given.
func TestPosts(t *testing.T) {
	const count, authors = 5000, 7
	c := processortest.Start(t, partitions)
	e := open(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	posts := make([]freshet.Post, count)
	for i := range posts {
		posts[i] = freshet.Post{
			ID: freshet.PostID(i + 1), Author: freshet.Number(i % authors), Text: fmt.Sprint(i),
			Visibility: freshet.Public, CreatedAt: at,
		}
	}
	outcomes := e.Posts(ctx, posts, false)
	if len(outcomes) != count {
		t.Fatalf("%d outcomes", len(outcomes))
	}
	type place struct {
		partition int32
		offset    int64
	}
	found := map[place]uint64{}
	for _, record := range c.Read(c.Names.Topic(freshet.Posts), count) {
		var event events.PostEvent
		if err := proto.Unmarshal(record.Value, &event); err != nil {
			t.Fatal(err)
		}
		found[place{record.Partition, record.Offset}] = event.GetId()
	}
	last := map[freshet.Number]int64{}
	for i, o := range outcomes {
		if o.Err != nil {
			t.Fatalf("post %d: %v", i, o.Err)
		}
		at := o.Position
		if at.Topic != freshet.Posts || at.Key != posts[i].Author.Key() ||
			found[place{at.Partition, at.Offset}] != uint64(posts[i].ID) {
			t.Fatalf("post %d is not at %s", i, at)
		}
		if before, ok := last[posts[i].Author]; ok && at.Offset <= before {
			t.Fatalf("post %d lies at %d, and one that its author wrote before at %d", i, at.Offset, before)
		}
		last[posts[i].Author] = at.Offset
	}
	if got := e.Posts(ctx, nil, false); len(got) != 0 {
		t.Errorf("no posts have %d outcomes", len(got))
	}
}

// TestPostsWithoutKafka: when the context ends, what is not acknowledged is not said to be.
func TestPostsWithoutKafka(t *testing.T) {
	c := processortest.Start(t, partitions)
	e := open(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	posts := make([]freshet.Post, 3000)
	for i, o := range e.Posts(ctx, posts, false) {
		if !errors.Is(o.Err, emitters.ErrUnavailable) || o.Position != (emitters.Position{}) {
			t.Fatalf("post %d: %v at %s", i, o.Err, o.Position)
		}
	}
}
