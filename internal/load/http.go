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
	"slices"
	"strconv"
	"time"
)

// Conn is one connection to an API, for one goroutine. It spares what net/http does for clients in general: a load
// generator shares the machine with what it loads.
type Conn struct {
	// Bearer is the credentials of the requests to come; empty: none.
	Bearer   string
	host     string
	conn     net.Conn
	reader   *bufio.Reader
	request  []byte
	answer   []byte
	deadline time.Time // of conn, at the earliest
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
	return status, c.answer, nil
}

func (c *Conn) do(ctx context.Context, method, path, contentType string, body []byte) (int, error) {
	if c.conn == nil {
		dialer := net.Dialer{Timeout: 5 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", c.host)
		if err != nil {
			return 0, err
		}
		c.conn, c.reader, c.deadline = conn, bufio.NewReaderSize(conn, 16<<10), time.Time{}
	}
	if now := time.Now(); c.deadline.Sub(now) < answerTimeout {
		c.deadline = now.Add(2 * answerTimeout) // not for each request anew
		if err := c.conn.SetDeadline(c.deadline); err != nil {
			return 0, err
		}
	}
	r := c.request[:0]
	r = append(r, method...)
	r = append(r, ' ')
	r = append(r, path...)
	r = append(r, " HTTP/1.1\r\nHost: "...)
	r = append(r, c.host...)
	if c.Bearer != "" {
		r = append(r, "\r\nAuthorization: Bearer "...)
		r = append(r, c.Bearer...)
	}
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
	status, last, err := c.read()
	if err == nil && last {
		c.Close()
	}
	return status, err
}

// errAnswer is wrapped by the errors about answers that are no HTTP, or more of it than APIs speak.
var errAnswer = errors.New("the answer is not HTTP/1.1 as it was expected")

// read reads an answer. last says that the connection ends with it.
func (c *Conn) read() (status int, last bool, err error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, false, err
	}
	if len(line) < len("HTTP/1.1 200\r\n") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, false, fmt.Errorf("%w: %q", errAnswer, line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, fmt.Errorf("%w: %q", errAnswer, line)
	}
	length, chunked := -1, false
	for {
		if line, err = c.reader.ReadSlice('\n'); err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return 0, false, fmt.Errorf("%w: %q", errAnswer, line)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(value, []byte("close"))
		}
	}
	c.answer = c.answer[:0]
	switch {
	case chunked:
		err = c.readChunks()
	case status == http.StatusNoContent:
	case length < 0:
		return 0, false, fmt.Errorf("%w: it does not say how long it is", errAnswer)
	default:
		err = c.readBytes(length)
	}
	return status, last, err
}

// readBytes appends bytes to the answer.
func (c *Conn) readBytes(n int) error {
	start := len(c.answer)
	c.answer = slices.Grow(c.answer, n)[:start+n]
	_, err := io.ReadFull(c.reader, c.answer[start:])
	return err
}

func (c *Conn) readChunks() error {
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(string(bytes.TrimRight(line, "\r\n")), 16, 30)
		if err != nil {
			return fmt.Errorf("%w: a chunk of %q bytes", errAnswer, line)
		}
		if err := c.readBytes(int(n)); err != nil {
			return err
		}
		if end, err := c.reader.ReadSlice('\n'); err != nil || len(bytes.TrimRight(end, "\r\n")) > 0 {
			return errors.Join(fmt.Errorf("%w: a chunk that does not end", errAnswer), err)
		}
		if n == 0 {
			return nil
		}
	}
}
