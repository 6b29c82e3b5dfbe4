package streams

import (
	"sync"

	"freshet"
)

// Event is one that a stream is told of. It is shared by all streams that are, and not changed.
type Event struct {
	Kind freshet.PostEventKind
	// Post is the post as readers find it. Of one that is deleted there is ID and Author.
	Post freshet.Post
	// Author is the id of the post's author.
	Author freshet.AccountID

	once  sync.Once
	frame []byte
}

// Frame is what encode makes of the event; it is asked once, whoever else sends the event.
func (e *Event) Frame(encode func(*Event) []byte) []byte {
	e.once.Do(func() { e.frame = encode(e) })
	return e.frame
}
