package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/client"
	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/kafka/kafkatest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// start runs a process of freshet and returns where its API is.
func start(t *testing.T) string {
	t.Helper()
	cfg := config.Default()
	cfg.Partitions, cfg.Zones, cfg.DataDir = 2, 4, t.TempDir()
	return apptest.Start(t, cfg).APIURL()
}

// connect makes a client whose connections end with the test.
func connect(t *testing.T, url string, change func(*client.Config)) *client.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := client.Config{URL: url, HTTP: &http.Client{Transport: transport}, Pause: time.Millisecond}
	if change != nil {
		change(&c)
	}
	made, err := client.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// wire stands between client and API: answers are lost in it.
type wire struct {
	*httptest.Server
	api  string
	lose atomic.Int64 // so many answers are lost, after the API has given them
	cut  atomic.Int64 // streams break after so many events; 0: never
	sent atomic.Int64 // requests
	last atomic.Value // the last request's header
}

func between(t *testing.T, api string) *wire {
	t.Helper()
	w := &wire{api: api}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

func (w *wire) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	w.sent.Add(1)
	w.last.Store(r.Header)
	out, err := http.NewRequestWithContext(r.Context(), r.Method, w.api+r.URL.RequestURI(), r.Body)
	if err != nil {
		panic(err)
	}
	out.Header = r.Header
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close() //nolint:errcheck // it has been read
	if w.lose.Add(-1) >= 0 {
		_, _ = io.Copy(io.Discard, answer.Body)
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header {
		to.Header()[name] = values
	}
	to.WriteHeader(answer.StatusCode)
	events, buffer := int64(0), make([]byte, 4096)
	for {
		n, err := answer.Body.Read(buffer)
		_, _ = to.Write(buffer[:n])
		if http.NewResponseController(to).Flush() != nil || err != nil {
			return
		}
		events += int64(strings.Count(string(buffer[:n]), "event: "))
		if cut := w.cut.Load(); cut > 0 && events >= cut {
			panic(http.ErrAbortHandler)
		}
	}
}
