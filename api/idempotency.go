package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"freshet"
	"freshet/internal/idempotency"
)

// nameHeader is the name that a client gives a request which it may send again.
const nameHeader = "Idempotency-Key"

// maxName is the length of the longest name, in bytes.
const maxName = 255

type postIDKey struct{}

// mint makes the id of the post that a request asks for: the one of the first attempt, if the request has a name. Such
// an id may be older than emitters.ProduceTimeout when the post reaches the log. Then a page that is read while Redis
// has lost the post, and the archive has yet to get it, may call itself complete without it; another id could make the
// post twice.
func (a *API) mint(r *http.Request) (freshet.PostID, error) {
	if id, ok := r.Context().Value(postIDKey{}).(freshet.PostID); ok {
		return id, nil
	}
	return a.Minter.Mint(r.Context())
}

// mintNew makes an id that nobody has had.
func (a *API) mintNew(r *http.Request) (freshet.PostID, error) { return a.Minter.Mint(r.Context()) }

// keptAnswer is an answer as it is kept.
type keptAnswer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// idempotent answers a request that comes again under the same name, of the same caller, as it was answered before. Its
// body may have so many bytes.
func (a *API) idempotent(
	maxBody int64, handle func(http.ResponseWriter, *http.Request) error,
) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		given := r.Header.Values(nameHeader)
		if len(given) == 0 {
			return handle(w, r)
		}
		if len(given) != 1 || !isName(given[0]) {
			return badInput(nameHeader, "%s: want one, of 1 to %d visible characters of ASCII", nameHeader, maxName)
		}
		body, err := placeOf(r).read(w, r, maxBody)
		if err != nil {
			return unreadable(err)
		}
		id, err := a.Minter.Mint(r.Context())
		if err != nil {
			return err
		}
		caller := ""
		if c := callerOf(r); c != nil {
			caller = c.Name()
		}
		claim, answer, err := a.Answers.Claim(r.Context(), caller, given[0], requestHash(r, body), id)
		switch {
		case errors.Is(err, idempotency.ErrBusy):
			return &problem{Status: http.StatusConflict, retryAfter: time.Second,
				Detail: "a request with this " + nameHeader + " is being worked on"}
		case errors.Is(err, idempotency.ErrOther):
			return unprocessable("this %s was used for another request", nameHeader)
		case err != nil:
			return err
		case claim == nil:
			return replay(w, answer)
		}
		return a.once(w, r, body, claim, handle)
	}
}

// once does the request. The answer is kept before it is sent: who has it and asks again, anywhere, gets the same.
func (a *API) once(
	w http.ResponseWriter, r *http.Request, body []byte, claim *idempotency.Claim,
	handle func(http.ResponseWriter, *http.Request) error,
) error {
	held := &heldAnswer{header: w.Header(), status: http.StatusOK}
	ended := false
	defer func() {
		if !ended { // the handler panicked
			claim.Release(r.Context(), true)
		}
	}()
	again := r.WithContext(context.WithValue(r.Context(), postIDKey{}, claim.Post))
	again = again.WithContext(context.WithValue(again.Context(), placeKey{}, (*place)(nil))) // it has been read
	again.Body = io.NopCloser(bytes.NewReader(body))
	err := handle(held, again)
	ended = true
	if err != nil || held.status >= http.StatusBadRequest {
		claim.Release(r.Context(), err == nil || problemOf(err).Status >= http.StatusInternalServerError)
		return err
	}
	data, err := json.Marshal(keptAnswer{Status: held.status, Header: lasting(w.Header()), Body: held.body.Bytes()})
	if err != nil {
		claim.Release(r.Context(), true)
		return fmt.Errorf("encode an answer to keep it: %w", err)
	}
	claim.Keep(r.Context(), data)
	w.WriteHeader(held.status)
	_, _ = w.Write(held.body.Bytes()) // the client is gone: nobody is left to tell
	return nil
}

// lasting are the headers that belong to what was done, and not to one answer.
func lasting(h http.Header) http.Header {
	kept := http.Header{}
	for _, name := range []string{"Content-Type", "Location", positionHeader} {
		if values := h.Values(name); len(values) > 0 {
			kept[name] = values
		}
	}
	return kept
}

func replay(w http.ResponseWriter, data []byte) error {
	var answer keptAnswer
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("decode an answer that was kept: %w", err)
	}
	h := w.Header()
	for name, values := range answer.Header {
		h[name] = values
	}
	h.Set("Content-Length", strconv.Itoa(len(answer.Body)))
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // the client is gone: nobody is left to tell
	return nil
}

func isName(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

func requestHash(r *http.Request, body []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n%s\n", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type")) // a hash takes anything
	_, _ = h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// heldAnswer is an answer that is not sent yet. Its headers are those of the real one.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header            { return h.header }
func (h *heldAnswer) WriteHeader(status int)         { h.status = status }
func (h *heldAnswer) Write(data []byte) (int, error) { return h.body.Write(data) }
