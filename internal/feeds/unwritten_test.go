package feeds_test

import (
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/internal/feeds"
)

// unwritten is a post as of an offset.
func unwritten(id freshet.PostID, text string, offset int64) feeds.Logged {
	return feeds.Logged{Post: freshet.Post{ID: id, Text: text}, Offset: offset, Rank: offset}
}

// The outbox that has the author's newest post, or is cut off above it, lacks nothing.
func TestUnwrittenOutboxes(t *testing.T) {
	u := feeds.NewUnwritten()
	u.Note(7, 20)
	u.Note(7, 10) // its answer came later
	if !u.Lacks(7, feeds.Outbox{IDs: []freshet.PostID{10}}) || u.Lacks(8, feeds.Outbox{}) {
		t.Error("want the outbox of this author, and no other, to lack a post")
	}
	if u.Lacks(7, feeds.Outbox{IDs: []freshet.PostID{40, 30}, Floor: 30}) || u.Lacks(7, feeds.Outbox{}) {
		t.Error("it lacks a post that is older than all that it has, or one that it was seen to have")
	}
}

func TestUnwrittenPosts(t *testing.T) {
	u := feeds.NewUnwritten()
	if u.Change(unwritten(1, "x", 5)) {
		t.Error("a post that Redis took is remembered since it was edited")
	}
	u.Keep(unwritten(1, "one", 5))
	for _, step := range []struct {
		text   string
		offset int64
		want   string
	}{{"two", 7, "two"}, {"late", 6, "two"}, {"three", 9, "three"}} {
		if known := u.Change(unwritten(1, step.text, step.offset)); !known {
			t.Fatal("it is forgotten")
		}
		if post, _ := u.Find(1); post.Text != step.want {
			t.Errorf("after %q at %d: %q, want %q", step.text, step.offset, post.Text, step.want)
		}
	}
	u.Forget(1, 9) // which is below the last edit
	deleted := unwritten(1, "", 8)
	deleted.DeletedAt = time.Unix(1, 0)
	u.Change(deleted) // it ends a post wherever it lies
	u.Change(unwritten(1, "four", 11))
	if post, known := u.Find(1); !known || post.DeletedAt.IsZero() {
		t.Errorf("known %t: %+v, want it deleted", known, post)
	}
	u.Forget(1, 9)
	if _, known := u.Find(1); known {
		t.Error("the store has it, and it is remembered")
	}
}

// What is remembered is bounded, and it is the latest.
func TestUnwrittenIsBounded(t *testing.T) {
	u, text := feeds.NewUnwritten(), strings.Repeat("x", 40_000)
	const count = 2000 // of 80 MB
	for i := range count {
		u.Keep(unwritten(freshet.PostID(i+1), text, int64(i)))
		u.Keep(unwritten(freshet.PostID(i+1), text, int64(i))) // which takes no more
	}
	kept := 0
	for i := range count {
		if _, known := u.Find(freshet.PostID(i + 1)); known {
			kept++
		} else if kept > 0 {
			t.Fatalf("%d is forgotten, and earlier ones are not", i+1)
		}
	}
	if kept < 8<<20/len(text)-1 || kept > 16<<20/len(text) {
		t.Errorf("%d posts of %d bytes are remembered", kept, len(text))
	}
}

// A reader or a writer without it remembers nothing.
func TestNoUnwritten(t *testing.T) {
	var u *feeds.Unwritten
	u.Note(1, 1)
	u.Keep(unwritten(1, "", 1))
	u.Forget(1, 2)
	if _, known := u.Find(1); known || u.Change(unwritten(1, "", 2)) || u.Lacks(1, feeds.Outbox{}) {
		t.Error("nil remembers")
	}
}
