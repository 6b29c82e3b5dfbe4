package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// maxBodies bounds the bytes of bodies that a process has read, or begun to, and maxAnswers those of large answers
	// that wait for their readers: eight batches as large as they may be, and a dozen pages of the longest posts.
	maxBodies  = 64 << 20
	maxAnswers = 96 << 20
	// A caller may have three quarters of either, so that there is something left for others.
	shareOfCaller = 0.75
	// smallBody is how much of a body is read at first, and smallAnswer what an answer may have without being counted:
	// it goes into the buffers of the connection.
	smallBody   = 4 << 10
	smallAnswer = 64 << 10
	// bodyPause is how long a body may stand still. The server's time-out for requests bounds the whole of it.
	bodyPause = 3 * time.Second
	// answerPause is how long a reader may take for each answerChunk of a large answer.
	answerPause = 5 * time.Second
)

// budget is bytes that are held for clients. It is safe for concurrent use.
type budget struct {
	most     int64
	mu       sync.Mutex
	held     int64
	byCaller map[string]int64
}

func newBudget(most int64) *budget { return &budget{most: most, byCaller: map[string]int64{}} }

// take says whether so much more may be held for a caller.
func (b *budget) take(caller string, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+bytes > b.most || float64(b.byCaller[caller]+bytes) > shareOfCaller*float64(b.most) {
		return false
	}
	b.held += bytes
	b.byCaller[caller] += bytes
	return true
}

func (b *budget) give(caller string, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= bytes
	if b.byCaller[caller] -= bytes; b.byCaller[caller] == 0 {
		delete(b.byCaller, caller)
	}
}

// place is a request's place among those that are worked on. While the client is waited for, for its body or until it
// has read its answer, the request has none: what it holds then is counted in bytes.
type place struct {
	api    *API
	caller string
	in     bool
	begun  time.Time
	body   int64 // bytes of the budget
	answer int64
}

type placeKey struct{}

// placeOf is the request's place; nil for one that needs none.
func placeOf(r *http.Request) *place {
	p, _ := r.Context().Value(placeKey{}).(*place)
	return p
}

// enter says whether there was room.
func (a *API) enter(r *http.Request) (*http.Request, *place) {
	if !a.gate.enter() {
		return r, nil
	}
	p := &place{api: a, in: true, caller: callerName(r, nil), begun: time.Now()}
	return r.WithContext(context.WithValue(r.Context(), placeKey{}, p)), p
}

// leave gives back all that the request has.
func (p *place) leave() {
	p.out()
	p.api.bodies.give(p.caller, p.body)
	p.api.answers.give(p.caller, p.answer)
	p.body, p.answer = 0, 0
}

func (p *place) out() {
	if p.in {
		p.in = false
		p.api.gate.leave()
	}
}

func (p *place) back() error {
	if p.in = p.api.gate.enter(); !p.in {
		return unavailable(shedRetry, nil, "too many requests are being worked on")
	}
	return nil
}

// read reads a body, for which the request gives up its place meanwhile. What a body takes is taken as it comes, so a
// client that sends slowly holds what it has sent.
func (p *place) read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if p == nil { // a line of a test, or a request that was read before
		return io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	if r.ContentLength == 0 {
		return nil, nil
	}
	p.out()
	data, err := p.readAll(w, r, limit)
	if err != nil {
		return nil, err
	}
	return data, p.back()
}

func (p *place) readAll(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	whole := limit + 1
	if r.ContentLength >= 0 {
		whole = r.ContentLength + 1 // so that the end is seen without growing once more
	}
	body, data := http.MaxBytesReader(w, r.Body, limit), []byte(nil)
	connection := http.NewResponseController(w)
	last, paced := p.begun.Add(readTimeout), false
	for size := min(whole, smallBody); ; size = min(max(whole, size+1), max(2*size, smallAnswer)) {
		if !p.api.bodies.take(p.caller, size-int64(cap(data))) {
			return nil, unavailable(shedRetry, nil, "too much is being sent at once")
		}
		p.body += size - int64(cap(data))
		grown := make([]byte, len(data), size)
		copy(grown, data)
		data = grown
		for len(data) < cap(data) {
			n, err := body.Read(data[len(data):cap(data)])
			data = data[:len(data)+n]
			if errors.Is(err, io.EOF) {
				if !paced {
					return data, nil
				}
				// What net/http reads on in the background must not run into a time-out that was meant for the body.
				return data, ignoreUnsupported(connection.SetReadDeadline(last))
			}
			if err != nil {
				return nil, err
			}
			paced = true
			next := time.Now().Add(bodyPause)
			if next.After(last) {
				next = last
			}
			if err := ignoreUnsupported(connection.SetReadDeadline(next)); err != nil {
				return nil, err
			}
		}
	}
}

// ignoreUnsupported: a test's recorder knows no deadlines; a server's connection always does.
func ignoreUnsupported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// answering is called before an answer of so many bytes is written. The request gives up its place if the answer may
// have to wait for its reader.
func (p *place) answering(bytes int64) error {
	if p == nil || bytes <= smallAnswer {
		return nil
	}
	if !p.api.answers.take(p.caller, bytes) {
		return unavailable(shedRetry, nil, "too many large answers wait for their readers")
	}
	p.answer += bytes
	p.out()
	return nil
}
