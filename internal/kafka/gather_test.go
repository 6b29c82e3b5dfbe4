package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// batches is what a callback was given, as "key: first offset: text@offset ...".
type batches struct {
	mu  sync.Mutex
	got []string
}

func (b *batches) add(ctx goka.Context, batch []Record[*word]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var line strings.Builder
	fmt.Fprintf(&line, "%s: %d:", ctx.Key(), ctx.Offset())
	for _, r := range batch {
		fmt.Fprintf(&line, " %s@%d", r.Msg.Value, r.Offset)
	}
	b.got = append(b.got, line.String())
}

func (b *batches) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

func said(key, text string) *kgo.Record {
	return &kgo.Record{Topic: "posts", Key: []byte(key), Value: encoded(text)}
}

// end is a record that goes alone, and so hands over what came before it.
func end() *kgo.Record {
	r := said("end", "end")
	r.Headers = []kgo.RecordHeader{{Key: "trace", Value: []byte("1")}}
	return r
}

// gathering is a group that hands a window over when it is full or when a message goes alone, at no other time.
func (c *cluster) gathering(change func(*GroupConfig)) *Group {
	return c.group(testNames.Group("g"), func(cfg *GroupConfig) {
		cfg.Gathered = map[string]time.Duration{"posts": time.Hour}
		if change != nil {
			change(cfg)
		}
	})
}

