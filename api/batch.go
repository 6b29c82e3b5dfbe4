package api

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"freshet"
	"freshet/emitters"
)

const (
	batchPath = "/v1/posts/batch"
	// maxLines bounds what a batch of very short lines takes in memory: with the posts, their outcomes and the answers to
	// broken lines, some 50 MB for one that is as bad as can be.
	maxLines = 100_000
	// linesAtOnce bounds the lines of all batches that are judged and published at the same time; others wait.
	linesAtOnce = 2 * maxLines
	// lineInMemory is what a line takes beside its text, in bytes.
	lineInMemory = 256
	// answerChunk is how much of an answer is encoded before it is sent.
	answerChunk = 64 << 10
	// turnOfLines is how much of a batch, in bytes of lines and what they take in memory, is judged before others' turn
	// comes: some 100 µs.
	turnOfLines = 16 << 10
)

// line is what became of a line of a batch: a post, or the answer to a line that is refused.
type line struct {
	post    int    // in posts; meaningless if refused
	refused []byte // nil: it is to be published
}

// emptyLine is the answer to a line without anything, of which there can be very many.
var emptyLine = refusal(nil, badRequest("the line is empty"))

// batch is the posts of a request, line by line.
type batch struct {
	lines   []line
	posts   []freshet.Post
	authors []freshet.AccountID // of posts
}

// createPosts publishes a post for each line that is right. Nothing is published before the whole body has come and is
// known to be within its bounds; whatever is wrong with a line after that is the line's own.
func (a *API) createPosts(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get(nameHeader) != "" {
		return badRequest("a batch takes no %s: a batch whose answer was lost may be in the log in part", nameHeader)
	}
	data, err := readBody(w, r, mediaLines, MaxBatch, false)
	if err != nil {
		return err
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	n := bytes.Count(data, []byte("\n")) + 1
	switch {
	case len(data) == 0:
		return badRequest("the batch has no lines")
	case n > maxLines:
		return &problem{
			Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the batch has %d lines, at most %d are taken", n, maxLines),
		}
	}
	if err := a.charge(w, r, n*permissions["POST /v1/posts"].cost); err != nil {
		return err
	}
	if err := a.lines.Acquire(r.Context(), int64(n)); err != nil {
		return unavailable(time.Second, err, "too many batches at once")
	}
	release := sync.OnceFunc(func() { a.lines.Release(int64(n)) })
	defer release()
	b := &batch{lines: make([]line, 0, n)}
	if err := a.judge(r, b, data); err != nil {
		return err
	}
	outcomes := a.Publisher.PublishAll(r.Context(), b.posts)
	if placeOf(r).answering(int64(len(data)+n*lineInMemory)) == nil {
		release() // the reader of the answer holds up no other batch
	}
	a.respondBatch(w, r, b, outcomes)
	return nil
}

// judge reads the lines of a batch, a few at a time: half of the processors at most work on batches, and whoever waits
// for a processor gets one in between. Otherwise a batch keeps one until the scheduler takes it away, ten milliseconds
// each time that something else of a request is to be done.
func (a *API) judge(r *http.Request, b *batch, data []byte) error {
	left, working := 0, false
	defer func() {
		if working {
			a.turns.Release(1)
		}
	}()
	for text := range bytes.SplitSeq(data, []byte("\n")) {
		if left <= 0 {
			if working {
				a.turns.Release(1)
				working = false
				runtime.Gosched()
			}
			if err := a.turns.Acquire(r.Context(), 1); err != nil {
				return unavailable(time.Second, err, "too many batches at once")
			}
			left, working = turnOfLines, true
		}
		b.lines = append(b.lines, a.readLine(r, b, text))
		left -= len(text) + lineInMemory
	}
	return nil
}

// readLine adds the post of a line to the batch, unless it is refused.
func (a *API) readLine(r *http.Request, b *batch, text []byte) line {
	if len(space(text)) == 0 {
		return line{refused: emptyLine}
	}
	post, author, err := a.parseLine(r, text)
	if err != nil {
		return line{refused: refusal(nil, problemOf(err))}
	}
	b.posts, b.authors = append(b.posts, post), append(b.authors, author)
	return line{post: len(b.posts) - 1}
}

func (a *API) parseLine(r *http.Request, text []byte) (post freshet.Post, author freshet.AccountID, err error) {
	if len(text) > MaxBody {
		return post, "", &problem{
			Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the line has more than %d bytes", MaxBody),
		}
	}
	body, err := parseObject(text)
	if err != nil {
		return post, "", err
	}
	return a.newPost(r, body, a.mintNew)
}

// respondBatch answers with a line for each line. A post is only said to be there when Kafka has it, and to be accepted
// when the post store has it.
func (a *API) respondBatch(w http.ResponseWriter, r *http.Request, b *batch, outcomes []emitters.Outcome) {
	var retryAfter time.Duration
	var failed error
	highest := map[int32]emitters.Position{}
	for _, o := range outcomes {
		if o.Err == nil {
			if at, ok := highest[o.Position.Partition]; !ok || at.Offset < o.Position.Offset {
				highest[o.Position.Partition] = o.Position
			}
			continue
		}
		failed = o.Err
		if errors.Is(o.Err, emitters.ErrSaved) {
			continue
		}
		retryAfter = max(retryAfter, problemOf(o.Err).retryAfter)
	}
	if failed != nil {
		a.Log.Log(r.Context(), problemOf(failed).level(), "posts of a batch were not published", "error", failed)
	}
	wroteAll(w, highest)
	h := w.Header()
	h.Set("Content-Type", mediaLines)
	if retryAfter > 0 {
		h.Set("Retry-After", retrySeconds(retryAfter))
	}
	w.WriteHeader(http.StatusMultiStatus)
	chunk := make([]byte, 0, answerChunk+4<<10)
	for _, l := range b.lines {
		switch {
		case l.refused != nil:
			chunk = append(chunk, l.refused...)
		case errors.Is(outcomes[l.post].Err, emitters.ErrSaved):
			chunk = append(chunk, `{"status":202,"post":`...)
			chunk = appendPost(chunk, &b.posts[l.post], b.authors[l.post])
			chunk = append(chunk, '}')
		case outcomes[l.post].Err != nil:
			chunk = refusal(chunk, problemOf(outcomes[l.post].Err))
		default:
			chunk = append(chunk, `{"status":201,"post":`...)
			chunk = appendPost(chunk, &b.posts[l.post], b.authors[l.post])
			chunk = append(chunk, '}')
		}
		chunk = append(chunk, '\n')
		if len(chunk) >= answerChunk {
			if _, err := w.Write(chunk); err != nil {
				return // the client is gone: nobody is left to tell
			}
			chunk = chunk[:0]
			runtime.Gosched() // a large answer keeps nobody waiting
		}
	}
	_, _ = w.Write(chunk) // as above
}

// refusal appends the answer to a line that is refused.
func refusal(b []byte, p *problem) []byte {
	b = append(b, `{"status":`...)
	b = strconv.AppendInt(b, int64(p.Status), 10)
	b = append(b, `,"problem":`...)
	b = append(b, p.encode()...)
	return append(b, '}')
}
