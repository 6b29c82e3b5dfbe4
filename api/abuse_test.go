package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"freshet"
	"freshet/api"
)

// raw opens a connection and sends something.
func (p *process) raw(text string) net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.server.URL, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() }) // the server has closed it, mostly
	if _, err := io.WriteString(conn, text); err != nil {
		p.t.Fatal(err)
	}
	return conn
}

// status reads the status line that comes on a connection.
func status(conn net.Conn) string {
	line, _ := bufio.NewReader(conn).ReadString('\n') // a connection that was cut says nothing
	return strings.TrimSpace(line)
}

const batchHead = "POST /v1/posts/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n" +
	"Content-Length: 8388608\r\n\r\n"

// Bodies that do not come hold up nobody: neither the batches of others, nor, when there are more of them than requests
// may be worked on at once, anything else. They are given up, and nothing of them is written.
func TestBodiesThatStandStill(t *testing.T) {
	d := deploy(t)
	p := d.start(t).with(func(c *api.Config) { c.MaxInFlight = 8 })
	p.register("ada")
	line := `{"author":"ada","text":"hello"}` + "\n"
	var slow []net.Conn
	for i := range 24 {
		if i%2 == 0 {
			slow = append(slow, p.raw(batchHead+line+line[:10]))
		} else {
			slow = append(slow, p.raw("POST /v1/posts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
				"Content-Length: 60000\r\n\r\n"+line[:20]))
		}
	}
	for range 8 {
		p.do(http.MethodGet, "/v1/accounts/ada", "").want(http.StatusOK)
		p.do(http.MethodPost, "/v1/posts", `{"author":"ada","text":"hello"}`).want(http.StatusCreated)
		p.do(http.MethodPost, "/v1/posts/batch", line, "Content-Type", "application/x-ndjson").want(http.StatusMultiStatus)
	}
	for i, conn := range slow {
		if got := status(conn); !strings.Contains(got, "408") {
			t.Errorf("body %d that stood still was answered %q, want 408", i, got)
		}
	}
	if ids, _ := p.all("/v1/accounts/ada/posts?limit=100"); len(ids) != 16 {
		t.Errorf("there are %d posts, want the 16 that were answered", len(ids))
	}
}

// Headers that come a byte at a time hold up nobody, and their connections are cut.
func TestHeadersThatStandStill(t *testing.T) {
	p := deploy(t).start(t).with(func(c *api.Config) { c.MaxInFlight = 2 })
	p.register("ada")
	var slow []net.Conn
	for range 32 {
		slow = append(slow, p.raw("GET /v1/accounts/ada HTTP/1.1\r\nHost: x\r\nX-Slow: "))
	}
	var trickling sync.WaitGroup
	for _, conn := range slow {
		trickling.Go(func() {
			for {
				if _, err := conn.Write([]byte("x")); err != nil {
					return // it is cut
				}
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					return
				}
			}
		})
	}
	for range 10 {
		p.do(http.MethodGet, "/v1/accounts/ada", "").want(http.StatusOK)
	}
	trickling.Wait()
}

// A reader that does not read its answer holds up nobody, and is cut; too many such readers are turned away.
func TestReadersThatStandStill(t *testing.T) {
	d := deploy(t)
	p := d.start(t).with(func(c *api.Config) { c.MaxInFlight = 2 })
	p.register("ada")
	text := strings.Repeat("\U0001F600", freshet.MaxText)
	for range 100 { // a page of 4 MB
		p.do(http.MethodPost, "/v1/posts", fmt.Sprintf(`{"author":"ada","text":%q}`, text)).want(http.StatusCreated)
	}
	var slow []net.Conn
	for range 28 { // more than there is room for: 4 MB each, when the posts are let go of
		conn := p.raw("")
		if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET /v1/accounts/ada/posts?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	begun, refused := 0, 0
	for _, conn := range slow {
		switch got := status(conn); {
		case strings.Contains(got, "200"):
			begun++
		case strings.Contains(got, "503"):
			refused++
		default:
			t.Errorf("a reader that stands still is answered %q", got)
		}
	}
	if begun == 0 || refused == 0 {
		t.Errorf("%d answers begun, %d refused; want some of either", begun, refused)
	}
	for range 10 {
		p.do(http.MethodGet, "/v1/accounts/ada", "").want(http.StatusOK)
		p.do(http.MethodGet, "/v1/accounts/ada/posts?limit=1", "").want(http.StatusOK)
	}
	d.Until("the readers that stand still are cut, and a large page has room", func() bool {
		return p.do(http.MethodGet, "/v1/accounts/ada/posts?limit=100", "").status == http.StatusOK
	})
}
