package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
)

type counts struct{ Followers, Following, Posts int }

// sameCounts waits for the counts: they are told about once a second.
func (r *run) sameCounts(when string, a *Account, want counts) {
	deadline := time.Now().Add(patience())
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := request(r.http, http.MethodGet, r.proc.url()+"/v1/accounts/"+a.ID, nil)
		var got counts
		if err == nil {
			err = json.Unmarshal(answer.body, &got)
		}
		if err == nil && got == want {
			return
		}
		if err != nil || time.Now().After(deadline) || r.t.Failed() {
			r.t.Errorf("%s: the counts of %s are %+v, want %+v (%v)\n%s", when, a.ID, got, want, err, r.countsOf(a))
			return
		}
		<-tick.C
	}
}

// countsOf is where counts come from, for the message of a failure: the author's posts in the log, the rows of its root
// in the changelog, and what was written to stats, each with partition, offset and time.
func (r *run) countsOf(a *Account) string {
	var text strings.Builder
	var author freshet.Number
	for _, record := range r.inOrder(postsTopic) {
		var e events.PostEvent
		if proto.Unmarshal(record.Value, &e) != nil {
			continue
		}
		r.ledger.mu.Lock()
		its := r.ledger.texts[e.GetText()] == a
		r.ledger.mu.Unlock()
		if its {
			author = freshet.Number(e.GetAuthor())
		}
		if author != 0 && e.GetAuthor() == uint64(author) {
			fmt.Fprintf(&text, "posts %d %s %s %d\n", record.Offset, record.Timestamp.Format(clock), e.GetKind(), e.GetId())
		}
	}
	for _, topic := range []string{"freshet.fanout-table", "freshet.stats"} {
		for _, record := range r.inOrder(topic) {
			if author == 0 || string(record.Key) != author.Key() {
				continue
			}
			var node events.TreeNode
			var stats events.Stats
			said := ""
			if topic == "freshet.stats" && proto.Unmarshal(record.Value, &stats) == nil {
				said = stats.String()
			} else if topic != "freshet.stats" && proto.Unmarshal(record.Value, &node) == nil {
				said = node.String()
			}
			fmt.Fprintf(&text, "%s %d %s %s %x\n", topic, record.Offset, record.Timestamp.Format(clock), said,
				record.Headers)
		}
	}
	r.relationsOf(author, &text)
	return text.String()
}

// relationsOf is what the log has about who follows an author, from what accounts asked for to what trees answered.
func (r *run) relationsOf(author freshet.Number, text *strings.Builder) {
	of := map[string]func(*kgo.Record) (about bool, said fmt.Stringer){
		"freshet.follows": func(record *kgo.Record) (bool, fmt.Stringer) {
			e := &events.FollowEvent{}
			return proto.Unmarshal(record.Value, e) == nil && freshet.Number(e.GetTarget()) == author, e
		},
		"freshet.followers": func(record *kgo.Record) (bool, fmt.Stringer) {
			e := &events.FollowerState{}
			return proto.Unmarshal(record.Value, e) == nil && string(record.Key) == author.Key(), e
		},
		"freshet.applied": func(record *kgo.Record) (bool, fmt.Stringer) {
			e := &events.AppliedReport{}
			return proto.Unmarshal(record.Value, e) == nil && freshet.Number(e.GetFollowee()) == author, e
		},
	}
	for _, topic := range slices.Sorted(maps.Keys(of)) {
		for _, record := range r.inOrder(topic) {
			if about, said := of[topic](record); about {
				fmt.Fprintf(text, "%s/%d %d %s key %s: %s\n", topic, record.Partition, record.Offset,
					record.Timestamp.Format(clock), record.Key, said)
			}
		}
	}
}

const clock = "15:04:05.000"

// inOrder reads what a topic has, within a few seconds: of one that is compacted nobody knows how much that is.
func (r *run) inOrder(topic string) (records []*kgo.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	log := openLog(r.t, r.proc, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for ctx.Err() == nil {
		records = append(records, log.client.PollFetches(ctx).Records()...)
	}
	slices.SortStableFunc(records, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return records
}
