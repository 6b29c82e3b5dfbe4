package api

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"freshet"
	"freshet/internal/auth"
	"freshet/streams"
)

const (
	// heartbeat is how often a stream says something at least: proxies and clients take one that is silent for dead. With
	// it comes how far the stream is.
	heartbeat = 15 * time.Second
	// recheck is how often the caller's credentials are looked at again before something is said.
	recheck = time.Second
	// takeTimeout is how long a reader may take for what is written at once.
	takeTimeout = 10 * time.Second
	// writeAtOnce is how many bytes of events are written under one takeTimeout.
	writeAtOnce = 64 << 10
	// Readers whose streams have ended come back after a time between these, so that those of a process that has ended do
	// not come all at once.
	soonestBack, latestBack = 500 * time.Millisecond, 3 * time.Second
)

const mediaEvents = "text/event-stream"

// lastEvent is the header by which a reader says where its stream was.
const lastEvent = "Last-Event-ID"

// streamFeed answers with what happens in the account's home feed from now on, or from where an earlier stream was.
func (a *API) streamFeed(w http.ResponseWriter, r *http.Request) error {
	account, err := a.account(r, "id")
	if err != nil {
		return err
	}
	if r.URL.RawQuery != "" {
		return badRequest("a stream takes no parameters")
	}
	var from streams.Position
	if id := r.Header.Get(lastEvent); id != "" {
		if from, err = a.cursors.openPosition(id); err != nil {
			return named(lastEvent, err)
		}
	}
	out := http.NewResponseController(w)
	stream, err := a.Streams.Open(account.Number, from, func() {
		_ = out.SetWriteDeadline(time.Now()) // the write that waits fails
	})
	switch {
	case errors.Is(err, streams.ErrMostOfAccount):
		return &problem{Status: http.StatusTooManyRequests, Detail: "the account has as many streams as it may have here",
			retryAfter: latestBack}
	case errors.Is(err, streams.ErrMost), errors.Is(err, streams.ErrEnding):
		return unavailable(latestBack, err, "this process takes no more streams now")
	case err != nil:
		return err
	}
	h := w.Header()
	h.Set("Content-Type", mediaEvents)
	h.Set("X-Accel-Buffering", "no") // or a proxy may keep events until it has many
	w.WriteHeader(http.StatusOK)
	sent, ok := w.(*sentWriter)
	if r.Method == http.MethodHead || !ok {
		stream.Close()
		return nil
	}
	s := &feedStream{API: a, Stream: stream, account: account, out: out, w: w, bearer: bearerOf(r)}
	sent.rest = s.run
	return nil
}

// feedStream is a stream and its reader.
type feedStream struct {
	*API
	*streams.Stream
	account freshet.Account
	out     *http.ResponseController
	w       http.ResponseWriter
	bearer  string // what the caller is known by; empty if authentication is off
	checked time.Time
	at      string // the id that was sent last
}

// run writes the stream until its reader has gone, is too slow, or may not read it any more, or the process ends. It
// comes after the request was answered, as far as the bounds for requests are concerned.
func (s *feedStream) run(ctx context.Context) {
	defer s.Close()
	s.checked = s.Now()
	err := s.out.SetReadDeadline(time.Time{}) // the server's is for requests
	if err == nil {
		back := soonestBack + rand.N(latestBack-soonestBack)
		err = s.write([]byte("retry: " + strconv.FormatInt(back.Milliseconds(), 10) + "\n\n"))
	}
	for err == nil {
		var batch streams.Batch
		if batch, err = s.Next(ctx, heartbeat); err == nil {
			err = s.mayRead(ctx)
		}
		if err == nil {
			err = s.tell(batch)
		}
	}
	if p := (*problem)(nil); errors.As(err, &p) {
		_ = s.write(fmt.Appendf(nil, "event: end\ndata: %s\n\n", p.encode())) // the reader has gone: nobody is left to tell
	}
	s.Log.Debug("a stream ended", "account", s.account.ID, "reason", err)
}

