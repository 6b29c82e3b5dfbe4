package api

import (
	"log/slog"
	"net/http"
	"time"
)

// writeTimeout bounds the writing of an answer. It is set for each request and not for the server, so that an answer
// that streams can set its own.
const writeTimeout = 30 * time.Second

// NewServer makes a server with the time-outs and bounds of the API; the caller listens, serves and shuts it down.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
