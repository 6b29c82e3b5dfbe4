package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"freshet/internal/auth"
)

// A request costs nothing for what is not asked for.
func TestAdmissionAllocatesNothing(t *testing.T) {
	a := &API{gate: gate{most: 10}}
	r := httptest.NewRequest(http.MethodGet, "/v1/accounts/ada/feed", http.NoBody)
	w := httptest.NewRecorder()
	ctx := t.Context()
	p := permissions["GET /v1/accounts/{id}/feed"]
	n := testing.AllocsPerRun(10_000, func() {
		if a.gate.enter() {
			_, _ = a.admit(ctx, w, r, p)
			a.gate.leave()
		}
	})
	if n != 0 {
		t.Errorf("%g allocations, without authentication and limits", n)
	}
}

func BenchmarkTag(b *testing.B) {
	page := []byte(strings.Repeat("x", 8000)) // twenty posts of middling length
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		tagOf(page)
	}
}

func BenchmarkCharge(b *testing.B) {
	l := newLimits(1e9, 1e9, time.Now)
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	c := &auth.Caller{Account: "ada"}
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		_ = l.charge(w, r, c, 1)
	}
}
