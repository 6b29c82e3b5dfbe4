package kafka

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"freshet"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// word is a message to test with.
type word = wrapperspb.StringValue

// encoded is a word with a field that word does not know, in front, so that encoding it again gives other bytes.
func encoded(text string) []byte {
	data := protowire.AppendTag(nil, 7, protowire.VarintType)
	data = protowire.AppendVarint(data, 99)
	data = protowire.AppendTag(data, 1, protowire.BytesType)
	return protowire.AppendString(data, text)
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	letters := testNames.Topic(freshet.DeadLetters)
	for _, kept := range []bool{true, false} {
		name := "Handle"
		if kept {
			name = "Input"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, "posts", letters)
			header := []kgo.RecordHeader{{Key: "trace", Value: []byte{0, 1, 0xff}}}
			garbage := []byte{0xff, 0x00, 0xff, 0x0a}
			bad := []struct {
				value []byte
				why   string
			}{
				{garbage, "decode"},
				{nil, "no value"},
				{encoded("poison"), "not today"},
				{encoded("panic"), "out of range"},
			}
			for _, b := range bad {
				c.put(&kgo.Record{Topic: "posts", Key: []byte("k"), Value: b.value, Headers: header},
					&kgo.Record{Topic: "posts", Key: []byte("k"), Value: encoded("good")})
			}
			good := make(chan int64, 10)
			callback := func(ctx goka.Context, w *word) error {
				text := w.Value
				w.Value = "changed by the callback"
				switch text {
				case "poison":
					return Poison(errors.New("not today"))
				case "panic":
					var none []int
					_ = none[len(text)]
				}
				good <- ctx.Offset()
				return nil
			}
			edge := Input("posts", testNames, "g", callback)
			if !kept {
				edge = goka.Input("posts", Codec[word, *word]{}, Handle(testNames, "g", callback))
			}
			r := c.start(c.group(testNames.Group("g"), nil), testNames.Group("g"), edges(edge, DeadLetters(testNames)))
			c.awaitCommitted(testNames.Group("g"), "posts", 0, int64(2*len(bad)))
			if len(good) != len(bad) {
				t.Errorf("%d good messages processed, want %d", len(good), len(bad))
			}
			if !r.alive() {
				t.Error("the processor has ended")
			}
			for i, l := range c.read(letters, len(bad)) {
				want := bad[i]
				if i < 2 || kept {
					if !bytes.Equal(l.Value, want.value) || (l.Value == nil) != (want.value == nil) {
						t.Errorf("letter %d: value %x (nil: %v), want %x", i, l.Value, l.Value == nil, want.value)
					}
				}
				if string(l.Key) != "k" {
					t.Errorf("letter %d: key %q", i, l.Key)
				}
				h := headers(l)
				offset := string('0' + rune(2*i))
				if h[HeaderGroup] != "t.g" || h[HeaderTopic] != "posts" || h[HeaderPartition] != "0" ||
					h[HeaderOffset] != offset || h[HeaderTimestamp] == "" || h["trace"] != "\x00\x01\xff" ||
					!bytes.Contains([]byte(h[HeaderError]), []byte(want.why)) {
					t.Errorf("letter %d: headers %q", i, h)
				}
			}
		})
	}
}

func headers(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, header := range r.Headers {
		h[header.Key] = string(header.Value)
	}
	return h
}

// An error that is not the message's fault ends the processor, and so does Fail, without a commit or a dead letter.
func TestErrorsEndTheProcessor(t *testing.T) {
	t.Parallel()
	cause := errors.New("the disk is full")
	for name, callback := range map[string]func(goka.Context, *word) error{
		"error": func(goka.Context, *word) error { return cause },
		"Fail":  func(ctx goka.Context, _ *word) error { ctx.Fail(cause); return nil },
		"misuse": func(ctx goka.Context, _ *word) error { // goka fails by itself
			ctx.Emit("nowhere", "", nil)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			letters := testNames.Topic(freshet.DeadLetters)
			c := newCluster(t, 1, "posts", letters)
			c.put(&kgo.Record{Topic: "posts", Value: encoded("x")})
			r := c.start(c.group("g", nil), "g", edges(Input("posts", testNames, "g", callback), DeadLetters(testNames)))
			if err := r.wait(); err == nil {
				t.Error("Run returned nil")
			}
			if at := c.committed("g", "posts", 0); at != -1 {
				t.Errorf("committed %d", at)
			}
			ends, err := c.adm.ListEndOffsets(context.Background(), letters)
			if end, _ := ends.Lookup(letters, 0); err != nil || end.Offset != 0 {
				t.Errorf("%d dead letters, error %v", end.Offset, err)
			}
		})
	}
}

func TestCodec(t *testing.T) {
	t.Parallel()
	var c Codec[word, *word]
	value, err := c.Decode(encoded("hello"))
	if w, ok := value.(*word); !ok || err != nil || w.Value != "hello" {
		t.Fatalf("Decode gives %v, %v", value, err)
	}
	garbage := []byte{0xff}
	value, err = c.Decode(garbage)
	invalid, ok := value.(*Invalid)
	if !ok || err != nil || !bytes.Equal(invalid.Data, garbage) || invalid.Err == nil {
		t.Fatalf("Decode of garbage gives %v, %v", value, err)
	}
	if data, err := c.Encode(invalid); err != nil || !bytes.Equal(data, garbage) {
		t.Errorf("Encode of what was invalid gives %x, %v", data, err)
	}
	if data, err := c.Encode(&word{}); err != nil || data == nil {
		t.Errorf("Encode of an empty message gives %v (nil: %v), %v: it would be a tombstone", data, data == nil, err)
	}
	if _, err := c.Encode("a string"); err == nil {
		t.Error("Encode takes a string")
	}
}
