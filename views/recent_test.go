package views

import (
	"testing"
	"time"

	"freshet"
)

func TestRecent(t *testing.T) {
	now := time.Unix(1000, 0)
	r := NewRecent(func() time.Time { return now })
	kept := func(id freshet.PostID) bool {
		var found [1]body
		r.look([]freshet.PostID{id}, found[:])
		return found[0].state == bodyFound && found[0].post.ID == id
	}
	put := func(id freshet.PostID) {
		ticket := r.look(nil, nil)
		r.keep([]freshet.Post{{ID: id}}, ticket)
	}
	put(1)
	if !kept(1) || kept(2) {
		t.Fatalf("1 kept: %v, 2 kept: %v", kept(1), kept(2))
	}
	now = now.Add(recentTurn)
	put(2)
	if !kept(1) || !kept(2) {
		t.Error("what was found a turn ago is gone")
	}
	now = now.Add(3 * recentTurn)
	if kept(1) || kept(2) {
		t.Error("what was found long ago is kept, and nothing was found since")
	}
	put(3)
	if kept(2) || !kept(3) {
		t.Error("what was found long ago came back with the next turn")
	}

	// A reader that found the post before it was deleted comes after the delete.
	ticket := r.look([]freshet.PostID{4}, make([]body, 1))
	r.Forget(4)
	r.keep([]freshet.Post{{ID: 4}}, ticket)
	if kept(4) {
		t.Error("a deleted post is kept by who had read it before")
	}
	put(5)
	r.Forget(5)
	if kept(5) {
		t.Error("a deleted post is kept")
	}
	r.capacity = 1
	put(6)
	if kept(6) {
		t.Error("more is kept than there is room for")
	}
}
