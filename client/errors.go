package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is an answer that says what is wrong (RFC 9457).
type Error struct {
	Type   string            `json:"type"`
	Title  string            `json:"title"`
	Status int               `json:"status"`
	Detail string            `json:"detail"`
	Errors map[string]string `json:"errors"` // by field
	// RetryAfter is when another attempt may help; 0 if the API does not say.
	RetryAfter time.Duration `json:"-"`
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Title, e.Detail) }

// StatusOf is the status of an error that the API answered, 0 of any other error.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// errorOf reads an answer. What is no problem, for a proxy may have sent it, says what it says.
func errorOf(response *http.Response, data []byte) *Error {
	e := &Error{}
	media, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	if media != "application/problem+json" || json.Unmarshal(data, e) != nil {
		e = &Error{Detail: string(data[:min(len(data), 200)])}
	}
	e.Status = response.StatusCode
	if e.Title == "" {
		e.Title = http.StatusText(e.Status)
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}
