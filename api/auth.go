package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"freshet"
	"freshet/emitters"
	"freshet/internal/auth"
)

// who may use a route. What one of them sees there is decided by freshet.CanSee.
type who byte

const (
	nobody    who = iota // what is not in the table
	anyone               // also without credentials
	anyCaller            // every service key and every account
	selfOnly             // service keys, and the account in the path
	itsAuthor            // service keys, and the author of the post: the handler asks mayWriteAs or mayChange
)

// permission is who may use a route, which scope a service key needs for it, and what it costs of a caller's rate. A
// write costs more than a read: it is at least one record that several groups process.
type permission struct {
	who   who
	scope auth.Scope
	cost  int
}

// permissions is the one place that says who may do what. A route without an entry is for nobody.
var permissions = map[string]permission{
	"PUT /v1/accounts/{id}":    {selfOnly, auth.Write, 2},
	"GET /v1/accounts/{id}":    {anyCaller, auth.Read, 1},
	"DELETE /v1/accounts/{id}": {selfOnly, auth.Write, 2},

	"PUT /v1/accounts/{id}/following/{target}":    {selfOnly, auth.Write, 2},
	"DELETE /v1/accounts/{id}/following/{target}": {selfOnly, auth.Write, 2},
	"PUT /v1/accounts/{id}/muted/{target}":        {selfOnly, auth.Write, 2},
	"DELETE /v1/accounts/{id}/muted/{target}":     {selfOnly, auth.Write, 2},
	"PUT /v1/accounts/{id}/blocked/{target}":      {selfOnly, auth.Write, 2},
	"DELETE /v1/accounts/{id}/blocked/{target}":   {selfOnly, auth.Write, 2},

	"GET /v1/accounts/{id}/following": {anyCaller, auth.Read, 1},
	"GET /v1/accounts/{id}/followers": {anyCaller, auth.Read, 1},
	"GET /v1/accounts/{id}/muted":     {selfOnly, auth.Read, 1},
	"GET /v1/accounts/{id}/blocked":   {selfOnly, auth.Read, 1},

	"POST /v1/posts":              {itsAuthor, auth.Write, 3},
	"POST /v1/posts/batch":        {itsAuthor, auth.Write, 1}, // and what its lines cost
	"GET /v1/posts/{post}":        {anyCaller, auth.Read, 1},
	"PATCH /v1/posts/{post}":      {itsAuthor, auth.Write, 2},
	"DELETE /v1/posts/{post}":     {itsAuthor, auth.Write, 1},
	"GET /v1/accounts/{id}/posts": {anyCaller, auth.Read, 1},
	"GET /v1/accounts/{id}/feed":  {selfOnly, auth.Read, 1},

	"GET /v1/accounts/{id}/feed/stream": {selfOnly, auth.Read, 5}, // one who comes back may read many posts

	"GET /openapi.yaml": {who: anyone},
	"GET /docs":         {who: anyone},
}

// Verifier says who sent a request; see auth.Verifier.
type Verifier interface {
	Verify(ctx context.Context, bearer string) (*auth.Caller, error)
}

// viewerHeader is the account as which a service key wants to see posts and lists.
const viewerHeader = "Freshet-Viewer"

// challenge is what an answer says of the credentials that it wants.
const challenge = `Bearer realm="freshet"`

type callerKey struct{}

// callerOf is who sent the request; nil if authentication is off.
func callerOf(r *http.Request) *auth.Caller {
	c, _ := r.Context().Value(callerKey{}).(*auth.Caller)
	return c
}

// admit finds out who sent the request, charges the caller for it, and says whether the caller may.
func (a *API) admit(
	ctx context.Context, w http.ResponseWriter, r *http.Request, p permission,
) (context.Context, error) {
	if p.who == anyone {
		return ctx, nil
	}
	if a.Auth == nil {
		return ctx, a.limits.charge(w, r, nil, p.cost)
	}
	c, err := a.authenticate(ctx, w, r)
	if err != nil {
		return ctx, err
	}
	if p := placeOf(r); p != nil {
		p.caller = callerName(r, c)
	}
	if err := a.limits.charge(w, r, c, p.cost); err != nil {
		return ctx, err
	}
	return context.WithValue(ctx, callerKey{}, c), allowed(w, r, c, p)
}

