package events

import (
	"fmt"
	"time"

	"freshet"
)

// Millis is a time as the records keep it; 0 for the zero time.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Time is the inverse of Millis, in UTC.
func Time(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}

// VisibilityOf is the record's word for a visibility. Every visibility but FollowersOnly counts as public: the API
// checks it before a post becomes a record.
func VisibilityOf(v freshet.Visibility) PostEvent_Visibility {
	if v == freshet.FollowersOnly {
		return PostEvent_FOLLOWERS
	}
	return PostEvent_PUBLIC
}

// Domain is the inverse of VisibilityOf. A visibility that a later version wrote counts as the narrowest one, so that
// nothing is shown to more readers than it was meant for.
func (v PostEvent_Visibility) Domain() freshet.Visibility {
	if v == PostEvent_PUBLIC {
		return freshet.Public
	}
	return freshet.FollowersOnly
}

// PostEventOf is the record of an event.
func PostEventOf(e freshet.PostEvent) *PostEvent {
	m := &PostEvent{Id: uint64(e.Post.ID), Author: uint64(e.Post.Author)}
	switch e.Kind {
	case freshet.PostCreated:
		m.Kind = PostEvent_CREATED
		m.Text = e.Post.Text
		m.ReplyTo = uint64(e.Post.ReplyTo)
		m.Visibility = VisibilityOf(e.Post.Visibility)
		m.At = Millis(e.Post.CreatedAt)
		m.Saved = e.Saved
	case freshet.PostEdited:
		m.Kind = PostEvent_EDITED
		m.Text = e.Post.Text
		m.ReplyTo = uint64(e.Post.ReplyTo)
		m.Visibility = VisibilityOf(e.Post.Visibility)
		m.At = Millis(e.Post.EditedAt)
	case freshet.PostDeleted:
		m.Kind = PostEvent_DELETED
		m.At = Millis(e.Post.DeletedAt)
	}
	return m
}

// Event is the inverse of PostEventOf. A kind that this version does not know, or a post without an id, is an error:
// such a record goes to the dead letters.
func (x *PostEvent) Event() (freshet.PostEvent, error) {
	e := freshet.PostEvent{Post: freshet.Post{ID: freshet.PostID(x.GetId()), Author: freshet.Number(x.GetAuthor())}}
	if e.Post.ID == 0 {
		return e, fmt.Errorf("post event of kind %s: it names no post", x.GetKind())
	}
	at := Time(x.GetAt())
	switch x.GetKind() {
	case PostEvent_CREATED:
		e.Kind = freshet.PostCreated
		e.Post.Text = x.GetText()
		e.Post.ReplyTo = freshet.PostID(x.GetReplyTo())
		e.Post.Visibility = x.GetVisibility().Domain()
		e.Post.CreatedAt = at
		e.Saved = x.GetSaved()
	case PostEvent_EDITED:
		e.Kind = freshet.PostEdited
		e.Post.Text = x.GetText()
		e.Post.ReplyTo = freshet.PostID(x.GetReplyTo())
		e.Post.Visibility = x.GetVisibility().Domain()
		e.Post.EditedAt = at
	case PostEvent_DELETED:
		e.Kind = freshet.PostDeleted
		e.Post.DeletedAt = at
	default:
		return e, fmt.Errorf("post event of post %s: unknown kind %s", e.Post.ID, x.GetKind())
	}
	return e, nil
}

// ProfileOf is the record that says of an account all there is to say besides its id.
func ProfileOf(a freshet.Account, at time.Time) *Profile {
	return &Profile{Number: uint64(a.Number), Name: a.Name, Closed: a.Closed, At: Millis(at)}
}

// Account is the account of a row that lies under an account id.
func (x *DirectoryRow) Account() freshet.Account {
	return freshet.Account{
		ID:        freshet.AccountID(x.GetId()),
		Number:    freshet.Number(x.GetNumber()),
		Name:      x.GetName(),
		CreatedAt: Time(x.GetCreatedAt()),
		Closed:    x.GetClosed(),
	}
}
