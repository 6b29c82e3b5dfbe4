package auth

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// mostChecked bounds the tokens that are known to be good: some 200 bytes each.
const mostChecked = 20_000

// checkedTokens are tokens whose signatures were checked: a client sends the same one for minutes, and the check costs
// more than most requests. They are found by their hash, and are good as long as the key set is the one that they were
// checked with. It is safe for concurrent use.
type checkedTokens struct {
	mu     sync.Mutex
	set    *jose.JSONWebKeySet
	byHash map[[sha256.Size]byte]checkedToken
}

type checkedToken struct {
	caller  *Caller
	expires time.Time
}

func (c *checkedTokens) find(set *jose.JSONWebKeySet, hash [sha256.Size]byte, now time.Time) *Caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, known := c.byHash[hash]; known && c.set == set && !now.Add(-leeway).After(t.expires) {
		return t.caller
	}
	return nil
}

// keep forgets all others when there are too many, or the key set is another one.
func (c *checkedTokens) keep(set *jose.JSONWebKeySet, hash [sha256.Size]byte, t checkedToken) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set != set || len(c.byHash) >= mostChecked {
		c.set, c.byHash = set, map[[sha256.Size]byte]checkedToken{}
	}
	c.byHash[hash] = t
}
