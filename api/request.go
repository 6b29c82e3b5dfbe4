package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/gorilla/mux"

	"freshet"
)

// The limits of a list.
const (
	maxLimit     = 100
	defaultLimit = 20
)

// account finds the open account that a variable of the path names.
func (a *API) account(r *http.Request, variable string) (freshet.Account, error) {
	id, err := pathID(r, variable)
	if err != nil {
		return freshet.Account{}, err
	}
	return a.openAccount(id)
}

func pathID(r *http.Request, variable string) (freshet.AccountID, error) {
	id, err := freshet.ParseAccountID(mux.Vars(r)[variable])
	if err != nil {
		return "", badInput(variable, "%v", err)
	}
	return id, nil
}

// openAccount finds an account; a closed one is as unknown as one that never was.
func (a *API) openAccount(id freshet.AccountID) (freshet.Account, error) {
	account, ok, err := a.Accounts.ByID(id)
	if err != nil {
		return freshet.Account{}, err
	}
	if !ok || account.Closed {
		return freshet.Account{}, notFound("there is no account %q", id)
	}
	return account, nil
}

func pathPost(r *http.Request) (freshet.PostID, error) {
	id, err := freshet.ParsePostID(mux.Vars(r)["post"])
	if err != nil {
		return 0, badInput("post", "%v", err)
	}
	return id, nil
}

// place is what a list was asked for: limit and cursor. The value of a cursor is 0 for the list's beginning.
func (a *API) place(r *http.Request, kind listKind, of freshet.Number) (limit int, value uint64, err error) {
	query, err := parseQuery(r)
	if err != nil {
		return 0, 0, err
	}
	limit = defaultLimit
	if s, ok := query["limit"]; ok {
		limit, err = strconv.Atoi(s)
		if err != nil || limit < 1 || limit > maxLimit || strconv.Itoa(limit) != s {
			return 0, 0, badInput("limit", "limit is %q, want a number from 1 to %d", s, maxLimit)
		}
	}
	if s, ok := query["cursor"]; ok {
		if value, err = a.cursors.open(s, kind, of); err != nil {
			return 0, 0, named("cursor", err)
		}
	}
	return limit, value, nil
}

// parseQuery reads the query of a list, where a parameter that nobody reads is as wrong as an unknown field.
func parseQuery(r *http.Request) (map[string]string, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query is malformed: %v", err)
	}
	query := make(map[string]string, len(values))
	for name, v := range values {
		if !slices.Contains([]string{"limit", "cursor"}, name) {
			return nil, badInput(name, "the parameter %q is unknown; lists take limit and cursor", name)
		}
		if len(v) != 1 {
			return nil, badInput(name, "the parameter %q is there %d times", name, len(v))
		}
		query[name] = v[0]
	}
	return query, nil
}
