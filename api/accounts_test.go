package api_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

type account struct {
	ID, Name                    string
	CreatedAt                   string `json:"created_at"`
	Followers, Following, Posts int
}

func (p *process) account(id string) account {
	p.t.Helper()
	var a account
	p.do(http.MethodGet, "/v1/accounts/"+id, "").want(http.StatusOK).json(&a)
	return a
}

func TestAccounts(t *testing.T) {
	p := deploy(t).start(t)
	const path = "/v1/accounts/ada"
	p.do(http.MethodGet, path, "").want(http.StatusNotFound)
	p.do(http.MethodDelete, path, "").want(http.StatusNotFound)

	registered := p.do(http.MethodPut, path, `{"name":"Ada 🙂"}`).want(http.StatusCreated)
	var first account
	registered.json(&first)
	if first.ID != "ada" || first.Name != "Ada 🙂" || first != p.account("ada") {
		t.Errorf("registered: %+v; read: %+v", first, p.account("ada"))
	}
	if got := registered.header.Get("Freshet-Position"); !strings.HasPrefix(got, "registrations:") ||
		!strings.Contains(got, ", profiles:") {
		t.Errorf("Freshet-Position is %q", got)
	}
	p.do(http.MethodHead, path, "")

	known := p.do(http.MethodPut, path, "").want(http.StatusOK)
	if got := known.header.Get("Freshet-Position"); got != "" {
		t.Errorf("nothing was written, and Freshet-Position is %q", got)
	}
	p.do(http.MethodPut, path, `{"name":""}`).want(http.StatusOK)
	if got := p.account("ada"); got.Name != "" || got.CreatedAt != first.CreatedAt {
		t.Errorf("renamed: %+v", got)
	}
	p.do(http.MethodPut, path, `{"name":"`+strings.Repeat("é", 200)+`"}`).want(http.StatusOK)

	p.do(http.MethodDelete, path, "").want(http.StatusAccepted)
	p.do(http.MethodGet, path, "").want(http.StatusNotFound)
	p.do(http.MethodPut, path, "").want(http.StatusCreated)
	if got := p.account("ada"); got.Name != "" || got.CreatedAt == first.CreatedAt {
		t.Errorf("registered after its end: %+v, and before it %+v", got, first)
	}
}

// TestRegisterAtOnce: many clients that register one id get one account between them, and one of them made it.
func TestRegisterAtOnce(t *testing.T) {
	p := deploy(t).start(t)
	var (
		wg      sync.WaitGroup
		made    atomic.Int64
		answers [8]account
	)
	for i := range answers {
		wg.Go(func() {
			a := p.do(http.MethodPut, "/v1/accounts/ada", "")
			if a.status == http.StatusCreated {
				made.Add(1)
			} else if a.status != http.StatusOK {
				t.Errorf("status %d: %s", a.status, a.body)
			}
			a.json(&answers[i])
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d clients made the account, want 1", made.Load())
	}
	for i, a := range answers {
		if a != answers[0] {
			t.Errorf("client %d got %+v, client 0 %+v", i, a, answers[0])
		}
	}
}