func TestMessagesOfAKeyComeTogether(t *testing.T) {
	t.Parallel()
	letters := testNames.Topic(freshet.DeadLetters)
	c := newCluster(t, 1, "posts", letters)
	c.put(said("a", "1"), said("b", "2"), said("a", "3"), said("c", "4"), said("a", "5"), said("b", "6"), end(),
		said("a", "8"), end())
	var b batches
	c.start(c.gathering(nil), testNames.Group("g"), edges(BatchInput("posts", testNames, "g",
		func(ctx goka.Context, batch []Record[*word]) error {
			b.add(ctx, batch)
			return nil
		}), DeadLetters(testNames)))
	c.awaitCommitted(testNames.Group("g"), "posts", 0, 9)
	want := []string{"a: 0: 1@0 3@2 5@4", "b: 1: 2@1 6@5", "c: 3: 4@3", "end: 6: end@6", "a: 7: 8@7", "end: 8: end@8"}
	if got := b.all(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A topic that is not gathered, and one whose messages do not lie ready together, come one by one.
func TestBatchesOfOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts", testNames.Topic(freshet.DeadLetters))
	c.put(said("a", "1"), said("a", "2"))
	var b batches
	edge := BatchInput("posts", testNames, "g", func(ctx goka.Context, batch []Record[*word]) error {
		b.add(ctx, batch)
		return nil
	})
	r := c.start(c.group(testNames.Group("g"), nil), testNames.Group("g"), edges(edge, DeadLetters(testNames)))
	c.awaitCommitted(testNames.Group("g"), "posts", 0, 2)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	soon := c.gathering(func(cfg *GroupConfig) { cfg.Gathered["posts"] = time.Millisecond })
	c.start(soon, testNames.Group("g"), edges(edge, DeadLetters(testNames)))
	c.put(said("a", "3"))
	c.awaitCommitted(testNames.Group("g"), "posts", 0, 3)
	want := []string{"a: 0: 1@0", "a: 1: 2@1", "a: 2: 3@2"}
	if got := b.all(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever is wrong with one message of a batch, the others are processed, and its bytes and place are in its letter.
func TestDeadLettersOfABatch(t *testing.T) {
	t.Parallel()
	letters := testNames.Topic(freshet.DeadLetters)
	c := newCluster(t, 1, "posts", letters)
	garbage, zero := []byte{0xff, 0x00}, []byte{gatheredMark, 1, 2, 3}
	bad := map[string][]byte{"1": garbage, "2": zero, "4": encoded("poison"), "5": encoded("panic"), "8": nil, "9": zero}
	raw := func(value []byte) *kgo.Record { return &kgo.Record{Topic: "posts", Key: []byte("a"), Value: value} }
	c.put(said("a", "good"), raw(garbage), raw(zero), said("a", "good"), said("a", "poison"), said("a", "panic"),
		said("a", "good"), end(), raw(nil), raw(zero), end())
	var good batches
	c.start(c.gathering(nil), testNames.Group("g"), edges(BatchInput("posts", testNames, "g",
		func(ctx goka.Context, batch []Record[*word]) error {
			for _, r := range batch {
				switch r.Msg.Value {
				case "poison":
					return Poison(errors.New("not today"))
				case "panic":
					panic("now")
				}
			}
			good.add(ctx, batch)
			return nil
		}), DeadLetters(testNames)))
	c.awaitCommitted(testNames.Group("g"), "posts", 0, 11)
	want := []string{"a: 0: good@0", "a: 0: good@3", "a: 0: good@6", "end: 7: end@7", "end: 10: end@10"}
	if got := good.all(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, l := range c.read(letters, len(bad)) {
		h := headers(l)
		want, ok := bad[h[HeaderOffset]]
		if !ok || !bytes.Equal(l.Value, want) || (l.Value == nil) != (want == nil) || string(l.Key) != "a" {
			t.Errorf("a letter for offset %s: key %s, value %x; want %x", h[HeaderOffset], l.Key, l.Value, want)
		}
		if at, err := time.Parse(time.RFC3339Nano, h[HeaderTimestamp]); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("the letter for offset %s has time %q, %v", h[HeaderOffset], h[HeaderTimestamp], err)
		}
		delete(bad, h[HeaderOffset])
	}
}

// None of a batch's messages is committed before its follow-up is acknowledged.
func TestAFollowUpHoldsTheWholeBatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts", "other", testNames.Topic(freshet.DeadLetters))
	c.put(said("a", "1"), said("a", "2"), said("b", "3"), said("a", "4"), end())
	group := c.gathering(nil)
	held := make(chan func(error), 1)
	c.start(group, testNames.Group("g"), edges(
		BatchInput("posts", testNames, "g", func(ctx goka.Context, _ []Record[*word]) error {
			if ctx.Key() == "a" {
				group.After("posts", 0, ctx.Offset(), func(done func(error)) { held <- done })
			}
			return nil
		}),
		textInput("other", func(goka.Context, any) {}),
		DeadLetters(testNames)))
	done := <-held
	c.write("other", 0, 1)
	c.awaitCommitted(testNames.Group("g"), "other", 0, 1) // with it, what could be committed has been
	if at := c.committed(testNames.Group("g"), "posts", 0); at > 0 {
		t.Errorf("committed %d while the follow-up of message 0 is not acknowledged", at)
	}
	done(nil)
	c.awaitCommitted(testNames.Group("g"), "posts", 0, 5)
}

// At the bound on messages in flight a window is handed over, since nothing else would make room.
func TestAWindowGivesWayAtTheBound(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "posts", testNames.Topic(freshet.DeadLetters))
	var all []*kgo.Record
	for i := range 20 {
		all = append(all, said(fmt.Sprint("k", i%3), fmt.Sprint(i)))
	}
	c.put(append(all, end())...)
	var b batches
	c.start(c.gathering(func(cfg *GroupConfig) { cfg.MaxInFlight = 4 }), testNames.Group("g"), edges(
		BatchInput("posts", testNames, "g", func(ctx goka.Context, batch []Record[*word]) error {
			b.add(ctx, batch)
			if len(batch) > 4 {
				t.Errorf("a batch of %d", len(batch))
			}
			return nil
		}), DeadLetters(testNames)))
	c.awaitCommitted(testNames.Group("g"), "posts", 0, 21)
	if got := len(b.all()); got < 6 || got > 21 {
		t.Errorf("%d batches", got)
	}
}

func TestRunsComeApartAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.SliceOf(rapid.Byte()), 1, 9).Draw(t, "values")
		offset := rapid.Int64Range(0, 1<<50).Draw(t, "offset")
		at := time.UnixMilli(rapid.Int64Range(-1<<45, 1<<45).Draw(t, "at"))
		var r run
		for i, value := range values {
			r = append(r, &sarama.ConsumerMessage{
				Offset: offset + int64(i*i), Value: value, Timestamp: at.Add(time.Duration(i) * time.Second),
			})
		}
		data := r.message().Value
		if len(r) == 1 && bytes.Equal(data, values[0]) {
			if len(data) > 0 && data[0] == gatheredMark {
				t.Fatal("a message that could be taken for a gathered one goes as it is")
			}
			return
		}
		back, err := gatheredIn(data)
		if err != nil || len(back) != len(r) {
			t.Fatalf("%d messages came back as %d, %v", len(r), len(back), err)
		}
		for i, m := range back {
			if m.offset != r[i].Offset || !m.timestamp.Equal(r[i].Timestamp) || !bytes.Equal(m.data, r[i].Value) {
				t.Fatalf("message %d came back as %+v, want %+v", i, m, r[i])
			}
		}
		for cut := 1; cut < len(data); cut++ { // what is cut off never panics
			if some, err := gatheredIn(data[:cut]); err == nil && len(some) >= len(r) {
				t.Fatalf("%d of %d bytes give %d messages", cut, len(data), len(some))
			}
		}
	})
}
