package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"freshet"
)

func TestFollowing(t *testing.T) {
	p := deploy(t).start(t)
	p.register("ada", "bob", "cyd")
	const follow = "/v1/accounts/ada/following/bob"

	for range 2 { // the second time it is so already
		a := p.do(http.MethodPut, follow, "").want(http.StatusNoContent)
		if !strings.HasPrefix(a.header.Get("Freshet-Position"), "follows:") {
			t.Errorf("Freshet-Position is %q", a.header.Get("Freshet-Position"))
		}
		if got, _ := p.all("/v1/accounts/ada/following"); !slices.Equal(got, []string{"bob"}) {
			t.Errorf("ada follows %v", got)
		}
	}
	if got := p.account("ada").Following; got != 1 {
		t.Errorf("ada follows %d accounts, want 1", got)
	}
	p.do(http.MethodPut, "/v1/accounts/ada/muted/cyd", "").want(http.StatusNoContent)
	if got, _ := p.all("/v1/accounts/ada/muted"); !slices.Equal(got, []string{"cyd"}) {
		t.Errorf("ada mutes %v", got)
	}
	p.do(http.MethodDelete, "/v1/accounts/ada/muted/cyd", "").want(http.StatusNoContent)
	if got, _ := p.all("/v1/accounts/ada/muted"); len(got) != 0 {
		t.Errorf("ada mutes %v", got)
	}
	p.do(http.MethodDelete, follow, "").want(http.StatusNoContent)
	p.do(http.MethodDelete, follow, "").want(http.StatusNoContent)
	if got, _ := p.all("/v1/accounts/ada/following"); len(got) != 0 {
		t.Errorf("ada follows %v", got)
	}

	for _, verb := range []string{http.MethodPut, http.MethodDelete} {
		for _, list := range []string{"following", "muted", "blocked"} {
			p.do(verb, "/v1/accounts/ada/"+list+"/nobody", "").want(http.StatusNotFound)
			p.do(verb, "/v1/accounts/nobody/"+list+"/ada", "").want(http.StatusNotFound)
			p.do(verb, "/v1/accounts/ada/"+list+"/ada", "").want(http.StatusUnprocessableEntity)
			p.do(verb, "/v1/accounts/ada/"+list+"/b%20b", "").want(http.StatusBadRequest)
		}
	}
	p.do(http.MethodDelete, "/v1/accounts/bob", "").want(http.StatusAccepted)
	p.do(http.MethodPut, follow, "").want(http.StatusNotFound)
}

func TestBlocking(t *testing.T) {
	p := deploy(t).start(t)
	p.register("ada", "bob")
	p.do(http.MethodPut, "/v1/accounts/ada/following/bob", "").want(http.StatusNoContent)
	p.do(http.MethodPut, "/v1/accounts/bob/following/ada", "").want(http.StatusNoContent)

	blocked := p.do(http.MethodPut, "/v1/accounts/ada/blocked/bob", "").want(http.StatusNoContent)
	if got := strings.Count(blocked.header.Get("Freshet-Position"), "follows:"); got != 2 {
		t.Errorf("positions %q, want one for each of the two", blocked.header.Get("Freshet-Position"))
	}
	for _, id := range []string{"ada", "bob"} {
		if got, _ := p.all("/v1/accounts/" + id + "/following"); len(got) != 0 {
			t.Errorf("%s follows %v after the block", id, got)
		}
	}
	if got, _ := p.all("/v1/accounts/ada/blocked"); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("ada blocks %v", got)
	}
	p.do(http.MethodPut, "/v1/accounts/bob/following/ada", "").want(http.StatusForbidden)
	p.do(http.MethodPut, "/v1/accounts/ada/following/bob", "").want(http.StatusForbidden)

	p.do(http.MethodDelete, "/v1/accounts/ada/blocked/bob", "").want(http.StatusNoContent)
	p.do(http.MethodPut, "/v1/accounts/bob/following/ada", "").want(http.StatusNoContent)
}

func TestListsAndCap(t *testing.T) {
	d := deploy(t)
	p := d.start(t)
	var want []string
	p.register("ada")
	for i := range followCap {
		id := fmt.Sprint("account-", i)
		p.register(id)
		want = append(want, id)
		p.do(http.MethodPut, "/v1/accounts/ada/following/"+id, "").want(http.StatusNoContent)
	}
	p.register("zoe")
	p.do(http.MethodPut, "/v1/accounts/ada/following/zoe", "").want(http.StatusUnprocessableEntity)
	p.do(http.MethodPut, "/v1/accounts/ada/following/"+want[0], "").want(http.StatusNoContent)

	for limit, wantPages := range map[int]int{1: 5, 2: 3, 5: 1, 100: 1} {
		got, pages := p.all(fmt.Sprint("/v1/accounts/ada/following?limit=", limit))
		slices.Sort(got)
		if !slices.Equal(got, want) || pages != wantPages {
			t.Errorf("limit %d: %v in %d pages, want %v in %d", limit, got, pages, want, wantPages)
		}
	}

	// The closed ones among the followers make no page short of what it could hold, and no list end early.
	ada, _, err := p.config.Accounts.ByID("ada")
	if err != nil {
		t.Fatal(err)
	}
	var followers []freshet.Number
	for _, id := range want {
		a, _, err := p.config.Accounts.ByID(freshet.AccountID(id))
		if err != nil {
			t.Fatal(err)
		}
		followers = append(followers, a.Number)
	}
	slices.Sort(followers)
	d.posts.followers = map[freshet.Number][]freshet.Number{ada.Number: followers}
	p.do(http.MethodDelete, "/v1/accounts/"+want[1], "").want(http.StatusAccepted)
	p.do(http.MethodDelete, "/v1/accounts/"+want[3], "").want(http.StatusAccepted)
	for limit := 1; limit <= 6; limit++ {
		for _, list := range []string{"followers", "following"} {
			got, _ := p.all(fmt.Sprintf("/v1/accounts/ada/%s?limit=%d", list, limit))
			slices.Sort(got)
			if !slices.Equal(got, []string{want[0], want[2], want[4]}) {
				t.Errorf("%s, limit %d: %v", list, limit, got)
			}
		}
	}

	// The store is behind: a request that names the position of a follow, or of its end, is answered as of it.
	p.register("joe")
	const follow = "/v1/accounts/joe/following/ada"
	position := p.do(http.MethodPut, follow, "").want(http.StatusNoContent).header.Get("Freshet-Position")
	got, _ := p.do(http.MethodGet, "/v1/accounts/ada/followers", "", "Freshet-Position", position).ids()
	if !slices.Contains(got, "joe") || len(got) != 4 {
		t.Errorf("the followers as of joe's follow are %v", got)
	}
	joe, _, err := p.config.Accounts.ByID("joe")
	if err != nil {
		t.Fatal(err)
	}
	d.posts.followers[ada.Number] = append(followers, joe.Number)
	slices.Sort(d.posts.followers[ada.Number])
	position = p.do(http.MethodDelete, follow, "").want(http.StatusNoContent).header.Get("Freshet-Position")
	for limit := 1; limit <= 5; limit++ {
		path := fmt.Sprint("/v1/accounts/ada/followers?limit=", limit)
		for seen := 0; path != ""; seen++ {
			got, path = p.do(http.MethodGet, path, "", "Freshet-Position", position).ids()
			if slices.Contains(got, "joe") {
				t.Errorf("limit %d: the followers as of the end of joe's follow are %v", limit, got)
			}
		}
	}
}
