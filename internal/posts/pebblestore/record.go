package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"freshet"
	"freshet/internal/posts"
)

// never is the offset of a column that nothing has written.
const never = -1

// record is the value of a post's row: its columns, and for each the offset that wrote it.
type record struct {
	post                             freshet.Post // without ID, which is in the key
	created, texted, edited, deleted int64        // offsets
}

func newRecord() record {
	return record{created: never, texted: never, edited: never, deleted: never}
}

// apply merges an event in. The result depends on the set of events applied, not on their order.
func (r *record) apply(e posts.Event) error {
	if e.Offset < 0 {
		return fmt.Errorf("event of post %s: offset %d is negative", e.Post.ID, e.Offset)
	}
	p := &e.Post
	// Every event names the author, but that of the creation counts once it is here.
	if r.created == never && e.Offset > max(r.texted, r.edited, r.deleted) {
		r.post.Author = p.Author
	}
	switch e.Kind {
	case freshet.PostCreated:
		if e.Offset > r.created {
			r.created = e.Offset
			r.post.Author, r.post.ReplyTo = p.Author, p.ReplyTo
			r.post.Visibility, r.post.CreatedAt = p.Visibility, p.CreatedAt
		}
		r.setText(e)
	case freshet.PostEdited:
		if e.Offset > r.edited {
			r.edited, r.post.EditedAt = e.Offset, p.EditedAt
		}
		r.setText(e)
	case freshet.PostDeleted:
		if e.Offset > r.deleted {
			r.deleted, r.post.DeletedAt = e.Offset, p.DeletedAt
			// A delete that forgot its time is a delete all the same.
			if millis(p.DeletedAt) == 0 {
				r.post.DeletedAt = p.ID.Time()
			}
		}
	default:
		return fmt.Errorf("event of post %s at offset %d: unknown kind %d", p.ID, e.Offset, e.Kind)
	}
	return nil
}

func (r *record) setText(e posts.Event) {
	if e.Offset > r.texted {
		r.texted, r.post.Text = e.Offset, e.Post.Text
	}
}

// known says whether readers are told of the post at all; listed, whether it is among the posts of its author.
func (r *record) known() bool  { return r.created != never || r.deleted != never }
func (r *record) listed() bool { return r.created != never && r.deleted == never }

// recordV1 is the first byte of a value: varints for author, the four offsets, the three times in milliseconds (0 for
// no time) and reply; then the length of the visibility in a byte, the visibility, and the text to the end.
const recordV1 = 1

func (r *record) encode() ([]byte, error) {
	if len(r.post.Visibility) > 255 {
		return nil, fmt.Errorf("visibility of %d bytes: at most 255", len(r.post.Visibility))
	}
	b := []byte{recordV1}
	b = binary.AppendUvarint(b, uint64(r.post.Author))
	for _, v := range []int64{
		r.created, r.texted, r.edited, r.deleted,
		millis(r.post.CreatedAt), millis(r.post.EditedAt), millis(r.post.DeletedAt),
	} {
		b = binary.AppendVarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(r.post.ReplyTo))
	b = append(b, byte(len(r.post.Visibility)))
	b = append(b, r.post.Visibility...)
	return append(b, r.post.Text...), nil
}

var errTruncated = errors.New("the value ends too early")

func decodeRecord(b []byte) (record, error) {
	d := decoder{rest: b}
	if v := d.byte(); d.err == nil && v != recordV1 {
		return record{}, fmt.Errorf("the value is of version %d; this program knows version %d", v, recordV1)
	}
	var r record
	r.post.Author = freshet.Number(d.uvarint())
	r.created, r.texted, r.edited, r.deleted = d.varint(), d.varint(), d.varint(), d.varint()
	r.post.CreatedAt, r.post.EditedAt, r.post.DeletedAt = d.time(), d.time(), d.time()
	r.post.ReplyTo = freshet.PostID(d.uvarint())
	r.post.Visibility = freshet.Visibility(d.take(int(d.byte())))
	r.post.Text = string(d.rest)
	return r, d.err
}

// decoder reads a value from front to back; after the first error everything is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.rest) {
		d.err, d.rest = errTruncated, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.err, d.rest = errTruncated, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) time() time.Time { return fromMillis(d.varint()) }

// millis is t in milliseconds since 1970; 0 stands for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
