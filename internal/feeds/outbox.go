package feeds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"freshet"
)

// loadedMark begins the value of an outbox whose older part has been loaded from the post store. It is no post id.
var loadedMark = bytes.Repeat([]byte{0xff}, idSize)

// Outbox is an author's newest posts, newest first.
type Outbox struct {
	IDs []freshet.PostID
	// Floor is the id below which posts may be missing, 0 if it goes back to the author's first.
	Floor freshet.PostID
	// State is that of its zone: when it is not well, any post may be missing.
	State ZoneState
}

// decodeOutbox reads an outbox's value. loaded is false when the older part has to be loaded from the store. Errors
// wrap ErrCorrupt.
func decodeOutbox(value []byte, length int) (ids []freshet.PostID, loaded bool, err error) {
	rest, loaded := bytes.CutPrefix(value, loadedMark)
	ids, err = decodeIDs(rest)
	if err != nil {
		return nil, false, err
	}
	return Newest(ids, length), loaded, nil
}

func encodeOutbox(ids []freshet.PostID, loaded bool) []byte {
	var b []byte
	if loaded {
		b = append(b, loadedMark...)
	}
	return encodeIDs(b, ids)
}

// Posts decodes what was read: the newest length ids, newest first. loaded is false where the older part is only in the
// post store yet. Unlike ReadOutboxes it writes nothing. Errors wrap ErrCorrupt.
func (o *ReadOutbox) Posts(length int) (ids []freshet.PostID, loaded bool, err error) {
	return decodeOutbox(o.Value, length)
}

// AuthorPosts is what loading an outbox needs of the post store: an author's newest posts below an id (0: the newest),
// without deleted ones.
type AuthorPosts interface {
	ByAuthor(ctx context.Context, author freshet.Number, before freshet.PostID, limit int) ([]freshet.Post, error)
}

// ReadOutboxes reads outboxes, loading the older part of those that lack it from the post store and writing it back. A
// load that straddles a loss of Redis writes nothing, because the write names the token that was read with the outbox.
//
// An outbox that cannot be read is a loss: the store may not have reached what it held. It cannot be left to heal by
// being loaded anew, for then it would count as whole. So its zone's life ends, and the answer is what the store has.
//
// While the store is away, an outbox that has to be loaded answers what Redis has, as one of a lost zone does.
func (l Layout) ReadOutboxes(
	ctx context.Context, conn Conn, store AuthorPosts, authors []freshet.Number,
) ([]Outbox, error) {
	if len(authors) == 0 {
		return nil, nil
	}
	reads := make([]*ReadOutbox, len(authors))
	ops := make([]Op, len(authors))
	for i, author := range authors {
		reads[i] = &ReadOutbox{Author: author}
		ops[i] = reads[i]
	}
	if err := conn.Do(ctx, ops...); err != nil {
		return nil, fmt.Errorf("read %d outboxes: %w", len(authors), err)
	}
	return l.Outboxes(ctx, conn, store, reads)
}

// Outboxes is the second half of ReadOutboxes, for who has read them together with something else.
func (l Layout) Outboxes(
	ctx context.Context, conn Conn, store AuthorPosts, reads []*ReadOutbox,
) ([]Outbox, error) {
	outboxes := make([]Outbox, len(reads))
	for i, read := range reads {
		ids, loaded, err := decodeOutbox(read.Value, l.FeedLength)
		if err != nil {
			if err := l.dropOutbox(ctx, conn, read); err != nil {
				return nil, err
			}
			read.State = ZoneState{} // as it is from now on, or was, or as good as
		}
		if !loaded {
			switch whole, err := l.loadOutbox(ctx, conn, store, read, ids); {
			case err == nil:
				ids = whole
			case errors.Is(err, freshet.ErrStoreAway):
				read.State = ZoneState{}
			default:
				return nil, err
			}
		}
		outboxes[i] = Outbox{IDs: ids, Floor: l.Floor(ids), State: read.State}
	}
	return outboxes, nil
}

// dropOutbox gives up an outbox that cannot be read, for its zone to be recovered. When it is refused, that has begun
// already.
func (l Layout) dropOutbox(ctx context.Context, conn Conn, read *ReadOutbox) error {
	if read.State.Token == "" {
		return nil
	}
	if err := conn.Do(ctx, &DropOutbox{Author: read.Author, Token: read.State.Token}); err != nil {
		return fmt.Errorf("drop the corrupt outbox of account %d: %w", read.Author, err)
	}
	return nil
}

// loadOutbox adds the stored posts to ids and writes the union back. When the write is refused, because the outbox or
// the token is another one by now, the union is still right.
func (l Layout) loadOutbox(
	ctx context.Context, conn Conn, store AuthorPosts, read *ReadOutbox, ids []freshet.PostID,
) ([]freshet.PostID, error) {
	stored, err := store.ByAuthor(ctx, read.Author, 0, l.FeedLength)
	if err != nil {
		return nil, fmt.Errorf("load the outbox of account %d from the post store: %w", read.Author, err)
	}
	ids = slices.Clone(ids)
	for _, post := range stored {
		ids = append(ids, post.ID)
	}
	ids = Newest(ids, l.FeedLength)
	if read.State.Token == "" {
		return ids, nil
	}
	write := &RewriteOutbox{
		Author: read.Author, Token: read.State.Token, Old: read.Value, New: encodeOutbox(ids, true),
	}
	if err := conn.Do(ctx, write); err != nil {
		return nil, fmt.Errorf("write the loaded outbox of account %d: %w", read.Author, err)
	}
	return ids, nil
}

// TrimOutbox cuts an outbox down to its newest ids. An error wraps ErrCorrupt when the outbox could not be read and was
// given up.
func (l Layout) TrimOutbox(ctx context.Context, conn Conn, author freshet.Number) error {
	read := &ReadOutbox{Author: author}
	if err := conn.Do(ctx, read); err != nil {
		return fmt.Errorf("read the outbox of account %d: %w", author, err)
	}
	if read.State.Token == "" {
		return nil
	}
	ids, loaded, err := decodeOutbox(read.Value, l.FeedLength)
	if err != nil {
		return errors.Join(fmt.Errorf("trim the outbox of account %d: %w", author, err), l.dropOutbox(ctx, conn, read))
	}
	value := encodeOutbox(ids, loaded)
	if len(value) == len(read.Value) {
		return nil
	}
	write := &RewriteOutbox{Author: author, Token: read.State.Token, Old: read.Value, New: value}
	if err := conn.Do(ctx, write); err != nil {
		return fmt.Errorf("trim the outbox of account %d: %w", author, err)
	}
	return nil
}
