package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// keyPrefix begins every service key, so that they can be told from tokens, and found by scanners of leaked secrets.
const keyPrefix = "fsk_"

// keysEvery is how long a process may go on with keys that were revoked.
const keysEvery = time.Second

// Key is a service key as its file keeps it.
type Key struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Scopes    []Scope    `json:"scopes"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // nil: never
	// Hash is the SHA-256 of the key, in hexadecimal. A key holds 256 random bits, which nobody can try out, so it needs
	// none of the slowness that protects passwords, and a request costs one hash.
	Hash string `json:"hash"`
}

// Expired says whether the key is of no use any more.
func (k *Key) Expired(now time.Time) bool { return k.ExpiresAt != nil && !now.Before(*k.ExpiresAt) }

// ErrUnknownKey is returned by RevokeKey.
var ErrUnknownKey = errors.New("there is no such key")

// IsKey says whether a text looks like a service key.
func IsKey(s string) bool { return strings.HasPrefix(s, keyPrefix) }

// keySet is found in by the hash. Looking a hash up takes a time that depends on the hashes, and who tries keys has no
// hand in the hash of the next one: so nothing about a key can be learnt by measuring.
type keySet map[[sha256.Size]byte]*Key

type keyFile struct {
	Keys []Key `json:"keys"`
}

// keysOf reads the file again when it has changed.
func keysOf(c Config) *reloaded[keySet] {
	var (
		read fs.FileInfo
		last *keySet
	)
	load := func(context.Context) (*keySet, error) {
		info, err := os.Stat(c.KeysFile)
		if err != nil {
			return nil, fmt.Errorf("read service keys: %w; freshet keys create makes the file", err)
		}
		if read != nil && os.SameFile(read, info) && read.ModTime().Equal(info.ModTime()) && read.Size() == info.Size() {
			return last, nil
		}
		keys, err := ReadKeys(c.KeysFile)
		if err != nil {
			return nil, err
		}
		set := make(keySet, len(keys))
		for i := range keys {
			hash, err := hex.DecodeString(keys[i].Hash)
			if err != nil || len(hash) != sha256.Size {
				return nil, fmt.Errorf("read service keys from %s: the hash of key %q is not a SHA-256", c.KeysFile, keys[i].ID)
			}
			set[[sha256.Size]byte(hash)] = &keys[i]
		}
		read, last = info, &set
		return last, nil
	}
	return &reloaded[keySet]{what: c.KeysFile, load: load, retry: keysEvery, log: c.Log, now: c.Now}
}

func (v *Verifier) key(ctx context.Context, text string) (*Caller, error) {
	set, err := v.keys.get(ctx, keysEvery, true)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	key, known := (*set)[sha256.Sum256([]byte(text))]
	switch {
	case !known:
		return nil, fmt.Errorf("%w: the service key is unknown or revoked", ErrRejected)
	case key.Expired(v.keys.now()):
		return nil, fmt.Errorf("%w: the service key has expired", ErrRejected)
	}
	return &Caller{Key: key.ID, Scopes: key.Scopes}, nil
}

// ReadKeys reads a file of keys. One that others may read is refused: hashes give no key away, but names and scopes
// are nobody's business, and who may read may often write.
func ReadKeys(file string) ([]Key, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read service keys: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read service keys: %s has the mode %#o; chmod 600 it", file, info.Mode().Perm())
	}
	data, err := os.ReadFile(file) //nolint:gosec // the operator's own file
	if err != nil {
		return nil, fmt.Errorf("read service keys: %w", err)
	}
	var f keyFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("read service keys from %s: %w", file, err)
	}
	return f.Keys, nil
}

// CreateKey adds a key to the file, which it makes if it is not there, and returns its text, which is nowhere else.
// A life of 0 never ends.
func CreateKey(file, name string, scopes []Scope, life time.Duration, now time.Time) (key Key, text string, err error) {
	for _, s := range scopes {
		if !slices.Contains(Scopes, s) {
			return Key{}, "", fmt.Errorf("unknown scope %q: want some of %v", s, Scopes)
		}
	}
	if len(scopes) == 0 {
		return Key{}, "", fmt.Errorf("a key without a scope is good for nothing: want some of %v", Scopes)
	}
	var id [6]byte
	var secret [32]byte
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(secret[:])
	key = Key{ID: hex.EncodeToString(id[:]), Name: name, Scopes: scopes, CreatedAt: now.UTC().Truncate(time.Millisecond)}
	if life > 0 {
		end := key.CreatedAt.Add(life)
		key.ExpiresAt = &end
	}
	text = keyPrefix + key.ID + "." + base64.RawURLEncoding.EncodeToString(secret[:])
	hash := sha256.Sum256([]byte(text))
	key.Hash = hex.EncodeToString(hash[:])
	err = change(file, func(keys []Key) ([]Key, error) { return append(keys, key), nil })
	return key, text, err
}

// RevokeKey removes a key from the file. Processes notice within a second.
func RevokeKey(file, id string) error {
	return change(file, func(keys []Key) ([]Key, error) {
		i := slices.IndexFunc(keys, func(k Key) bool { return k.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("revoke key %q: %w", id, ErrUnknownKey)
		}
		return slices.Delete(keys, i, i+1), nil
	})
}

// change replaces the file as a whole, one change at a time, so that a process that reads it meanwhile reads the old or
// the new one.
func change(file string, to func([]Key) ([]Key, error)) (err error) {
	lock := flock.New(file+".lock", flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("change service keys: lock %s: %w", lock.Path(), err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	keys, err := ReadKeys(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if keys, err = to(keys); err != nil {
		return err
	}
	data, err := json.MarshalIndent(keyFile{Keys: keys}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode service keys: %w", err)
	}
	// CreateTemp makes files that nobody else can read.
	temporary, err := os.CreateTemp(filepath.Dir(file), ".freshet-keys-*")
	if err != nil {
		return fmt.Errorf("change service keys: %w", err)
	}
	_, err = temporary.Write(append(data, '\n'))
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("change service keys: %w", errors.Join(err, os.Remove(temporary.Name())))
	}
	return nil
}
