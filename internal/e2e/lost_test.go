package e2e

import (
	"context"
	"net/http"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet/internal/events"
)

// findLost finds out which of the operations whose answers were lost have happened, at a quiet point: of posts and
// deletes by the log itself, because what lies there has to show; of the others by what the accounts say now. Either
// may be, but nothing third.
func (r *run) findLost() {
	r.t.Helper()
	r.quiet()
	lost := r.ledger.lost
	r.ledger.lost = nil
	posted, edited, deleted := r.readPosts()
	happened := 0
	for _, op := range lost {
		switch {
		case op.changes != nil:
			for _, c := range op.changes {
				c.on = r.isRelated(c)
				r.ledger.settle(true, c)
			}
		case op.post != "":
			if id := posted[op.post]; id != 0 {
				r.ledger.posted(id, r.ledger.texts[op.post], op.post)
				happened++
			}
		case op.edited != nil:
			text := op.edited.Text
			if last := edited[op.edited.ID]; last != "" && last != text {
				text = last
				happened++
			}
			r.ledger.edited(op.edited, text)
		case op.deleted != nil:
			if deleted[op.deleted.ID] {
				r.ledger.deleted(op.deleted)
				happened++
			}
		case op.closed != nil:
			if !r.exists(op.closed) {
				r.ledger.close(op.closed)
				happened++
			}
		case op.register != nil:
			if r.exists(op.register) {
				r.ledger.addAccount(op.register.ID)
				happened++
			}
		}
	}
	r.t.Logf("%d operations had lost their answers; at least %d had happened", len(lost), happened)
}

// isRelated says whether the relation of a change is there. It was on or off before; nothing else changes it.
func (r *run) isRelated(c change) bool {
	list := map[Relation]string{Follows: "following", Mutes: "muted", Blocks: "blocked"}[c.relation]
	items, _, err := walk(r.http, r.proc.url()+"/v1/accounts/"+c.who.ID+"/"+list, func() int { return 100 })
	if err != nil {
		r.t.Error(err)
	}
	return slices.Contains(names(items), c.whom.ID)
}

func (r *run) exists(a *Account) bool {
	answer, err := request(r.http, http.MethodGet, r.proc.url()+"/v1/accounts/"+a.ID, nil)
	if err != nil || answer.status != http.StatusOK && answer.status != http.StatusNotFound {
		r.t.Errorf("GET account %s: %s %v", a.ID, answer, err)
	}
	return answer.status == http.StatusOK
}

const postsTopic = "freshet.posts"

// readPosts reads the whole log of posts: the ids by their texts, the last edits, and which were deleted.
func (r *run) readPosts() (posted map[string]uint64, edited map[uint64]string, deleted map[uint64]bool) {
	r.t.Helper()
	posted, edited, deleted = map[string]uint64{}, map[uint64]string{}, map[uint64]bool{}
	for _, record := range r.readTopic(postsTopic) {
		if sentByTest(record) {
			continue
		}
		var e events.PostEvent
		if err := proto.Unmarshal(record.Value, &e); err != nil {
			r.t.Errorf("%s/%d at %d: %v", record.Topic, record.Partition, record.Offset, err)
		}
		switch e.GetKind() {
		case events.PostEvent_CREATED:
			posted[e.GetText()] = e.GetId()
		case events.PostEvent_EDITED:
			edited[e.GetId()] = e.GetText() // a post's records are in one partition, and come in order
		case events.PostEvent_DELETED:
			deleted[e.GetId()] = true
		default:
			r.t.Errorf("%s/%d at %d is of kind %s", record.Topic, record.Partition, record.Offset, e.GetKind())
		}
	}
	return posted, edited, deleted
}

// readTopic reads all records that a topic has.
func (r *run) readTopic(topic string) []*kgo.Record {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	log := openLog(r.t, r.proc, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ends, err := log.ends(topic)
	if err != nil {
		r.t.Fatal(err)
	}
	starts, err := log.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	want := int64(0)
	for at, end := range ends {
		start, _ := starts.Lookup(at.topic, at.id)
		want += end - start.Offset
	}
	var records []*kgo.Record
	for int64(len(records)) < want {
		fetches := log.client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			r.t.Fatalf("read %s: %v; %d of %d records are read", topic, err, len(records), want)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}
