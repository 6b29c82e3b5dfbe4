package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

type claims map[string]any

// good are claims that are taken at the time of newClock.
func good(c *clock) claims {
	return claims{
		"iss": "https://id.example", "aud": []string{"other", "freshet"}, "sub": "ann",
		"exp": c.now().Add(time.Minute).Unix(), "iat": c.now().Unix(),
	}
}

func (c claims) with(name string, value any) claims {
	c = maps.Clone(c)
	c[name] = value
	if value == nil {
		delete(c, name)
	}
	return c
}

func sign(t testing.TB, algorithm jose.SignatureAlgorithm, kid string, key any, c claims) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any(c)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func keySetOf(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func edKey(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func tokenConfig(c *clock, jwks string) Config {
	return Config{JWKS: jwks, Issuer: "https://id.example", Audience: "freshet", Now: c.now}
}

func TestTokens(t *testing.T) {
	c := newClock()
	public, private := edKey(t)
	_, stranger := edKey(t)
	p256, p384, rsa2048 := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), rsaKey(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	set := keySetOf(t,
		jose.JSONWebKey{Key: public, KeyID: "ed", Use: "sig", Algorithm: "EdDSA"},
		jose.JSONWebKey{Key: p256.Public(), KeyID: "ec"},
		jose.JSONWebKey{Key: rsa2048.Public(), KeyID: "rsa", Algorithm: "RS256"},
		jose.JSONWebKey{Key: rsa2048.Public(), KeyID: "pss", Algorithm: "PS256"},
		jose.JSONWebKey{Key: p384.Public(), KeyID: "p384"},
		jose.JSONWebKey{Key: []byte("a secret of thirty-two bytes....."), KeyID: "oct"},
		jose.JSONWebKey{Key: private.Public(), KeyID: "enc", Use: "enc"},
	)
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	v := verifier(t, tokenConfig(c, file))
	ed := func(c claims) string { return sign(t, jose.EdDSA, "ed", private, c) }
	unix := func(d time.Duration) int64 { return c.now().Add(d).Unix() }

	for name, text := range map[string]string{
		"ed25519":           ed(good(c)),
		"p256":              sign(t, jose.ES256, "ec", p256, good(c)),
		"rsa":               sign(t, jose.RS256, "rsa", rsa2048, good(c)),
		"no key id":         sign(t, jose.ES256, "", p256, good(c)),
		"one audience":      ed(good(c).with("aud", "freshet")),
		"expired a moment":  ed(good(c).with("exp", unix(-leeway))),
		"valid in a moment": ed(good(c).with("nbf", unix(leeway))),
	} {
		t.Run(name, func(t *testing.T) { wants(t, v, text, "account ann") })
	}

	parts := strings.Split(ed(good(c)), ".")
	header := func(h string) string { return base64.RawURLEncoding.EncodeToString([]byte(h)) + "." + parts[1] + "." }
	der, err := x509.MarshalPKIXPublicKey(rsa2048.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":                "",
		"not a token":            "a.b.c",
		"unsigned":               header(`{"alg":"none","typ":"JWT"}`),
		"unsigned, key id":       header(`{"alg":"none","kid":"ed"}`),
		"unsigned, spelt so":     header(`{"alg":"nOnE"}`),
		"signed with a secret":   sign(t, jose.HS256, "oct", []byte("a secret of thirty-two bytes....."), good(c)),
		"a public key as secret": sign(t, jose.HS256, "rsa", der, good(c)),
		"another key":            sign(t, jose.EdDSA, "ed", stranger, good(c)),
		"another key, no id":     sign(t, jose.EdDSA, "", stranger, good(c)),
		"an unknown key id":      sign(t, jose.EdDSA, "who", private, good(c)),
		"a key of another kind":  sign(t, jose.EdDSA, "ec", private, good(c)),
		"another algorithm":      sign(t, jose.PS256, "rsa", rsa2048, good(c)),
		"a key for PS256":        sign(t, jose.RS256, "pss", rsa2048, good(c)),
		"a curve not listed":     sign(t, jose.ES384, "p384", p384, good(c)),
		"a key to encrypt with":  sign(t, jose.EdDSA, "enc", private, good(c)),
		"changed":                parts[0] + "." + strings.Replace(parts[1], "a", "b", 1) + "." + parts[2],
		"signature cut":          parts[0] + "." + parts[1] + ".",
		"expired":                ed(good(c).with("exp", unix(-leeway-time.Second))),
		"expires never":          ed(good(c).with("exp", nil)),
		"not valid yet":          ed(good(c).with("nbf", unix(leeway+time.Second))),
		"issued in the future":   ed(good(c).with("iat", unix(leeway+time.Second))),
		"another issuer":         ed(good(c).with("iss", "https://evil.example")),
		"no issuer":              ed(good(c).with("iss", nil)),
		"another audience":       ed(good(c).with("aud", "other")),
		"no audience":            ed(good(c).with("aud", nil)),
		"no account":             ed(good(c).with("sub", nil)),
		"not an account":         ed(good(c).with("sub", "a/b")),
		"very long":              ed(good(c).with("x", strings.Repeat("x", maxToken))),
		"a service key":          "fsk_123.abc",
	} {
		t.Run(name, func(t *testing.T) { wants(t, v, text, "") })
	}
	if parts[1] == strings.Replace(parts[1], "a", "b", 1) {
		t.Error("the changed token is not changed")
	}

	for name, data := range map[string][]byte{
		"nothing to verify with": keySetOf(t, jose.JSONWebKey{Key: p384.Public(), KeyID: "p384"}),
		"private keys only":      keySetOf(t, jose.JSONWebKey{Key: private, KeyID: "ed"}),
		"not a key set":          []byte("{"),
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(tokenConfig(c, file)); err == nil {
			t.Errorf("a set with %s is taken", name)
		}
	}
	for _, incomplete := range []Config{{JWKS: file, Issuer: "x"}, {JWKS: file, Audience: "x"}} {
		if _, err := New(incomplete); err == nil {
			t.Errorf("%+v is taken", incomplete)
		}
	}
}

// keyServer is a URL with a key set that changes, and may be away.
type keyServer struct {
	*httptest.Server
	set   atomic.Pointer[[]byte] // nil: away
	asked atomic.Int64
}

func serveKeys(t *testing.T, set []byte) *keyServer {
	s := &keyServer{}
	s.set.Store(&set)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		if set := s.set.Load(); set != nil {
			_, _ = w.Write(*set)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	return s
}

func TestKeySetOfAURL(t *testing.T) {
	c := newClock()
	public, private := edKey(t)
	next, nextPrivate := edKey(t)
	first := keySetOf(t, jose.JSONWebKey{Key: public, KeyID: "1"})
	both := keySetOf(t, jose.JSONWebKey{Key: public, KeyID: "1"}, jose.JSONWebKey{Key: next, KeyID: "2"})
	second := keySetOf(t, jose.JSONWebKey{Key: next, KeyID: "2"})
	s := serveKeys(t, first)
	v := verifier(t, tokenConfig(c, s.URL))
	long := good(c).with("exp", c.now().Add(24*time.Hour).Unix())
	old, rotated := sign(t, jose.EdDSA, "1", private, long), sign(t, jose.EdDSA, "2", nextPrivate, long)
	asked := func(want int64) {
		t.Helper()
		if got := s.asked.Swap(0); got != want {
			t.Errorf("the server was asked %d times, want %d", got, want)
		}
	}

	s.set.Store(nil)
	if _, err := v.Verify(t.Context(), old); !errors.Is(err, ErrUnavailable) {
		t.Errorf("before there were any keys: %v", err)
	}
	s.set.Store(&first)
	c.later(retryEvery)
	wants(t, v, old, "account ann")
	wants(t, v, old, "account ann")
	asked(2)

	// A key that is new is fetched when the first token comes that names it, but not for every token that names any.
	s.set.Store(&both)
	for range 5 {
		wants(t, v, rotated, "")
	}
	asked(0)
	c.later(retryEvery)
	wants(t, v, rotated, "account ann")
	wants(t, v, old, "account ann")
	asked(1)

	// A key that was taken out is good for urlEvery at most; with the server away, for as long as it is.
	s.set.Store(nil)
	c.later(urlEvery)
	wants(t, v, old, "account ann")
	asked(1)
	s.set.Store(&second)
	c.later(retryEvery)
	wants(t, v, old, "")
	wants(t, v, rotated, "account ann")
	asked(1)
}

// A URL that does not answer holds up no token whose key is known.
func TestAKeySetThatHangs(t *testing.T) {
	c := newClock()
	public, private := edKey(t)
	set := keySetOf(t, jose.JSONWebKey{Key: public, KeyID: "1"})
	hangs := atomic.Bool{}
	hung := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hangs.Load() {
			hung <- struct{}{}
			<-r.Context().Done()
			return
		}
		_, _ = w.Write(set)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	v := verifier(t, tokenConfig(c, s.URL))
	t.Cleanup(v.Close) // before the server, which waits for its requests
	long := good(c).with("exp", c.now().Add(24*time.Hour).Unix())
	seen, other := sign(t, jose.EdDSA, "1", private, long), sign(t, jose.EdDSA, "1", private, long.with("sub", "bob"))
	wants(t, v, seen, "account ann")
	hangs.Store(true)
	before := v.tokens.sets.last.Load()
	c.later(urlEvery)
	for range 100 {
		wants(t, v, seen, "account ann")
		wants(t, v, other, "account bob")
	}
	<-hung
	if v.tokens.sets.last.Load() != before {
		t.Error("tokens were held up until the server had been given up")
	}
}

// A token that was found to be good is good until it expires or its key is taken out, and not checked each time.
func TestCheckedTokens(t *testing.T) {
	c := newClock()
	public, private := edKey(t)
	other, _ := edKey(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(keys ...jose.JSONWebKey) {
		if err := os.WriteFile(file, keySetOf(t, keys...), 0o600); err != nil {
			t.Fatal(err)
		}
		c.later(fileEvery)
	}
	write(jose.JSONWebKey{Key: public, KeyID: "1"})
	v := verifier(t, tokenConfig(c, file))
	text := sign(t, jose.EdDSA, "1", private, good(c))
	first, err := v.Verify(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	write(jose.JSONWebKey{Key: public, KeyID: "1"}) // the same set
	if again, err := v.Verify(t.Context(), text); err != nil || again != first {
		t.Errorf("checked again: %p, and before %p: %v", again, first, err)
	}
	write(jose.JSONWebKey{Key: other, KeyID: "2"})
	wants(t, v, text, "")
	write(jose.JSONWebKey{Key: public, KeyID: "1"})
	wants(t, v, text, "account ann")
	c.later(time.Minute + leeway)
	wants(t, v, text, "")

	checked := &v.tokens.checked
	for i := range mostChecked + 10 {
		checked.keep(checked.set, [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, checkedToken{first, c.now()})
	}
	if n := len(checked.byHash); n > mostChecked {
		t.Errorf("%d tokens are remembered", n)
	}
}
