package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Conn is one connection to an API, for one goroutine. It spares what net/http does for clients in general: a load
// generator shares the machine with what it loads.
type Conn struct {
	host    string
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
	answer  bytes.Buffer
}

// answerTimeout is when a request counts as failed.
const answerTimeout = 30 * time.Second

// NewConn makes a connection to the API at base, http://host:port; it connects with the first request, and again after
// an error.
func NewConn(base string) (*Conn, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("the API at %q: want http://host:port", base)
	}
	return &Conn{host: u.Host}, nil
}

// Close ends the connection.
func (c *Conn) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is under way
		c.conn = nil
	}
}

// Do sends a request and reads the answer, which is good until the next Do.
func (c *Conn) Do(ctx context.Context, method, path, contentType string, body []byte) (int, []byte, error) {
	status, err := c.do(ctx, method, path, contentType, body)
	if err != nil {
		c.Close()
		return 0, nil, fmt.Errorf("%s http://%s%s: %w", method, c.host, path, err)
	}
	return status, c.answer.Bytes(), nil
}

func (c *Conn) do(ctx context.Context, method, path, contentType string, body []byte) (int, error) {
	if c.conn == nil {
		dialer := net.Dialer{Timeout: 5 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", c.host)
		if err != nil {
			return 0, err
		}
		c.conn, c.reader = conn, bufio.NewReaderSize(conn, 16<<10)
	}
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	r := c.request[:0]
	r = append(r, method...)
	r = append(r, ' ')
	r = append(r, path...)
	r = append(r, " HTTP/1.1\r\nHost: "...)
	r = append(r, c.host...)
	if body != nil {
		r = append(r, "\r\nContent-Type: "...)
		r = append(r, contentType...)
		r = append(r, "\r\nContent-Length: "...)
		r = strconv.AppendInt(r, int64(len(body)), 10)
	}
	r = append(r, "\r\n\r\n"...)
	r = append(r, body...)
	c.request = r
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, err
	}
	c.answer.Reset()
	_, err = io.Copy(&c.answer, answer.Body)
	err = errors.Join(err, answer.Body.Close())
	if answer.Close {
		c.Close()
	}
	return answer.StatusCode, err
}
