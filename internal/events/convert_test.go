package events

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
)

func TestPostEventRoundTrip(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)
	for name, want := range map[string]freshet.PostEvent{
		"created": {Kind: freshet.PostCreated, Post: freshet.Post{
			ID: 12, Author: 3, Text: "hello", ReplyTo: 11, Visibility: freshet.FollowersOnly, CreatedAt: at,
		}},
		"created for all": {Kind: freshet.PostCreated, Post: freshet.Post{
			ID: 12, Author: 0, Text: "hello", Visibility: freshet.Public, CreatedAt: at,
		}},
		"saved before": {Kind: freshet.PostCreated, Saved: true, Post: freshet.Post{
			ID: 12, Author: 3, Text: "hello", Visibility: freshet.Public, CreatedAt: at,
		}},
		"edited": {Kind: freshet.PostEdited, Post: freshet.Post{
			ID: 12, Author: 3, Text: "hello!", ReplyTo: 11, Visibility: freshet.FollowersOnly, EditedAt: at,
		}},
		"deleted": {Kind: freshet.PostDeleted, Post: freshet.Post{ID: 12, Author: 3, DeletedAt: at}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := proto.Marshal(PostEventOf(want))
			if err != nil {
				t.Fatal(err)
			}
			var m PostEvent
			if err := proto.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			got, err := m.Event()
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestPostEventRefuses(t *testing.T) {
	for name, m := range map[string]*PostEvent{
		"no kind":          {Id: 1},
		"a kind of later":  {Id: 1, Kind: 99},
		"no post":          {Kind: PostEvent_CREATED},
		"nothing whatever": nil,
	} {
		if e, err := m.Event(); err == nil {
			t.Errorf("%s: got %+v, want an error", name, e)
		}
	}
}

// A visibility that this version does not know must not widen a post's audience.
func TestUnknownVisibilityIsNarrow(t *testing.T) {
	if got := PostEvent_Visibility(99).Domain(); got != freshet.FollowersOnly {
		t.Errorf("got %s, want %s", got, freshet.FollowersOnly)
	}
}

func TestTimeKeepsTheZeroTime(t *testing.T) {
	if got := Millis(time.Time{}); got != 0 {
		t.Errorf("Millis of the zero time: %d", got)
	}
	if got := Time(0); !got.IsZero() {
		t.Errorf("Time(0): %s", got)
	}
}

func TestAccountOfARow(t *testing.T) {
	row := &DirectoryRow{Id: "ada", Number: 7, Name: "Ada", CreatedAt: 1764000000001, Closed: true}
	want := freshet.Account{
		ID: "ada", Number: 7, Name: "Ada", CreatedAt: time.UnixMilli(1764000000001).UTC(), Closed: true,
	}
	if got := row.Account(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
