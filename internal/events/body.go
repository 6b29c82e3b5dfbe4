// Package events is the records of the topics and the rows of the tables, as events.proto describes them, and the steps
// between them and the words of package freshet.
package events

import (
	"freshet"
)

// BodyOf is what Redis keeps of a post until the post store has it.
func BodyOf(p freshet.Post) *Body {
	return &Body{
		Author: uint64(p.Author), Text: p.Text, ReplyTo: uint64(p.ReplyTo), Visibility: VisibilityOf(p.Visibility),
		EditedAt: Millis(p.EditedAt),
	}
}

// Post is the post of that id whose body this is. A post is created when its id is minted.
func (x *Body) Post(id freshet.PostID) freshet.Post {
	return freshet.Post{
		ID: id, Author: freshet.Number(x.GetAuthor()), Text: x.GetText(), ReplyTo: freshet.PostID(x.GetReplyTo()),
		Visibility: x.GetVisibility().Domain(), CreatedAt: id.Time(), EditedAt: Time(x.GetEditedAt()),
	}
}
