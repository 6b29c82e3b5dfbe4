package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/app/apptest"
	"freshet/internal/auth"
)

// mostMemory is what a process may take at its worst, in bytes; a container of that size sets the collector's limit.
const mostMemory = 512 << 20

// bearer sends requests with a service key.
type bearer struct {
	http.RoundTripper
	key string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+b.key)
	return b.RoundTripper.RoundTrip(r)
}

// abused is a process that is abused by one caller and used by another.
type abused struct {
	*testing.T
	*process
	good       *http.Client
	key        string // of the abuser
	mu         sync.Mutex
	acked      []uint64 // posts of the good caller
	waits      []time.Duration
	turnedAway int
}

// TestAbuse: whatever a caller sends, or does not, the process stays below its memory, another caller is answered
// meanwhile, and nothing is there afterwards but what was acknowledged.
func TestAbuse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	servers := apptest.Servers(t, dir)
	keys := filepath.Join(dir, "keys.json")
	create := func(name string) string {
		_, text, err := auth.CreateKey(keys, name, auth.Scopes, 0, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	listen := freePort(t)
	a := &abused{T: t, key: create("abuser"), good: connections(t)}
	a.good.Transport = bearer{a.good.Transport, create("good")}
	a.process = executeWith(t, []string{fmt.Sprint("GOMEMLIMIT=", mostMemory/2)}, listen, "run", "all", "--listen", listen,
		"--admin", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--kafka", strings.Join(servers.Kafka, ","),
		"--redis", servers.Redis[0], "--partitions", "8", "--zones", "8", "--replication", "1", "--min-in-sync", "1",
		"--auth-keys", keys)
	a.awaitReady()
	for _, id := range []string{"good", "victim", "large"} {
		made, err := request(a.good, http.MethodPut, a.url()+"/v1/accounts/"+id, nil)
		if err != nil || made.status != http.StatusCreated {
			t.Fatal(made, err)
		}
	}
	long := strings.Repeat("\U0001F600", 10_000)
	for range 100 {
		post := map[string]string{"author": "large", "text": long}
		if answer, err := request(a.good, http.MethodPost, a.url()+"/v1/posts", post); err != nil || answer.status != 201 {
			t.Fatal(answer, err)
		}
	}
	a.meanwhile("nothing", func() { a.use(150) })
	line := `{"author":"victim","text":"x"}` + "\n"
	full := strings.Repeat(line, 8<<20/len(line)+1)[:8<<20]
	batch := func(length int) string {
		return fmt.Sprintf("POST /v1/posts/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", a.key, length)
	}
	post := func(length int) string {
		return strings.Replace(strings.Replace(batch(length), "/batch", "", 1), "x-ndjson", "json", 1)
	}
	a.meanwhile("headers and bodies a byte at a time", func() {
		a.send(450, true, func(i int) string {
			return []string{batch(8 << 20)[:60], post(60_000) + line[:9], batch(8<<20) + line[:9]}[i%3]
		})
	})
	a.meanwhile("batches that lack their last byte", func() {
		a.send(24, false, func(int) string { return batch(len(full)) + full[:len(full)-1] })
	})
	a.meanwhile("batches that are cut off in the middle", func() {
		a.cut(24, func() string { return batch(len(full)) + full[:len(full)/2] })
	})
	a.meanwhile("batches of a million lines", func() {
		million := strings.Repeat(line, 1_000_000)
		a.send(8, false, func(int) string { return batch(len(million)) + million })
		a.send(4, false, func(int) string {
			return strings.Replace(batch(0), "Content-Length: 0", "Transfer-Encoding: chunked", 1) +
				fmt.Sprintf("%x\r\n", len(million)) + million + "\r\n0\r\n\r\n"
		})
	})
	broken := strings.Repeat("\n", 99_999)
	a.meanwhile("batches of nothing but empty and broken lines", func() {
		a.send(8, false, func(i int) string {
			if i%2 == 0 {
				return batch(len(broken)) + broken
			}
			return batch(8<<20) + strings.Repeat(strings.Repeat("[", 83)+"\n", 8<<20/84+1)[:8<<20]
		})
	})
	a.meanwhile("bodies that are deeply nested, or far too long", func() {
		a.send(100, false, func(int) string { return post(64<<10) + strings.Repeat(`{"a":`, 64<<10/5+1)[:64<<10] })
		a.send(100, false, func(int) string { return post(64<<10) + strings.Repeat("[", 64<<10) })
		a.send(20, false, func(int) string { return post(1<<30) + full })
	})
	a.meanwhile("readers that do not read", func() {
		a.sendAndRead(60, false, 8, func(int) string {
			return "GET /v1/accounts/large/posts?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + a.key + "\r\n\r\n"
		})
	})
	peak := a.memory("VmHWM")
	t.Logf("at its worst the process took %d MiB", peak>>20)
	if peak >= mostMemory {
		t.Errorf("it took %d MiB, want less than %d", peak>>20, mostMemory>>20)
	}
	for id, want := range map[string][]uint64{"good": a.acked, "victim": nil} {
		var items []item
		await(t, "the list is complete", func() (whole bool, seen string) {
			var err error
			items, whole, err = walk(a.good, a.url()+"/v1/accounts/"+id+"/posts", func() int { return 100 })
			return whole && err == nil, fmt.Sprint(len(items), " posts, ", err)
		})
		got := ids(items)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s has %d posts, and %d were acknowledged", id, len(got), len(want))
		}
	}
}

