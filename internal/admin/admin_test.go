package admin_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"freshet/internal/admin"
	"freshet/internal/kafka"
)

// TestListener: what an operator, and whoever restarts processes, asks a process that is not ready, and one that is.
func TestListener(t *testing.T) {
	missing := []string{"view of accounts: it recovers", "Redis does not answer"}
	handler := admin.Handler(admin.Config{
		Missing: func() []string { return missing },
		Groups:  map[string]*kafka.Group{"fanout": kafka.NewGroup(kafka.GroupConfig{Name: "fanout"})},
		Corrupt: func() int64 { return 3 },
		Metrics: []admin.Metric{
			{Name: "freshet_streams_open", Help: "Streams.", Value: func() float64 { return 7 }},
			{Name: "freshet_streams_total", Help: "All.", Counter: true, Value: func() float64 { return 9 }},
		},
	})
	ask := func(method, path string, want int) string {
		t.Helper()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
		if w.Code != want {
			t.Errorf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, want)
		}
		return w.Body.String()
	}
	metrics := func() map[string]float64 {
		t.Helper()
		values := map[string]float64{}
		for line := range strings.Lines(ask(http.MethodGet, "/metrics", 200)) {
			name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			if value, err := strconv.ParseFloat(text, 64); err == nil {
				values[name] = value
			} else if name != "#" {
				t.Errorf("no line of metrics: %q", line)
			}
		}
		return values
	}

	ask(http.MethodGet, "/healthz", 200) // who is not ready is not to be killed for it
	if got := ask(http.MethodGet, "/readyz", 503); got != strings.Join(missing, "\n")+"\n" {
		t.Errorf("it does not say what is missing: %q", got)
	}
	if m := metrics(); m["freshet_ready"] != 0 || m["freshet_corrupt_values_total"] != 3 ||
		m["freshet_streams_open"] != 7 || m["freshet_streams_total"] != 9 || m["go_goroutines"] == 0 {
		t.Errorf("metrics: %v", m)
	}
	missing = nil
	ask(http.MethodGet, "/healthz", 200)
	if got := ask(http.MethodGet, "/readyz", 200); !strings.HasPrefix(got, "ready\n") {
		t.Errorf("ready: %q", got)
	}
	if m := metrics(); m["freshet_ready"] != 1 {
		t.Errorf("ready: %v", m["freshet_ready"])
	}

	if got := ask(http.MethodGet, "/debug/pprof/", 200); !strings.Contains(got, "goroutine") {
		t.Errorf("profiles: %q", got)
	}
	if got := ask(http.MethodGet, "/debug/pprof/goroutine?debug=1", 200); !strings.Contains(got, "TestListener") {
		t.Errorf("goroutines: %q", got)
	}
	if got := ask(http.MethodGet, admin.GroupsPath, 200); got != `[{"group":"fanout","claims":[]}]`+"\n" {
		t.Errorf("groups: %q", got)
	}
	ask(http.MethodPost, admin.SeekPath("fanout"), 400)
	ask(http.MethodPost, admin.SeekPath("nobody"), 404)
	ask(http.MethodPost, "/healthz", 405)
}
