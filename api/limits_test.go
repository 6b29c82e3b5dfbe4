package api

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"freshet/internal/auth"
)

func TestLimits(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a := &API{limits: newLimits(2, 10, func() time.Time { return now })}
	from := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	other := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	other.RemoteAddr = "192.0.2.9:1"
	charge := func(r *http.Request, units int, rateLimit string, retry time.Duration) {
		t.Helper()
		w := httptest.NewRecorder()
		err := a.charge(w, r, units)
		if got := w.Header().Get("RateLimit"); got != rateLimit {
			t.Errorf("RateLimit: %s, want %s", got, rateLimit)
		}
		if got := w.Header().Get("RateLimit-Policy"); got != `"default";q=10;w=5` {
			t.Errorf("RateLimit-Policy: %s", got)
		}
		if retry == 0 {
			if err != nil {
				t.Error(err)
			}
			return
		}
		p := problemOf(err)
		if p.Status != http.StatusTooManyRequests || p.retryAfter != retry {
			t.Errorf("%d after %s, want 429 after %s", p.Status, p.retryAfter, retry)
		}
	}
	charge(from, 3, `"default";r=7;t=2`, 0)
	charge(from, 7, `"default";r=0;t=5`, 0)
	charge(from, 1, `"default";r=0;t=5`, time.Second)
	charge(from, 7, `"default";r=0;t=5`, 4*time.Second)
	charge(other, 1, `"default";r=9;t=1`, 0)
	now = now.Add(time.Second)
	charge(from, 2, `"default";r=0;t=5`, 0)

	// More than can be saved up: when all is there, and then it is paid off.
	now = now.Add(time.Minute)
	charge(from, 30, `"default";r=0;t=15`, 0)
	charge(from, 1, `"default";r=0;t=15`, 11*time.Second)
	now = now.Add(10 * time.Second)
	charge(from, 1, `"default";r=0;t=5`, time.Second)
	now = now.Add(time.Second)
	charge(from, 1, `"default";r=1;t=5`, 0)
	charge(from, 50, `"default";r=1;t=5`, 4*time.Second) // a burst but for what the route itself has cost

	if newLimits(0, 10, time.Now) != nil {
		t.Error("no limit is a limit")
	}
	if err := (&API{}).charge(httptest.NewRecorder(), from, 1000); err != nil {
		t.Error(err)
	}
}

// Callers are told apart by their credentials, and not remembered for ever.
func TestCallersOfLimits(t *testing.T) {
	l := newLimits(1, 1, func() time.Time { return time.Unix(0, 0) })
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	ok := func(c *auth.Caller) bool { return l.charge(httptest.NewRecorder(), r, c, 1) == nil }
	for _, c := range []*auth.Caller{nil, {Key: "a"}, {Account: "a"}, {Key: "b"}} {
		if !ok(c) || ok(c) {
			t.Errorf("%+v does not have a rate of its own", c)
		}
	}
	for i := range mostCallers - 1 {
		if ok(&auth.Caller{Key: strconv.Itoa(i)}); i == mostCallers/2 && ok(nil) {
			t.Fatal("a caller was forgotten early")
		}
	}
	if len(l.callers) != mostCallers || l.recent.Len() != mostCallers {
		t.Errorf("%d callers are remembered, %d in order, want %d", len(l.callers), l.recent.Len(), mostCallers)
	}
	if ok(nil) {
		t.Error("the caller that came again was forgotten")
	}
	if !ok(&auth.Caller{Account: "a"}) {
		t.Error("the one who has not come for longest is remembered")
	}
}
