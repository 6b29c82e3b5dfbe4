package deadletters

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
	"freshet/processors/processortest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

const partitions = 2

// group processes posts, and gives up those with the text "bad" until it is mended.
type group struct {
	mended atomic.Bool
	mu     sync.Mutex
	got    []seen
}

type seen struct {
	text  string
	time  time.Time
	trace string
}

var errBad = errors.New("we do not like this one")

func (g *group) take(text string, at time.Time, headers goka.Headers) error {
	if text == "bad" && !g.mended.Load() {
		return kafka.Poison(errBad)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got = append(g.got, seen{text, at, string(headers["trace"])})
	return nil
}

func (g *group) all() []seen {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.got)
}

// run starts a processor with the name; batches has it read as groups do that may gather.
func (g *group) run(c *processortest.Cluster, name freshet.Group, batches bool) {
	c.Processor(name, func(brokers []string, names freshet.Names, opts ...goka.ProcessorOption) (*goka.Processor, error) {
		topic := names.Topic(freshet.Posts)
		input := kafka.Input(topic, names, name, func(ctx goka.Context, e *events.PostEvent) error {
			return g.take(e.GetText(), ctx.Timestamp(), ctx.Headers())
		})
		if batches {
			input = kafka.BatchInput(topic, names, name,
				func(ctx goka.Context, batch []kafka.Record[*events.PostEvent]) error {
					for _, r := range batch {
						if err := g.take(r.Msg.GetText(), r.Timestamp, ctx.Headers()); err != nil {
							return err
						}
					}
					return nil
				})
		}
		return goka.NewProcessor(brokers,
			goka.DefineGroup(goka.Group(names.Group(name)), input, kafka.DeadLetters(names)), opts...)
	})
}

// put writes an event of a post, with a field that no version of freshet knows, and a header.
func put(t *testing.T, c *processortest.Cluster, author string, post uint64, text string, at time.Time) *kgo.Record {
	t.Helper()
	value, err := proto.Marshal(&events.PostEvent{Id: post, Text: text})
	if err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{
		Topic: c.Names.Topic(freshet.Posts), Partition: freshet.PartitionOf(author, partitions), Key: []byte(author),
		Value: append(value, 0xf8, 0x7f, 0x63), Timestamp: at,
		Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("\x00\xff")}},
	}
	c.Put(r)
	return r
}

