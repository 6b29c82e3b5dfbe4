package api

import (
	"net/http"
	"slices"
	"testing"
	"unicode/utf8"

	"freshet"
	"freshet/streams"
)

// FuzzPost: whatever a post is made of keeps the rules of posts, and what is refused says why.
func FuzzPost(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"author":"ada","text":"hello"}`, `{"author":"ada","text":"x","visibility":"followers","reply_to":"7"}`,
		`{"author":"a b","text":""}`, `{"author":"ada","text":"\ud83d"}`, `{"author":"ada","text":1}`, `[]`,
		`{"author":"ada","text":"x","author":"bob"}`, `{"author":"ada","text":"x","reply_to":"07"}`, "{\"text\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := parseObject(data)
		var author freshet.AccountID
		var post freshet.Post
		if err == nil {
			post, author, err = parsePost(body)
		}
		if err != nil {
			if p := problemOf(err); p.Detail == "" || p.Status != http.StatusBadRequest &&
				p.Status != http.StatusUnprocessableEntity {
				t.Fatalf("%q is answered with %d %q", data, p.Status, p.Detail)
			}
			return
		}
		_, wrong := freshet.ParseAccountID(string(author))
		length := utf8.RuneCountInString(post.Text)
		if wrong != nil || length < 1 || length > freshet.MaxText || !utf8.ValidString(post.Text) ||
			post.Visibility != freshet.Public && post.Visibility != freshet.FollowersOnly {
			t.Fatalf("%q is taken for a post by %q: %+v", data, author, post)
		}
	})
}

// FuzzCursor: a cursor or an id of an event that was not given out is refused, one that was says what it said, and
// neither is taken for the other or for that of another list.
func FuzzCursor(f *testing.F) {
	c := cursors{key: make([]byte, minCursorKey)}
	for _, seed := range []string{
		"", "x", c.seal(feedList, 1, 2), c.seal(postsList, 1<<62, 1<<63), c.sealPosition(streams.Position{}),
		c.sealPosition(streams.Position{0, 1, 1 << 40}),
	} {
		f.Add(seed, uint64(7), uint64(9))
	}
	f.Fuzz(func(t *testing.T, text string, of, value uint64) {
		if p, err := c.openPosition(text); err == nil && c.sealPosition(p) != text {
			t.Fatalf("%q is taken for the position %v", text, p)
		}
		for _, kind := range []listKind{followingList, followersList, mutedList, blockedList, postsList, feedList} {
			if v, err := c.open(text, kind, freshet.Number(of)); err == nil && c.seal(kind, freshet.Number(of), v) != text {
				t.Fatalf("%q is taken for %d of list %d", text, v, kind)
			}
			sealed := c.seal(kind, freshet.Number(of), value)
			if v, err := c.open(sealed, kind, freshet.Number(of)); err != nil || v != value {
				t.Fatalf("got %d, %v, want %d", v, err, value)
			}
			if _, err := c.open(sealed, kind+1, freshet.Number(of)); err == nil {
				t.Fatal("a cursor is taken for that of another list")
			}
			if _, err := c.openPosition(sealed); err == nil {
				t.Fatal("a cursor is taken for the id of an event")
			}
		}
		p := streams.Position{int64(of >> 2), int64(value >> 2)}
		if got, err := c.openPosition(c.sealPosition(p)); err != nil || !slices.Equal(got, p) {
			t.Fatalf("got %v, %v, want %v", got, err, p)
		}
	})
}
