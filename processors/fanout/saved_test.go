package fanout

import (
	"testing"

	"freshet"
)

// The body of a post that was saved first ranks below an edit, wherever its creation lies, and that of a late creation
// is left to the post store. The post is delivered all the same.
func TestCreationThatWasSavedFirst(t *testing.T) {
	tree := Tree{PageSize: 8}
	n := &Node{Followers: []freshet.Number{3}}
	record := PostRecord{Offset: 9, Body: []byte("body"), Token: "1-a", Event: freshet.PostEvent{
		Kind: freshet.PostCreated, Saved: true, Post: freshet.Post{ID: 5, Author: 7},
	}}
	_, out := tree.OnPost(7, n, record)
	if body := out.Delivery.Body; body == nil || body.Offset != 0 || len(out.Delivery.Followers) != 1 {
		t.Errorf("in time: %+v, body %+v", out.Delivery, body)
	}
	record.Late = true
	_, out = tree.OnPost(7, n, record)
	if out.Delivery.Body != nil || len(out.Delivery.Followers) != 1 {
		t.Errorf("late: %+v, body %+v", out.Delivery, out.Delivery.Body)
	}
	record.Late, record.Event.Saved = false, false
	if _, out = tree.OnPost(7, n, record); out.Delivery.Body.Offset != 9 {
		t.Errorf("published at once: body %+v", out.Delivery.Body)
	}
}
