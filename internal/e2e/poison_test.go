package e2e

import (
	"bytes"
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet/internal/events"
	"freshet/internal/kafka"
)

// inputs are the topics that groups read, each with the groups.
var inputs = map[string][]string{
	"freshet.registrations":  {"freshet.directory"},
	"freshet.profiles":       {"freshet.directory"},
	"freshet.directory-loop": {"freshet.directory"},
	"freshet.follows":        {"freshet.following"},
	"freshet.applied":        {"freshet.following"},
	"freshet.followers":      {"freshet.fanout", "freshet.archive"},
	"freshet.posts":          {"freshet.fanout", "freshet.archive"},
	"freshet.replays":        {"freshet.fanout"},
	"freshet.fanout-loop":    {"freshet.fanout"},
}

// origin is where a record lay, and which group gave it up.
type origin struct{ group, topic, partition, offset string }

// TestPoison: records that cannot be read stop nothing, wherever they lie, and are kept as they were.
func TestPoison(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	r.proc = start(t, denseFlags...)
	inParallel(make([]int, 6), r.registerer())
	clients := r.newClients(2)
	r.phase("before", clients, 60, busy)

	sent := r.poison()
	// The same partitions, after the poison.
	r.phase("after", clients, 60, busy)
	r.compare("after poison")

	r.sameLetters(sent)
	if took := r.proc.stop(); took > patience() {
		t.Errorf("it took %s to stop", took)
	}
}

// sameLetters: what was sent became dead letters, as it was, and nothing else did.
func (r *run) sameLetters(sent map[origin]*kgo.Record) {
	r.t.Helper()
	found := r.deadLetters()
	for from, record := range sent {
		letter := found[from]
		if letter == nil {
			r.t.Errorf("there is no dead letter of %+v", from)
			continue
		}
		if !bytes.Equal(letter.Value, record.Value) || (letter.Value == nil) != (record.Value == nil) ||
			!bytes.Equal(letter.Key, record.Key) {
			r.t.Errorf("the dead letter of %+v is %q = %x, want %q = %x", from, letter.Key, letter.Value, record.Key,
				record.Value)
		}
		headers := headersOf(letter)
		if headers["sender"] != "e2e" || headers[kafka.HeaderError] == "" {
			r.t.Errorf("the dead letter of %+v lacks the record's header or the cause: %v", from, headers)
		}
		if at := headers[kafka.HeaderTimestamp]; at != record.Timestamp.UTC().Format(time.RFC3339Nano) {
			r.t.Errorf("the dead letter of %+v is of %s, want %s", from, at, record.Timestamp)
		}
	}
	if len(found) != len(sent) {
		r.t.Errorf("%d dead letters, want %d", len(found), len(sent))
	}
	r.t.Logf("%d records that cannot be read, %d dead letters", len(sent), len(found))
}

// sentByTest says that a record is poison of ours.
func sentByTest(record *kgo.Record) bool { return headersOf(record)["sender"] == "e2e" }

// poison writes records that cannot be read into every input: bytes that are no message, none at all, and messages
// under keys that cannot be theirs.
func (r *run) poison() map[origin]*kgo.Record {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	stray, err := proto.Marshal(&events.PostEvent{Kind: events.PostEvent_CREATED, Id: 1, Author: 2, Text: "stray"})
	if err != nil {
		r.t.Fatal(err)
	}
	garbage := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x07}
	log := openLog(r.t, r.proc)
	sent := map[origin]*kgo.Record{}
	for topic, groups := range inputs {
		records := []*kgo.Record{
			{Key: []byte("0"), Value: garbage}, {Key: []byte("a1"), Value: garbage}, {Key: []byte("0"), Value: nil},
			{Key: []byte("no/such key#"), Value: []byte{}},
		}
		if topic == postsTopic || topic == "freshet.replays" {
			records = append(records, &kgo.Record{Key: []byte("3"), Value: stray})
		}
		for i, record := range records {
			record.Topic = topic
			record.Headers = []kgo.RecordHeader{{Key: "sender", Value: []byte("e2e")}}
			record.Timestamp = time.UnixMilli(1_700_000_000_000 + int64(i))
			at, err := log.client.ProduceSync(ctx, record).First()
			if err != nil {
				r.t.Fatalf("write poison to %s: %v", topic, err)
			}
			for _, group := range groups {
				sent[origin{group, topic, strconv.Itoa(int(at.Partition)), strconv.FormatInt(at.Offset, 10)}] = record
			}
		}
	}
	return sent
}

func headersOf(record *kgo.Record) map[string]string {
	headers := map[string]string{}
	for _, h := range record.Headers {
		headers[h.Key] = string(h.Value)
	}
	return headers
}

// deadLetters reads the dead letters, which are all there by now.
func (r *run) deadLetters() map[origin]*kgo.Record {
	r.t.Helper()
	found := map[origin]*kgo.Record{}
	for _, letter := range r.readTopic("freshet.dead-letters") {
		h := headersOf(letter)
		from := origin{h[kafka.HeaderGroup], h[kafka.HeaderTopic], h[kafka.HeaderPartition], h[kafka.HeaderOffset]}
		if found[from] != nil {
			r.t.Errorf("two dead letters of %+v", from)
		}
		found[from] = letter
	}
	return found
}
