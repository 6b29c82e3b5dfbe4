package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"freshet"
)

// EventKind says what an event tells.
type EventKind string

// The kinds of events.
const (
	// Opened: the stream is open, and tells what is posted from now on; who reads the feed now has both. It is the first
	// event of a stream that begins now, and there is no other.
	Opened EventKind = "open"
	// Posted: a post belongs into the feed.
	Posted EventKind = "post"
	// Edited: a post of the feed has another text.
	Edited EventKind = "edit"
	// Deleted: a post of the feed was deleted; Post has its ID only.
	Deleted EventKind = "delete"
	// Reset: events were lost, and the feed has to be read anew. The stream goes on from here.
	Reset EventKind = "reset"
)

// Event is one of a stream.
type Event struct {
	Kind EventKind
	Post Post
	// ID is where the stream was at the event, or shortly before: a stream that begins there misses nothing that comes
	// after the event. It may be kept and used much later.
	ID string
}

const (
	// silence is how long a stream may say nothing before it counts as broken: three heartbeats of the API.
	silence = 45 * time.Second
	// maxEvent bounds a line of a stream, in bytes.
	maxEvent = 1 << 20
)

// Stream is what happens in an account's home feed: from now on, or since the event with an ID, if that is not empty. A
// stream that breaks goes on where it was, for as long as ctx lasts; events that came just before may come again. It
// ends with an error, in place of an event, when ctx ends or the API refuses for good.
func (c *Client) Stream(ctx context.Context, id freshet.AccountID, since string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := &stream{Client: c, path: accountPath(id, "/feed/stream"), last: since, opened: since != "", yield: yield}
		for failures := 0; ; failures++ {
			s.heard = false
			err := s.read(ctx)
			if s.stopped {
				return
			}
			if ctx.Err() != nil {
				yield(Event{}, context.Cause(ctx))
				return
			}
			if s.heard {
				failures = 0
			}
			wait, again := repeat(err, false)
			if !again {
				yield(Event{}, fmt.Errorf("the stream of %s: %w", id, err))
				return
			}
			if pause(ctx, max(wait, s.retry, c.pauseAfter(failures+1))) != nil {
				yield(Event{}, context.Cause(ctx))
				return
			}
		}
	}
}

// stream is a stream across its connections.
type stream struct {
	*Client
	path    string
	last    string // the last id
	retry   time.Duration
	opened  bool // that it is open has been told
	heard   bool // this connection has told something
	yield   func(Event, error) bool
	stopped bool
}

var (
	errEnded  = errors.New("the stream ended")
	errSilent = errors.New("the stream is silent")
)

// read reads one connection's stream, until it ends or nobody wants more.
func (s *stream) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watch.Stop()
	r := request{method: http.MethodGet, path: s.path, header: map[string]string{"Accept": "text/event-stream"}}
	if s.last != "" {
		r.header["Last-Event-ID"] = s.last
	}
	response, err := s.open(ctx, r)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it is over
	if response.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(response.Body, maxEvent))
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		return errorOf(response, data)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxEvent)
	var e event
	for lines.Scan() {
		watch.Reset(silence)
		if done, err := s.line(&e, lines.Text()); err != nil || done {
			return err
		}
	}
	return errors.Join(errEnded, lines.Err())
}

// event is one that is being read.
type event struct{ kind, data string }

// line takes a line of the stream; done says that nobody wants more.
func (s *stream) line(e *event, line string) (done bool, err error) {
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch {
	case line == "":
		done, err = s.tell(*e)
		*e = event{}
	case field == "event":
		e.kind = value
	case field == "data":
		e.data = value
	case field == "id":
		s.last, s.heard = value, true
	case field == "retry":
		if millis, err := strconv.Atoi(value); err == nil {
			s.retry = min(MaxPause, time.Duration(millis)*time.Millisecond)
		}
	}
	return done, err
}

// tell hands an event on; kinds that this version does not know are left out, and so is the reason why a stream ends:
// whoever opens it again is told.
func (s *stream) tell(e event) (done bool, err error) {
	told := Event{Kind: EventKind(e.kind), ID: s.last}
	switch told.Kind {
	case Posted, Edited, Deleted:
		if err := json.Unmarshal([]byte(e.data), &told.Post); err != nil {
			return false, fmt.Errorf("decode an event: %w", err)
		}
	case Reset:
	default:
		if s.opened || e.kind != "" || s.last == "" {
			return false, nil
		}
		s.opened, told.Kind = true, Opened
	}
	s.stopped = !s.yield(told, nil)
	return s.stopped, nil
}
