package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
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
	return time.Time(t).UTC().AppendFormat(nil, `"`+timeLayout+`"`), nil
}

// list is an answer with a part of a list.
type list struct {
	Items any `json:"items"`
	// NextCursor is absent only when nothing more can come.
	NextCursor string `json:"next_cursor,omitempty"`
	// Complete is absent where nothing can be missing.
	Complete *bool `json:"complete,omitempty"`
}

func respond(w http.ResponseWriter, status int, body any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client is gone: nobody is left to tell
	return nil
}

// respondList answers with a list. next is the value of the cursor of the next page, 0 for none.
func (a *API) respondList(
	w http.ResponseWriter, r *http.Request, l list, kind listKind, of freshet.Number, limit int, next uint64,
) error {
	if next != 0 {
		l.NextCursor = a.cursors.seal(kind, of, next)
		query := url.Values{"limit": {strconv.Itoa(limit)}, "cursor": {l.NextCursor}}
		w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=%q", r.URL.EscapedPath(), query.Encode(), "next"))
	}
	return respond(w, http.StatusOK, l)
}
