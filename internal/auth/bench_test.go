package auth

import (
	"crypto/elliptic"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// BenchmarkVerify is what credentials cost that this process sees for the first time.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	keys, jwks := filepath.Join(dir, "keys.json"), filepath.Join(dir, "jwks.json")
	_, key, err := CreateKey(keys, "backend", Scopes, 0, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	public, private := edKey(b)
	p256, rsa2048 := ecKey(b, elliptic.P256()), rsaKey(b)
	set := keySetOf(b, jose.JSONWebKey{Key: public, KeyID: "ed"}, jose.JSONWebKey{Key: p256.Public(), KeyID: "ec"},
		jose.JSONWebKey{Key: rsa2048.Public(), KeyID: "rsa"})
	if err := os.WriteFile(jwks, set, 0o600); err != nil {
		b.Fatal(err)
	}
	c := newClock()
	config := tokenConfig(c, jwks)
	config.KeysFile = keys
	v, err := New(config)
	if err != nil {
		b.Fatal(err)
	}
	for name, bearer := range map[string]string{
		"key": key, "EdDSA": sign(b, jose.EdDSA, "ed", private, good(c)), "ES256": sign(b, jose.ES256, "ec", p256, good(c)),
		"RS256": sign(b, jose.RS256, "rsa", rsa2048, good(c)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.tokens.checked.byHash = map[[32]byte]checkedToken{} // as if the token were new
				if _, err := v.Verify(b.Context(), bearer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
