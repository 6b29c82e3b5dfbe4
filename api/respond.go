package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"freshet"
)

// timeLayout is RFC 3339 with milliseconds, for times in UTC.
const timeLayout = "2006-01-02T15:04:05.000Z"

// jsonTime is a time as the API writes it.
type jsonTime time.Time

// MarshalJSON implements json.Marshaler.
func (t jsonTime) MarshalJSON() ([]byte, error) {
	return appendTime(nil, time.Time(t)), nil
}

// list is an answer with a part of a list.
type list struct {
	Items any `json:"items"`
	// NextCursor is absent only when nothing more can come.
	NextCursor string `json:"next_cursor,omitempty"`
}

func respond(w http.ResponseWriter, status int, body any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	respondJSON(w, status, b.Bytes())
	return nil
}

// respondJSON answers with JSON that is encoded.
func respondJSON(w http.ResponseWriter, status int, data []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaJSON)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client is gone: nobody is left to tell
}

// respondList answers with a list. next is the value of the cursor of the next page, 0 for none.
func (a *API) respondList(
	w http.ResponseWriter, r *http.Request, l list, kind listKind, of freshet.Number, limit int, next uint64,
) error {
	if next != 0 {
		l.NextCursor = a.linkNext(w, r, kind, of, limit, next)
	}
	return respond(w, http.StatusOK, l)
}

// linkNext sends the header with the link to the next page, and returns its cursor.
func (a *API) linkNext(
	w http.ResponseWriter, r *http.Request, kind listKind, of freshet.Number, limit int, next uint64,
) string {
	cursor := a.cursors.seal(kind, of, next)
	// The order of the parameters is that of url.Values.Encode; a cursor needs no escapes.
	link := "<" + r.URL.EscapedPath() + "?cursor=" + cursor + "&limit=" + strconv.Itoa(limit) + `>; rel="next"`
	w.Header().Set("Link", link)
	return cursor
}
