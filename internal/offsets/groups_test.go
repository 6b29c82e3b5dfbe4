package offsets

import (
	"errors"
	"strings"
	"testing"
)

func TestParseScope(t *testing.T) {
	for _, tt := range []struct {
		group, topic string
		want         string // group and topic in Kafka, or
		err          error
		says         string
	}{
		{group: "fanout", topic: "posts", want: "test.fanout test.posts"},
		{group: "test.fanout", topic: "test.posts", want: "test.fanout test.posts"},
		{group: "archive", topic: "test.followers", want: "test.archive test.followers"},
		{group: "fan", topic: "posts", err: ErrUnknown, says: "test.directory, test.following, test.fanout, test.archive"},
		{group: "fanout", topic: "post", err: ErrUnknown, says: "reads test.posts, test.replays, test.followers"},
		{group: "fanuot", topic: "posts", err: ErrUnknown, says: "did you mean fanout?"},
		{group: "test.archiv", topic: "posts", err: ErrUnknown, says: "did you mean archive?"},
		{group: "fanout", topic: "followrs", err: ErrUnknown, says: "did you mean followers?"},
		{group: "fanout", topic: "nothing-like-it", err: ErrUnknown, says: "test.followers"},
		{group: "fanout", topic: "posts:0,3", want: "test.fanout test.posts"},
		{group: "fanout", topic: "posts:0,x", err: ErrUnknown, says: `partition "x" of test.posts`},
		{group: "fanout", topic: "posts:", err: ErrUnknown, says: `partition ""`},
		{group: "fanout", topic: "follows", err: ErrNotInput, says: "reads test.posts, test.replays, test.followers"},
		{group: "fanout", topic: "test.fanout-loop", err: ErrNotInput, says: "messages of a group to itself"},
		{group: "fanout", topic: "fanout-table", err: ErrNotInput, says: "a table is not rewound"},
		{group: "following", topic: "stats", err: ErrNotInput, says: "reads test.follows, test.applied"},
	} {
		in, err := ParseScope(names, tt.group, tt.topic)
		switch {
		case !errors.Is(err, tt.err):
			t.Errorf("%s %s: got error %v, want %v", tt.group, tt.topic, err, tt.err)
		case err != nil && !strings.Contains(err.Error(), tt.says):
			t.Errorf("%s %s: error %q does not say %q", tt.group, tt.topic, err, tt.says)
		case err == nil && in.Group()+" "+strings.Join(in.Topics(), " ") != tt.want:
			t.Errorf("%s %s: got %s %s, want %s", tt.group, tt.topic, in.Group(), in.Topics(), tt.want)
		}
	}
}

func TestScopeOfAllTopics(t *testing.T) {
	in, err := ParseScope(names, "fanout")
	if err != nil || strings.Join(in.Topics(), " ") != "test.posts test.replays test.followers" {
		t.Errorf("all topics of fanout: %v, %v", in.Topics(), err)
	}
	if _, err := ParseScope(names, "fanout", "posts:1", "test.posts"); err == nil {
		t.Error("a topic was given twice, and nobody said so")
	}
}

func TestNobodyIsSuggestedForNothingAlike(t *testing.T) {
	if got := meant(names, "x", groupNames(names)); got != "" {
		t.Errorf("for x: %q", got)
	}
}
