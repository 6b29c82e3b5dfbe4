// Package auth says who sent a request: the holder of a service key, which acts for any account, or of a signed token,
// which acts for the account that it names. It knows nothing of HTTP or routes.
//
//	caller.go    Caller, and Verifier, which turns a bearer's text into one
//	keys.go      service keys and the file that they are kept in
//	tokens.go    signed tokens (JWT) and the key sets (JWKS) that they are checked with
//	checked.go   tokens that were found to be good
//	reloaded.go  what is read again when it is old
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"freshet"
)

// Scope is what a service key may be used for. Tokens have all scopes, for their own account.
type Scope string

// The scopes.
const (
	Read  Scope = "read"  // what changes nothing
	Write Scope = "write" // the rest
)

// Scopes lists them all.
var Scopes = []Scope{Read, Write}

// Caller is who sent a request.
type Caller struct {
	// Account is the account for which a token acts; empty for a service key, which acts for any.
	Account freshet.AccountID
	// Key is the id of a service key.
	Key    string
	Scopes []Scope
}

// Service says whether the caller acts for any account.
func (c *Caller) Service() bool { return c.Account == "" }

// May says whether the caller's credentials are good for a scope.
func (c *Caller) May(s Scope) bool { return !c.Service() || slices.Contains(c.Scopes, s) }

// Name tells callers apart: "key" or "account", and its id.
func (c *Caller) Name() string {
	if c.Service() {
		return "key " + c.Key
	}
	return "account " + string(c.Account)
}

// Errors of Verify. What they wrap says more, for logs and for the caller, and holds no secret.
var (
	// ErrRejected: the credentials are not good.
	ErrRejected = errors.New("the credentials are not valid")
	// ErrUnavailable: they cannot be checked now.
	ErrUnavailable = errors.New("the credentials cannot be checked now")
)

// Config says which credentials are good.
type Config struct {
	// KeysFile keeps service keys; empty: there are none.
	KeysFile string
	// JWKS is a file or an http(s) URL with the public keys of tokens; empty: there are none.
	JWKS string
	// Issuer and Audience are what tokens must name, needed with JWKS.
	Issuer, Audience string
	// Log is slog.Default() if nil.
	Log *slog.Logger
	// Now is time.Now if nil.
	Now func() time.Time
}

// Enabled says whether there are any credentials at all.
func (c Config) Enabled() bool { return c.KeysFile != "" || c.JWKS != "" }

// Verifier checks credentials. It is safe for concurrent use. Nothing runs in the background but the reading of
// credentials that somebody needs; Close ends that.
type Verifier struct {
	keys   *reloaded[keySet]
	tokens *tokens
}

// New makes a verifier. It reads the files, so that one that is missing or broken is noticed at once; a URL is asked
// when the first token comes.
func New(c Config) (*Verifier, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	v := &Verifier{}
	if c.KeysFile != "" {
		v.keys = keysOf(c)
		if _, err := v.keys.get(context.Background(), 0, true); err != nil {
			return nil, err
		}
	}
	if c.JWKS != "" {
		var err error
		if v.tokens, err = newTokens(c); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Close waits until nothing is read any more.
func (v *Verifier) Close() {
	v.keys.close()
	if v.tokens != nil {
		v.tokens.sets.close()
	}
}

// Verify says whose credentials these are: what stands behind "Bearer" in a request.
func (v *Verifier) Verify(ctx context.Context, bearer string) (*Caller, error) {
	switch {
	case IsKey(bearer) && v.keys != nil:
		return v.key(ctx, bearer)
	case !IsKey(bearer) && v.tokens != nil:
		return v.tokens.verify(ctx, bearer)
	}
	return nil, fmt.Errorf("%w: credentials of this kind are not taken here", ErrRejected)
}
