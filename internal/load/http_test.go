package load

import (
	"bufio"
	"errors"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	const (
		line   = "HTTP/1.1 200 OK\r\n"
		chunks = line + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n"
	)
	for name, tt := range map[string]struct {
		answer, body string
		status       int
		last, bad    bool
	}{
		"a length":      {line + "Content-Length: 3\r\n\r\nabcHTTP", "abc", 200, false, false},
		"another case":  {line + "content-length: 3\r\n\r\nabc", "abc", 200, false, false},
		"chunks":        {chunks, "abc0123456789", 200, false, false},
		"nothing":       {"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", "", 204, false, false},
		"the last":      {"HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "", 503, true, false},
		"no length":     {line + "\r\nabc", "", 0, false, true},
		"not HTTP":      {"hello\r\n\r\n", "", 0, false, true},
		"a bad status":  {"HTTP/1.1 2x0 OK\r\n\r\n", "", 0, false, true},
		"a bad length":  {line + "Content-Length: -1\r\n\r\n", "", 0, false, true},
		"a bad chunk":   {line + "Transfer-Encoding: chunked\r\n\r\nx\r\n", "", 0, false, true},
		"an open chunk": {line + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "", 0, false, true},
	} {
		c := &Conn{reader: bufio.NewReader(strings.NewReader(tt.answer))}
		status, last, err := c.read()
		switch {
		case tt.bad:
			if !errors.Is(err, errAnswer) {
				t.Errorf("%s: %d, %v", name, status, err)
			}
		case err != nil || status != tt.status || last != tt.last || string(c.answer) != tt.body:
			t.Errorf("%s: %d, %v, %q, %v", name, status, last, c.answer, err)
		}
	}
	for _, cut := range []string{line, line + "Content-Length: 3\r\n\r\nab", chunks[:len(chunks)-30]} {
		c := &Conn{reader: bufio.NewReader(strings.NewReader(cut))}
		if status, _, err := c.read(); err == nil {
			t.Errorf("%q was read as %d, %q", cut, status, c.answer)
		}
	}
}
