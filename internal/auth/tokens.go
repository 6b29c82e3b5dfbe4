package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"freshet"
)

const (
	// leeway is how far the clocks of whoever issues tokens may be from ours.
	leeway = 30 * time.Second
	// A key set is read again when a token names a key that it lacks, but no more often than retryEvery; and after
	// urlEvery or fileEvery anyway, so that a key that was taken out is not good for longer.
	urlEvery   = 5 * time.Minute
	retryEvery = 10 * time.Second
	fileEvery  = time.Second
	// maxKeySet bounds a key set, in bytes.
	maxKeySet = 1 << 20
	// maxToken bounds a token, in bytes: what is longer is not worth a signature's check.
	maxToken = 8 << 10
	minRSA   = 2048
)

// algorithms are the signatures that are taken: those with public keys, each for its own kind of key, so that a token
// can neither do without a signature nor be signed with a public key as if that were a secret.
var algorithms = []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256, jose.RS256}

type tokens struct {
	issuer, audience string
	now              func() time.Time
	sets             *reloaded[jose.JSONWebKeySet]
	every, retry     time.Duration
	file             bool // the key set is one, so that reading it takes no time
	checked          checkedTokens
}

func newTokens(c Config) (*tokens, error) {
	t := &tokens{issuer: c.Issuer, audience: c.Audience, now: c.Now, every: urlEvery, retry: retryEvery}
	if t.issuer == "" || t.audience == "" {
		return nil, errors.New("tokens need an issuer and an audience that they must name")
	}
	t.sets = &reloaded[jose.JSONWebKeySet]{what: c.JWKS, retry: retryEvery, log: c.Log, now: c.Now}
	var (
		last []byte
		set  *jose.JSONWebKeySet
	)
	parse := func(data []byte, err error) (*jose.JSONWebKeySet, error) { // one at a time
		if err != nil || set != nil && bytes.Equal(data, last) {
			return set, err
		}
		parsed, err := parseSet(c.JWKS, data)
		if err == nil {
			last, set = data, parsed
		}
		return parsed, err
	}
	if strings.HasPrefix(c.JWKS, "https://") || strings.HasPrefix(c.JWKS, "http://") {
		client := &http.Client{Timeout: loadTimeout}
		t.sets.load = func(ctx context.Context) (*jose.JSONWebKeySet, error) {
			return parse(fetch(ctx, client, c.JWKS))
		}
		return t, nil
	}
	t.every, t.retry, t.sets.retry, t.file = fileEvery, fileEvery, fileEvery, true
	t.sets.load = func(context.Context) (*jose.JSONWebKeySet, error) {
		data, err := os.ReadFile(c.JWKS)
		if err != nil {
			return nil, fmt.Errorf("read a key set: %w", err)
		}
		return parse(data, nil)
	}
	_, err := t.sets.get(context.Background(), 0, true)
	return t, err
}

func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask for a key set: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask for a key set: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for a key set: GET %s: %s", url, response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("ask for a key set: GET %s: %w", url, err)
	}
	return data, nil
}

// parseSet keeps the keys with which tokens may be signed. Others are passed over: a set may well hold some.
func parseSet(from string, data []byte) (*jose.JSONWebKeySet, error) {
	if len(data) > maxKeySet {
		return nil, fmt.Errorf("the key set at %s has more than %d bytes", from, maxKeySet)
	}
	var all struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("the key set at %s: %w", from, err)
	}
	var good jose.JSONWebKeySet
	for _, encoded := range all.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(encoded) != nil {
			continue // of a kind that the library does not know
		}
		if key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") && algorithmOf(&key) != "" {
			good.Keys = append(good.Keys, key)
		}
	}
	if len(good.Keys) == 0 {
		return nil, fmt.Errorf("the key set at %s has no public key for signatures of %v", from, algorithms)
	}
	return &good, nil
}

// algorithmOf is the one algorithm that a key may be used with, "" for none.
func algorithmOf(key *jose.JSONWebKey) jose.SignatureAlgorithm {
	var algorithm jose.SignatureAlgorithm
	switch k := key.Key.(type) {
	case ed25519.PublicKey:
		algorithm = jose.EdDSA
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			algorithm = jose.ES256
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSA {
			algorithm = jose.RS256
		}
	}
	if key.Algorithm != "" && key.Algorithm != string(algorithm) {
		return ""
	}
	return algorithm
}

func rejected(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRejected}, args...)...)
}

func (t *tokens) verify(ctx context.Context, text string) (*Caller, error) {
	if len(text) > maxToken {
		return nil, rejected("the token has more than %d bytes", maxToken)
	}
	hash := sha256.Sum256([]byte(text))
	set, err := t.sets.get(ctx, t.every, t.file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if c := t.checked.find(set, hash, t.now()); c != nil {
		return c, nil
	}
	token, err := jwt.ParseSigned(text, algorithms)
	if err != nil {
		return nil, rejected("the token is malformed, or not signed with one of %v", algorithms)
	}
	var claims jwt.Claims
	if set, err = t.signed(ctx, token, &claims); err != nil {
		return nil, err
	}
	if claims.Expiry == nil {
		return nil, rejected("the token does not say when it expires")
	}
	err = claims.ValidateWithLeeway(jwt.Expected{
		Issuer: t.issuer, AnyAudience: jwt.Audience{t.audience}, Time: t.now(),
	}, leeway)
	if err != nil {
		return nil, rejected("%w", err)
	}
	account, err := freshet.ParseAccountID(claims.Subject)
	if err != nil {
		return nil, rejected("the token's sub: %w", err)
	}
	c := &Caller{Account: account}
	t.checked.keep(set, hash, checkedToken{caller: c, expires: claims.Expiry.Time()})
	return c, nil
}

// signed checks the signature and reads the claims; it returns the key set that has the key. A token without a key id
// may be signed with any key.
func (t *tokens) signed(
	ctx context.Context, token *jwt.JSONWebToken, claims *jwt.Claims,
) (*jose.JSONWebKeySet, error) {
	header := token.Headers[0]
	for _, maxAge := range []time.Duration{t.every, t.retry} {
		set, err := t.sets.get(ctx, maxAge, t.file || maxAge == t.retry) // a token waits for a key that is not known
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		found := false
		for i := range set.Keys {
			key := &set.Keys[i]
			if header.KeyID != "" && header.KeyID != key.KeyID || string(algorithmOf(key)) != header.Algorithm {
				continue
			}
			found = true
			if token.Claims(key.Key, claims) == nil {
				return set, nil
			}
		}
		if found {
			return nil, rejected("the token's signature is wrong")
		}
	}
	return nil, rejected("the token is signed with a key that is not known")
}
