package auth

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) later(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func verifier(t *testing.T, c Config) *Verifier {
	t.Helper()
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// wants checks who the caller is, "" for nobody: what is refused is refused for good.
func wants(t *testing.T, v *Verifier, bearer, name string) {
	t.Helper()
	caller, err := v.Verify(t.Context(), bearer)
	switch {
	case name == "" && !errors.Is(err, ErrRejected):
		t.Errorf("%+v %v, want the credentials rejected", caller, err)
	case name != "" && (err != nil || caller.Name() != name):
		t.Errorf("%+v %v, want %s", caller, err, name)
	case err != nil && len(bearer) > 10 && strings.Contains(err.Error(), bearer):
		t.Errorf("the error tells the secret: %v", err)
	}
}

func TestKeys(t *testing.T) {
	c := newClock()
	file := filepath.Join(t.TempDir(), "keys.json")
	if _, err := New(Config{KeysFile: file}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	first, text, err := CreateKey(file, "backend", []Scope{Read, Write}, 0, c.now())
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(t, Config{KeysFile: file, Now: c.now})
	wants(t, v, text, "key "+first.ID)
	caller, err := v.Verify(t.Context(), text)
	if err != nil || !caller.Service() || !caller.May(Read) || !caller.May(Write) {
		t.Errorf("%+v %v", caller, err)
	}
	for _, wrong := range []string{"", "x", text[:len(text)-1], text + "A", "fsk_", first.Hash, strings.ToUpper(text)} {
		wants(t, v, wrong, "")
	}

	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info.Mode(), err)
	}
	_, secret, _ := strings.Cut(text, ".")
	if bytes.Contains(data, []byte(secret)) {
		t.Error("the file has the key itself")
	}

	// What another process does to the file is noticed within a second.
	second, another, err := CreateKey(file, "reports", []Scope{Read}, time.Hour, c.now())
	if err != nil {
		t.Fatal(err)
	}
	if err := RevokeKey(file, first.ID); err != nil {
		t.Fatal(err)
	}
	wants(t, v, text, "key "+first.ID)
	c.later(keysEvery)
	wants(t, v, text, "")
	wants(t, v, another, "key "+second.ID)
	if caller, err := v.Verify(t.Context(), another); err != nil || !caller.May(Read) || caller.May(Write) {
		t.Errorf("%+v %v", caller, err)
	}
	c.later(time.Hour - keysEvery - time.Millisecond)
	wants(t, v, another, "key "+second.ID)
	c.later(time.Millisecond)
	wants(t, v, another, "")

	if err := RevokeKey(file, first.ID); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("revoked twice: %v", err)
	}
	for _, scopes := range [][]Scope{nil, {"admin"}} {
		if _, _, err := CreateKey(file, "x", scopes, 0, c.now()); err == nil {
			t.Errorf("a key with the scopes %v was made", scopes)
		}
	}
	keys, err := ReadKeys(file)
	if err != nil || len(keys) != 1 || keys[0].Name != "reports" {
		t.Errorf("%+v %v", keys, err)
	}
}

// A file that is broken or open to others is refused at the start, and later changes nothing.
func TestKeysFileThatCannotBeRead(t *testing.T) {
	c := newClock()
	file := filepath.Join(t.TempDir(), "keys.json")
	key, text, err := CreateKey(file, "backend", Scopes, 0, c.now())
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(t, Config{KeysFile: file, Now: c.now})
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string][]byte{
		"cut": good[:len(good)/2], "hash": bytes.Replace(good, []byte(key.Hash), []byte("ab"), 1),
	} {
		if err := os.WriteFile(file, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{KeysFile: file}); err == nil {
			t.Errorf("%s: taken at the start", name)
		}
		c.later(keysEvery)
		wants(t, v, text, "key "+key.ID)
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{KeysFile: file}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that the group reads: %v", err)
	}
}

func TestKeysAreChangedOneAfterAnother(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, _, err := CreateKey(file, "k", Scopes, 0, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if keys, err := ReadKeys(file); err != nil || len(keys) != 10 {
		t.Errorf("%d keys, want 10: %v", len(keys), err)
	}
}
