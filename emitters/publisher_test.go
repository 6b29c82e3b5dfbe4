package emitters_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"freshet"
	"freshet/emitters"
	"freshet/internal/feeds"
	"freshet/internal/feeds/feedstest"
	"freshet/processors/processortest"
)

// readOnly is a Redis that answers reads and, while it is told so, refuses writes.
type readOnly struct {
	feeds.Conn
	refuses bool
}

func (r *readOnly) Do(ctx context.Context, ops ...feeds.Op) error {
	for _, op := range ops {
		switch op.(type) {
		case *feeds.PutBody, *feeds.AppendOutbox, *feeds.PutTombstone:
			if r.refuses {
				return feeds.ErrAway
			}
		}
	}
	return r.Conn.Do(ctx, ops...)
}

// noPosts is a post store that has nothing.
type noPosts struct{}

func (noPosts) Posts(context.Context, []freshet.PostID) (map[freshet.PostID]freshet.Post, error) {
	return nil, nil
}

// TestRedisRefusesWrites: posts are accepted, and noted for who reads; a delete is answered only when nobody sees the
// post any more.
func TestRedisRefusesWrites(t *testing.T) {
	c := processortest.Start(t, partitions)
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	layout := feeds.Layout{Zones: 1, FeedLength: 10}
	conn := &readOnly{Conn: feedstest.NewModel(layout, time.Now)}
	if err := conn.Do(ctx, &feeds.Open{Zone: 0, Writer: "w"}, &feeds.Recover{
		Zone: 0, Writer: "w", New: "token", Counter: 1,
	}); err != nil {
		t.Fatal(err)
	}
	noted := map[freshet.Number]freshet.PostID{}
	p := emitters.Publisher{
		Emitters: open(t, c), Conn: conn, Layout: layout, Store: noPosts{}, Log: slog.Default(),
		Unwritten: func(author freshet.Number, post freshet.PostID) { noted[author] = post },
	}
	const ada = freshet.Number(7)
	for _, post := range []freshet.Post{{ID: 1, Author: ada, Text: "taken"}, {ID: 2, Author: ada, Text: "refused"}} {
		conn.refuses = post.ID == 2
		if _, err := p.Publish(ctx, post); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]freshet.PostID{true: 2}[conn.refuses]; noted[ada] != want {
			t.Errorf("after post %s, which Redis refuses: %t, the noted post is %s", post.ID, conn.refuses, noted[ada])
		}
	}
	if _, _, err := p.Delete(ctx, 1); !errors.Is(err, emitters.ErrUnavailable) {
		t.Errorf("a delete that Redis refuses: got %v, want ErrUnavailable", err)
	}
	conn.refuses = false
	if _, found, err := p.Delete(ctx, 1); err != nil || !found {
		t.Errorf("the delete again: %t, %v", found, err)
	}
	read := &feeds.ReadBody{Post: 1}
	if err := conn.Do(ctx, read); err != nil || !read.Deleted {
		t.Errorf("after the delete: deleted %t, %v", read.Deleted, err)
	}
}