// meanwhile lets the good caller work while somebody does something, and tells how long it waited.
func (a *abused) meanwhile(what string, do func()) {
	a.Helper()
	a.waits, a.turnedAway = nil, 0
	begun, done := time.Now(), make(chan struct{})
	var using sync.WaitGroup
	for range 2 {
		using.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					a.use(1)
				}
			}
		})
	}
	do()
	close(done)
	using.Wait()
	if len(a.waits) == 0 {
		a.Fatalf("%s: nobody was answered", what)
	}
	slices.Sort(a.waits)
	a.Logf("%s, for %s: %d good requests, p50 %s, p99 %s, %d turned away; %d MiB, at most %d", what, since(begun),
		len(a.waits), a.waits[len(a.waits)/2], a.waits[len(a.waits)*99/100], a.turnedAway, a.memory("VmRSS")>>20,
		a.memory("VmHWM")>>20)
}

// use posts and reads a feed, n times.
func (a *abused) use(n int) {
	for range n {
		begun := time.Now()
		answer, err := request(a.good, http.MethodPost, a.url()+"/v1/posts", map[string]string{"author": "good", "text": "x"})
		var made struct{ ID string }
		if err == nil && answer.status == http.StatusCreated {
			err = json.Unmarshal(answer.body, &made)
		}
		posted := time.Since(begun)
		begun = time.Now()
		read, failed := request(a.good, http.MethodGet, a.url()+"/v1/accounts/good/feed", nil)
		a.mu.Lock()
		for i, s := range []int{answer.status, read.status} {
			switch {
			case err != nil || failed != nil || s != http.StatusServiceUnavailable && s != []int{201, 200}[i]:
				a.Errorf("a good request: %d, %v %v", s, err, failed)
			case s == http.StatusServiceUnavailable:
				a.turnedAway++
			}
		}
		if made.ID != "" {
			a.acked = append(a.acked, item{ID: made.ID}.id())
			a.waits = append(a.waits, posted)
		}
		if read.status == http.StatusOK {
			a.waits = append(a.waits, time.Since(begun))
		}
		a.mu.Unlock()
	}
}

// send opens n connections, sends something on each, and waits until the process has answered or cut them. If they are
// to trickle they go on with a byte at a time.
func (a *abused) send(n int, trickle bool, text func(i int) string) {
	a.sendAndRead(n, trickle, 1, text)
}

// sendAndRead is send, by somebody who takes so many bytes of the answer, one a second.
func (a *abused) sendAndRead(n int, trickle bool, reads int, text func(i int) string) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			conn := a.dial()
			if conn == nil {
				return
			}
			defer conn.Close() //nolint:errcheck // it was cut, mostly
			var sending sync.WaitGroup
			ended := make(chan struct{})
			sending.Go(func() {
				if _, err := io.WriteString(conn, text(i)); err != nil {
					return // it is cut
				}
				for tick := time.NewTicker(100 * time.Millisecond); trickle; {
					select {
					case <-ended:
						tick.Stop()
						return
					case <-tick.C:
						_, _ = conn.Write([]byte("x")) // as above
					}
				}
			})
			// A reader that takes a byte a second is one that does not read.
			for range reads {
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					break // it is cut
				}
				if reads > 1 {
					<-time.After(time.Second)
				}
			}
			_ = conn.Close() // the sender may wait
			close(ended)
			sending.Wait()
		})
	}
	all.Wait()
}

// cut sends something and closes the connection.
func (a *abused) cut(n int, text func() string) {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if conn := a.dial(); conn != nil {
				_, _ = io.WriteString(conn, text()) // it may be cut before
				_ = conn.Close()
			}
		})
	}
	all.Wait()
}

func (a *abused) dial() net.Conn {
	conn, err := net.Dial("tcp", a.listen)
	if err != nil {
		a.Error(err)
		return nil
	}
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		a.Error(err)
	}
	return conn
}

// memory is what the system says of the process.
func (a *abused) memory(what string) int {
	a.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		a.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == what+":" {
			kB, err := strconv.Atoi(fields[1])
			if err != nil {
				a.Fatal(err)
			}
			return kB << 10
		}
	}
	a.Fatalf("the system does not tell %s", what)
	return 0
}