func (a *API) authenticate(ctx context.Context, w http.ResponseWriter, r *http.Request) (*auth.Caller, error) {
	given := r.Header.Values("Authorization")
	if len(given) == 0 {
		w.Header().Set("WWW-Authenticate", challenge)
		return nil, &problem{Status: http.StatusUnauthorized, Detail: "the request has no credentials: want " +
			"Authorization: Bearer, with a service key or a token"}
	}
	scheme, bearer, _ := strings.Cut(given[0], " ")
	err := fmt.Errorf("%w: want one Authorization: Bearer", auth.ErrRejected)
	var c *auth.Caller
	if len(given) == 1 && strings.EqualFold(scheme, "Bearer") {
		c, err = a.Auth.Verify(ctx, strings.TrimSpace(bearer))
	}
	if errors.Is(err, auth.ErrRejected) {
		w.Header().Set("WWW-Authenticate", challenge+`, error="invalid_token"`)
		return nil, &problem{Status: http.StatusUnauthorized, Detail: err.Error(), cause: err}
	}
	return c, err
}

func allowed(w http.ResponseWriter, r *http.Request, c *auth.Caller, p permission) error {
	switch {
	case p.who == nobody:
		return forbidden("this is for nobody")
	case !c.May(p.scope):
		w.Header().Set("WWW-Authenticate", challenge+`, error="insufficient_scope", scope="`+string(p.scope)+`"`)
		return forbidden("the service key lacks the scope %q", p.scope)
	case c.Service():
		return nil
	case p.who == selfOnly:
		id, err := pathID(r, "id")
		if err != nil {
			return err
		}
		return actsAs(c, id)
	}
	return nil
}

func actsAs(c *auth.Caller, id freshet.AccountID) error {
	if c != nil && !c.Service() && c.Account != id {
		return forbidden("the token is that of %q and does not act for %q", c.Account, id)
	}
	return nil
}

// mayWriteAs says whether the caller may write in the name of an account.
func mayWriteAs(r *http.Request, id freshet.AccountID) error { return actsAs(callerOf(r), id) }

// mayChange says who may edit or delete a post. A post that the caller cannot see is as unknown to it as any.
func (a *API) mayChange(r *http.Request, unknown error) emitters.May {
	return func(post freshet.Post) error {
		c := callerOf(r)
		if c == nil || c.Service() {
			return nil
		}
		author, known, err := a.Accounts.ByNumber(post.Author)
		if err != nil {
			return err
		}
		if known && !author.Closed && author.ID == c.Account {
			return nil
		}
		v, err := a.viewer(r)
		if err != nil {
			return err
		}
		seen, err := a.relationship(v, author)
		if err != nil {
			return err
		}
		if !known || !freshet.CanSee(post, seen) {
			return unknown
		}
		return forbidden("post %s is not by %q", post.ID, c.Account)
	}
}

// viewer is as whom somebody sees posts and lists.
type viewer struct {
	asAuthor bool // nobody in particular: what the author sees
	account  freshet.Account
	row      *freshet.Following
	stranger bool // an account that is not registered here, or closed
}

// viewer is the account of a token, or the one that a service key names, or nobody in particular.
func (a *API) viewer(r *http.Request) (v viewer, err error) {
	c, named := callerOf(r), r.Header.Get(viewerHeader)
	id := freshet.AccountID(named)
	if given := r.Header.Values(viewerHeader); len(given) > 1 || len(given) == 1 && named == "" {
		// Taken for nobody in particular, it would show what is for the author's followers.
		return v, badInput(viewerHeader, "%s is there %d times and says %q, want one account", viewerHeader, len(given),
			named)
	}
	switch {
	case c != nil && !c.Service():
		if named != "" && id != c.Account {
			return v, forbidden("%s: the token is that of %q and does not see as %q", viewerHeader, c.Account, named)
		}
		id = c.Account
	case named == "":
		return viewer{asAuthor: true}, nil
	default:
		if id, err = freshet.ParseAccountID(named); err != nil {
			return v, badInput(viewerHeader, "%s: %v", viewerHeader, err)
		}
	}
	account, known, err := a.Accounts.ByID(id)
	if err != nil {
		return v, err
	}
	if !known || account.Closed {
		if named != "" {
			return v, badInput(viewerHeader, "%s: there is no account %q", viewerHeader, id)
		}
		return viewer{stranger: true}, nil
	}
	row, err := a.Following.Row(account.Number)
	return viewer{account: account, row: row}, err
}

// relationship is what the viewer and an author are to each other.
func (a *API) relationship(v viewer, author freshet.Account) (freshet.Relationship, error) {
	switch {
	case v.asAuthor:
		return asAuthor(author), nil
	case v.stranger:
		return freshet.Relationship{AuthorClosed: author.Closed}, nil
	}
	row, err := a.Following.Row(author.Number)
	return freshet.RelationshipOf(v.account.Number, v.row, author.Number, row, author.Closed), err
}

// blocked says whether the viewer and an account hide from each other.
func (a *API) blocked(v viewer, n freshet.Number) (bool, error) {
	if v.asAuthor || v.stranger {
		return false, nil
	}
	row, err := a.Following.Row(n)
	return v.row.Blocks(n) || row.Blocks(v.account.Number), err
}
