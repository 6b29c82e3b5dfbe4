// Package deadletters is what operators do with messages that groups could not process: list them, look at them, have
// them processed again, or drop them.
//
// The topic of dead letters is all there is: a letter is open until a record behind it in its partition closes it.
// Letters and what closes them are kept equally long, so what retention leaves of a closed letter is at most its end.
package deadletters

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/internal/kafka"
)

// ID names a letter: its place in the topic of dead letters.
type ID struct {
	Partition int32
	Offset    int64
}

// ParseID reads what String writes.
func ParseID(text string) (ID, error) {
	partition, offset, found := strings.Cut(text, "/")
	p, err := strconv.ParseUint(partition, 10, 31)
	o, err2 := strconv.ParseUint(offset, 10, 63)
	if !found || err != nil || err2 != nil {
		return ID{}, fmt.Errorf("%q names no dead letter: want PARTITION/OFFSET, as freshet dlq list shows them", text)
	}
	return ID{int32(p), int64(o)}, nil
}

func (id ID) String() string { return fmt.Sprintf("%d/%d", id.Partition, id.Offset) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Header is one of a message.
type Header struct {
	Key   string
	Value []byte
}

// Letter is a message that a group gave up, as the group read it.
type Letter struct {
	ID      ID
	Group   string    // that gave it up, by its name in Kafka
	GivenUp time.Time // when
	Tries   int       // how often it has been given up, at least 1
	Reason  string

	Topic     string // where it lay
	Partition int32
	Offset    int64
	Time      time.Time // the message's own
	Key       []byte
	Value     []byte // nil: it had none
	Headers   []Header
}

// Why is the first line of the reason, as one can be read in a table.
func (l *Letter) Why() string {
	line, _, _ := strings.Cut(l.Reason, "\n")
	return strings.ToValidUTF8(line, "\uFFFD")
}

// MarshalJSON writes bytes in base64, and beside that as text where they are text.
func (l *Letter) MarshalJSON() ([]byte, error) {
	type header struct {
		Key   string `json:"key"`
		Value []byte `json:"value"`
	}
	headers := make([]header, len(l.Headers))
	for i, h := range l.Headers {
		headers[i] = header(h)
	}
	return json.Marshal(struct {
		ID        ID        `json:"letter"`
		Group     string    `json:"group"`
		GivenUp   time.Time `json:"given_up"`
		Tries     int       `json:"tries"`
		Reason    string    `json:"reason"`
		Topic     string    `json:"topic"`
		Partition int32     `json:"partition"`
		Offset    int64     `json:"offset"`
		Time      time.Time `json:"time"`
		Key       []byte    `json:"key"`
		KeyText   string    `json:"key_text,omitempty"`
		Value     []byte    `json:"value"`
		Headers   []header  `json:"headers"`
	}{
		l.ID, l.Group, l.GivenUp, l.Tries, l.Reason, l.Topic, l.Partition, l.Offset, l.Time, l.Key, printable(l.Key),
		l.Value, headers,
	})
}

func printable(data []byte) string {
	if !utf8.Valid(data) {
		return ""
	}
	return string(data)
}

// letterOf reads a record of the topic of dead letters. One that lacks what every letter has is shown all the same: it
// comes from no group of freshet, and can only be dropped.
func letterOf(r *kgo.Record) *Letter {
	l := &Letter{
		ID: ID{r.Partition, r.Offset}, GivenUp: r.Timestamp, Tries: 1, Key: r.Key, Value: r.Value, Partition: -1, Offset: -1,
	}
	for _, h := range r.Headers {
		text := string(h.Value)
		var err error
		switch h.Key {
		case kafka.HeaderGroup:
			l.Group = text
		case kafka.HeaderTopic:
			l.Topic = text
		case kafka.HeaderPartition:
			var n int64
			n, err = strconv.ParseInt(text, 10, 32)
			l.Partition = int32(n)
		case kafka.HeaderOffset:
			l.Offset, err = strconv.ParseInt(text, 10, 64)
		case kafka.HeaderTimestamp:
			l.Time, err = time.Parse(time.RFC3339Nano, text)
		case kafka.HeaderError:
			l.Reason = text
		case kafka.HeaderTries:
			var n int
			n, err = strconv.Atoi(text)
			l.Tries = n + 1
		case kafka.HeaderOnly: // of the try before
		default:
			l.Headers = append(l.Headers, Header{h.Key, bytes.Clone(h.Value)})
		}
		if err != nil {
			l.Topic = "" // so that it cannot be retried
			l.Reason += fmt.Sprintf(" (its header %s is no use: %v)", h.Key, err)
		}
	}
	return l
}

// foreign says that a letter does not tell where the message lay.
func (l *Letter) foreign() bool {
	return l.Topic == "" || l.Group == "" || l.Partition < 0 || l.Offset < 0 || l.Time.IsZero()
}
