package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"freshet"
	"freshet/emitters"
	"freshet/internal/auth"
	"freshet/internal/feeds"
	"freshet/views"
)

// problem is an answer that says what is wrong, as RFC 9457 has it. It is an error, for handlers to return.
type problem struct {
	Type   string            `json:"type"`
	Title  string            `json:"title"`
	Status int               `json:"status"`
	Detail string            `json:"detail"`
	Errors map[string]string `json:"errors,omitempty"` // by field

	retryAfter time.Duration
	cause      error
}

func (p *problem) Error() string {
	if p.cause != nil {
		return fmt.Sprintf("%s: %v", p.Detail, p.cause)
	}
	return p.Detail
}

func (p *problem) Unwrap() error { return p.cause }

// level is that of the log line: what is expected to pass by itself is a warning.
func (p *problem) level() slog.Level {
	if p.Status == http.StatusServiceUnavailable {
		return slog.LevelWarn
	}
	return slog.LevelError
}

func badRequest(format string, args ...any) *problem {
	return &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
}

// badInput is badRequest that names what is malformed: a field, a parameter or a header.
func badInput(name, format string, args ...any) *problem {
	p := badRequest(format, args...)
	p.Errors = map[string]string{name: p.Detail}
	return p
}

// named says what it was that is malformed.
func named(name string, err error) error {
	if p := (*problem)(nil); errors.As(err, &p) && p.Errors == nil {
		p.Errors = map[string]string{name: p.Detail}
	}
	return err
}

func notFound(format string, args ...any) *problem {
	return &problem{Status: http.StatusNotFound, Detail: fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) *problem {
	return &problem{Status: http.StatusForbidden, Detail: fmt.Sprintf(format, args...)}
}

func unprocessable(format string, args ...any) *problem {
	return &problem{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf(format, args...)}
}

func unavailable(retryAfter time.Duration, cause error, format string, args ...any) *problem {
	return &problem{
		Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf(format, args...),
		retryAfter: retryAfter, cause: cause,
	}
}

func internalError() *problem {
	return &problem{Status: http.StatusInternalServerError, Detail: "the server failed; its log says why"}
}

// fieldProblem is one answer about several fields.
func fieldProblem(status int, fields map[string]string) *problem {
	var details []string
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		details = append(details, field+": "+fields[field])
	}
	return &problem{Status: status, Detail: strings.Join(details, "; "), Errors: fields}
}

// problemOf is the one place that knows which error is which status.
func problemOf(err error) *problem {
	var (
		p       *problem
		tooLong *http.MaxBytesError
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLong):
		return &problem{
			Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the body has more than %d bytes", tooLong.Limit),
		}
	case errors.Is(err, views.ErrNotReady):
		return unavailable(time.Second, err, "this process is still loading its tables")
	case errors.Is(err, views.ErrBehind):
		return unavailable(time.Second, err, "this process is behind with what others have hidden")
	case errors.Is(err, views.ErrNotVisible), errors.Is(err, emitters.ErrNotShown):
		return unavailable(time.Second, err, "the write was accepted, but this process does not show it yet; "+
			"a read with its Freshet-Position waits for it")
	case errors.Is(err, auth.ErrUnavailable):
		return unavailable(time.Second, err, "the credentials cannot be checked now")
	case errors.Is(err, feeds.ErrAway):
		return unavailable(time.Second, err, "redis does not answer")
	case errors.Is(err, freshet.ErrStoreAway):
		return unavailable(time.Second, err, "the post store does not answer")
	case errors.Is(err, freshet.ErrUnsettled):
		return unavailable(time.Second, err, "there may be such a post, and it is not known yet")
	case errors.Is(err, emitters.ErrUnavailable):
		return unavailable(5*time.Second, err, "the write was not acknowledged; it may be repeated")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable(time.Second, err, "the request took too long")
	}
	return internalError()
}

func (p *problem) encode() []byte {
	answer := *p
	answer.Type, answer.Title = "about:blank", http.StatusText(p.Status)
	data, err := json.Marshal(answer)
	if err != nil { // a struct of strings
		panic(err)
	}
	return data
}

// retrySeconds is the value of Retry-After.
func retrySeconds(d time.Duration) string { return strconv.Itoa(max(1, int(d/time.Second))) }

func writeProblem(w http.ResponseWriter, p *problem) {
	data := p.encode()
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	if p.retryAfter > 0 {
		h.Set("Retry-After", retrySeconds(p.retryAfter))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(data) // the client is gone: nobody is left to tell
}