// mayRead checks what may have changed since the stream was opened. What ends the stream for good is a problem.
func (s *feedStream) mayRead(ctx context.Context) error {
	account, known, err := s.Accounts.ByNumber(s.account.Number)
	if err != nil {
		return err
	}
	if !known || account.Closed {
		return notFound("the account %q was closed", s.account.ID)
	}
	if s.bearer == "" || s.Now().Sub(s.checked) < recheck {
		return nil
	}
	s.checked = s.Now()
	c, err := s.Auth.Verify(ctx, s.bearer)
	switch {
	case errors.Is(err, auth.ErrRejected):
		return &problem{Status: http.StatusUnauthorized, Detail: "the credentials are not good any more", cause: err}
	case err == nil && !c.May(auth.Read):
		return forbidden("the service key may not read any more")
	}
	return nil // who cannot be asked now is asked again
}

// tell writes events. The last one carries how far the stream is, and where there is none, a line by itself does:
// whoever comes back from there misses nothing.
func (s *feedStream) tell(b streams.Batch) error {
	id := s.at
	if b.Mark != nil {
		id = b.Mark.Text(s.cursors.sealPosition)
	}
	if b.Reset {
		return s.end([]byte("event: reset\ndata: {}\n"), id)
	}
	var chunk []byte
	for i, e := range b.Events {
		chunk = append(chunk, e.Frame(frameOf)...)
		if i == len(b.Events)-1 {
			return s.end(chunk, id)
		}
		if chunk = append(chunk, '\n'); len(chunk) >= writeAtOnce {
			if err := s.write(chunk); err != nil {
				return err
			}
			chunk = chunk[:0]
		}
	}
	return s.end([]byte(":\n"), id)
}

// end writes an event, all but its id, and then the id if it is another one than before.
func (s *feedStream) end(event []byte, id string) error {
	if id != s.at {
		event = append(event, "id: "...)
		event = append(event, id...)
		event = append(event, '\n')
		s.at = id
	}
	return s.write(append(event, '\n'))
}

func (s *feedStream) write(data []byte) error {
	if err := s.out.SetWriteDeadline(time.Now().Add(takeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(data); err != nil {
		return err
	}
	return s.out.Flush()
}

var eventNames = map[freshet.PostEventKind]string{
	freshet.PostCreated: "post", freshet.PostEdited: "edit", freshet.PostDeleted: "delete",
}

// frameOf is an event as it is sent, but for the empty line at its end. JSON has no line breaks.
func frameOf(e *streams.Event) []byte {
	b := make([]byte, 0, 256+len(e.Post.Text))
	b = append(b, "event: "...)
	b = append(b, eventNames[e.Kind]...)
	b = append(b, "\ndata: "...)
	if e.Kind == freshet.PostDeleted {
		b = append(b, `{"id":"`...)
		b = strconv.AppendUint(b, uint64(e.Post.ID), 10)
		b = append(b, `"}`...)
	} else {
		b = appendPost(b, &e.Post, e.Author)
	}
	return append(b, '\n')
}

// The id of an event is a position in the log of posts, the same for all accounts and in all processes, signed like a
// cursor:
//
//	version, 1 byte | list, 1 byte | the position | first 16 bytes of HMAC-SHA256 over the rest
const streamList listKind = 7

func (c cursors) sealPosition(p streams.Position) string {
	b := make([]byte, 0, 2+binary.MaxVarintLen16+5*len(p)+cursorMAC)
	b = p.Append(append(b, cursorVersion, byte(streamList)))
	return cursorEncoding.EncodeToString(append(b, c.mac(b)...))
}

func (c cursors) openPosition(id string) (streams.Position, error) {
	b, err := c.opened(id)
	if err != nil {
		return nil, err
	}
	p, err := streams.ParsePosition(b[2:])
	if listKind(b[1]) != streamList || err != nil {
		return nil, badInput(lastEvent, "%s is not the id of an event", lastEvent)
	}
	return p, nil
}

// bearerOf is what a request was authenticated with; empty if authentication is off.
func bearerOf(r *http.Request) string {
	if callerOf(r) == nil {
		return ""
	}
	_, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(bearer)
}