func open(t *testing.T, c *processortest.Cluster) *Box {
	t.Helper()
	box, err := Open(t.Context(), c.Brokers, c.Names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	return box
}

func letters(t *testing.T, b *Box, f Filter) (list []*Letter) {
	t.Helper()
	err := b.Each(t.Context(), f, func(l *Letter) error {
		list = append(list, l)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// await polls until there are so many open letters.
func await(t *testing.T, c *processortest.Cluster, b *Box, f Filter, count int) (list []*Letter) {
	t.Helper()
	c.Until(fmt.Sprintf("%d letters of %+v", count, f), func() bool {
		list = letters(t, b, f)
		return len(list) == count
	})
	return list
}

// Only the group that gave a message up gets it again: as it was, and once.
func TestRetry(t *testing.T) {
	for _, batches := range []bool{false, true} {
		t.Run(fmt.Sprintf("batches=%v", batches), func(t *testing.T) {
			t.Parallel()
			c := processortest.Start(t, partitions)
			var picky, easy group
			easy.mended.Store(true)
			picky.run(c, "picky", batches)
			easy.run(c, "easy", batches)
			at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
			put(t, c, "1", 1, "good", at)
			message := put(t, c, "1", 2, "bad", at)
			box := open(t, c)
			letter := await(t, c, box, Filter{Group: c.Names.Group("picky")}, 1)[0]
			if !bytes.Equal(letter.Value, message.Value) || string(letter.Key) != "1" || !letter.Time.Equal(at) ||
				letter.Topic != message.Topic || letter.Partition != message.Partition || letter.Offset != message.Offset ||
				letter.Tries != 1 || len(letter.Headers) != 1 || string(letter.Headers[0].Value) != "\x00\xff" {
				t.Fatalf("the letter is %+v", letter)
			}

			// It fails again: a new letter in place of the old one.
			if err := box.Retry(t.Context(), letter); err != nil {
				t.Fatal(err)
			}
			var again *Letter
			c.Until("given up again", func() bool {
				list := letters(t, box, Filter{})
				if len(list) == 1 {
					again = list[0]
				}
				return again != nil
			})
			if again.Tries != 2 || !bytes.Equal(again.Value, message.Value) || len(again.Headers) != 1 || again.ID == letter.ID {
				t.Fatalf("the second letter is %+v", again)
			}
			picky.mended.Store(true)
			if err := box.Retry(t.Context(), again); err != nil {
				t.Fatal(err)
			}
			last := put(t, c, "1", 3, "last", at)
			c.Until("all are processed", func() bool { return len(picky.all()) == 3 && len(easy.all()) == 3 })
			if got := picky.all(); got[1] != (seen{"bad", at, "\x00\xff"}) || got[2].text != "last" {
				t.Errorf("picky got %+v", got)
			}
			if got := easy.all(); got[1].text != "bad" || got[2].text != "last" || last.Offset != 4 {
				t.Errorf("easy got %+v, and the last one lies at %d", got, last.Offset)
			}
			if list := letters(t, box, Filter{}); len(list) != 0 {
				t.Errorf("letters are open: %+v", list)
			}
			if err := box.Each(t.Context(), Filter{IDs: []ID{letter.ID}}, nil); !errors.Is(err, ErrUnknown) {
				t.Errorf("a closed letter: %v", err)
			}
		})
	}
}

func TestCountAndDrop(t *testing.T) {
	t.Parallel()
	c := processortest.Start(t, partitions)
	var picky group
	picky.run(c, "picky", false)
	for i := range 3 {
		put(t, c, fmt.Sprint(i), uint64(i), "bad", time.Now())
	}
	topic := c.Names.Topic(freshet.Posts)
	c.Put(
		&kgo.Record{Topic: topic, Key: []byte("1"), Value: []byte{0xff, 0x00}},
		&kgo.Record{Topic: topic, Key: []byte("1")},
		&kgo.Record{Topic: c.Names.Topic(freshet.DeadLetters), Key: []byte("who"), Value: []byte("knows")},
	)
	box := open(t, c)
	all := await(t, c, box, Filter{}, 6)
	counts, err := box.Count(t.Context(), Filter{Topic: topic})
	if err != nil || len(counts) != 3 || counts[0].Letters != 3 || counts[0].Group != c.Names.Group("picky") ||
		counts[0].First.After(counts[0].Last) {
		t.Errorf("counts: %+v, %v", counts, err)
	}
	if list := letters(t, box, Filter{Reason: "NOT LIKE"}); len(list) != 3 {
		t.Errorf("by reason: %+v", list)
	}
	for _, l := range all {
		switch {
		case string(l.Key) == "who":
			if _, err := box.Overtaken(t.Context(), []*Letter{l}); !errors.Is(err, ErrForeign) {
				t.Errorf("overtaken, of a record of nobody: %v", err)
			}
			if err := box.Retry(t.Context(), l); !errors.Is(err, ErrForeign) {
				t.Errorf("a record of nobody is retried: %v", err)
			}
		case len(l.Value) == 0 && l.Value != nil:
			t.Errorf("a message without a value has an empty one: %+v", l)
		}
	}
	if err := box.Drop(t.Context(), all[0], all[1], all[2]); err != nil {
		t.Fatal(err)
	}
	left := letters(t, box, Filter{})
	if len(left) != 3 || slices.ContainsFunc(left, func(l *Letter) bool { return l.ID == all[0].ID }) {
		t.Errorf("left: %+v", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := box.Each(ctx, Filter{}, func(*Letter) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// What came later about the same would be undone.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	c := processortest.Start(t, partitions)
	box := open(t, c)
	now := time.Now()
	letterOf := func(r *kgo.Record, group string) *Letter {
		return &Letter{
			ID: ID{r.Partition, r.Offset}, Group: group, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: now,
			Key: r.Key, Value: r.Value, Tries: 1,
		}
	}
	created := put(t, c, "1", 7, "created", now)
	other := put(t, c, "1", 8, "another post", now)
	edited := put(t, c, "1", 7, "edited", now)
	follow := func(key string) *kgo.Record {
		r := &kgo.Record{
			Topic: c.Names.Topic(freshet.Follows), Partition: freshet.PartitionOf(key, partitions), Key: []byte(key),
			Value: []byte{1}, Timestamp: now,
		}
		c.Put(r)
		return r
	}
	first, second := follow("1"), follow("1")
	follow("3")
	a, b, e := letterOf(created, "g"), letterOf(other, "g"), letterOf(edited, "g")
	elsewhere := letterOf(edited, "h")
	f1, f2 := letterOf(first, "g"), letterOf(second, "g")
	for _, tt := range []struct {
		name    string
		letters []*Letter
		want    map[*Letter]int64
	}{
		{"none", nil, nil},
		{"an edited post", []*Letter{a}, map[*Letter]int64{a: edited.Offset}},
		{"another post of the author", []*Letter{b}, nil},
		{"the last event", []*Letter{e}, nil},
		{"both events in one go", []*Letter{a, e}, nil},
		{"the later one is another group's letter", []*Letter{a, elsewhere}, map[*Letter]int64{a: edited.Offset}},
		{"the same key", []*Letter{f1, b}, map[*Letter]int64{f1: second.Offset}},
		{"the last of a key", []*Letter{f2}, nil},
		{"all of a key", []*Letter{f2, f1}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := box.Overtaken(t.Context(), tt.letters)
			if err != nil || len(got) != len(tt.want) {
				t.Fatalf("got %v, %v, want %v", got, err, tt.want)
			}
			for l, offset := range tt.want {
				if got[l.ID] != offset {
					t.Errorf("got %v, want %d of %s", got, offset, l.ID)
				}
			}
		})
	}
}

func TestParseID(t *testing.T) {
	for _, text := range []string{
		"", "/", "3", "3/", "/4", "-1/4", "3/-4", "3/4/5", "a/b", "4294967296/1", "1/9223372036854775808",
	} {
		if id, err := ParseID(text); err == nil {
			t.Errorf("%q is %v", text, id)
		}
	}
	if id, err := ParseID("3/120"); err != nil || id != (ID{3, 120}) || id.String() != "3/120" {
		t.Errorf("3/120 is %v, %v", id, err)
	}
}
