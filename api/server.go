package api

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// writeTimeout bounds the writing of an answer. It is set for each request and not for the server, so that an answer
// that streams can set its own.
const writeTimeout = 30 * time.Second

// readTimeout bounds the reading of a request.
const readTimeout = 15 * time.Second

// NewServer makes a server with the time-outs and bounds of the API; the caller listens, serves and shuts it down.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	unused := &unusedConns{conns: map[net.Conn]struct{}{}}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         unused.note,
	}
	server.RegisterOnShutdown(unused.close)
	return server
}

// unusedConns are the connections on which nothing has been asked yet. Browsers and connection pools open some in
// advance, and Shutdown by itself would wait 5 s for a first request on each.
type unusedConns struct {
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

func (u *unusedConns) note(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(u.conns, c)
	case u.closed: // accepted just before the listener was closed
		_ = c.Close() // nobody has asked for anything
	default:
		u.conns[c] = struct{}{}
	}
}

func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for c := range u.conns {
		_ = c.Close() // nobody has asked for anything
	}
}
