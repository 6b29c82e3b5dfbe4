package streams_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
)

// The creation of a post that was saved first comes again behind its edit: the stream tells it as readers find it, with
// the text of the edit, and goes on.
func TestCreationBehindItsEdit(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	p.register("ann", "bob")
	p.follow("ann", "bob")
	ann := p.open("ann", "")
	p.do(http.MethodPatch, "posts/"+p.post("bob", "before"), `{"text":"after"}`)
	for ann.next().text() != "edit after" { // the post may have been told, too
	}
	p.createAgain()
	p.post("bob", "next")
	ann.want("post after", "post next")
	posts, _ := p.do(http.MethodGet, "accounts/bob/posts", "")["items"].([]any)
	if len(posts) != 2 {
		t.Fatalf("bob's posts: %v", posts)
	}
	if shown, _ := posts[1].(map[string]any); shown["text"] != "after" {
		t.Errorf("the post is %v", shown)
	}
}

// createAgain writes the first creation of the log once more, as a sweep does.
func (p *process) createAgain() {
	p.Helper()
	topic := freshet.DefaultPrefix + string(freshet.Posts)
	client, err := kgo.NewClient(kgo.SeedBrokers(p.common.Kafka...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		p.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(p.Context(), patience)
	defer cancel()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			p.Fatal(err)
		}
		for _, r := range fetches.Records() {
			var m events.PostEvent
			if err := proto.Unmarshal(r.Value, &m); err != nil {
				p.Fatal(err)
			}
			if m.GetKind() != events.PostEvent_CREATED {
				continue
			}
			m.Saved = true
			value, err := proto.Marshal(&m)
			if err != nil {
				p.Fatal(err)
			}
			again := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: value}
			if err := client.ProduceSync(ctx, again).FirstErr(); err != nil {
				p.Fatal(err)
			}
			return
		}
	}
}
