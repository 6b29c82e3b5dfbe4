package views

import (
	"strings"
	"sync"

	"freshet"
)

// accountCache keeps accounts by their numbers: a page of posts asks for each author, and finding it in the table takes
// two rows. It is safe for concurrent use.
type accountCache struct {
	mu       sync.RWMutex
	byNumber map[freshet.Number]freshet.Account
	numbers  map[freshet.AccountID][]freshet.Number // the keys of byNumber, by the id that they had
	changes  int                                    // calls of invalidate
	capacity int
}

func newAccountCache(capacity int) *accountCache {
	return &accountCache{
		byNumber: map[freshet.Number]freshet.Account{}, numbers: map[freshet.AccountID][]freshet.Number{},
		capacity: capacity,
	}
}

// get answers the account if it is kept, and a ticket for put, drawn before the rows are read.
func (c *accountCache) get(n freshet.Number) (account freshet.Account, ok bool, ticket int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	account, ok = c.byNumber[n]
	return account, ok, c.changes
}

// put keeps an account, unless a row has changed since the ticket was drawn: it may be one that was read. What is kept
// is dropped all at once when it is too much.
func (c *accountCache) put(n freshet.Number, account freshet.Account, ticket int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.byNumber[n]; known || ticket != c.changes {
		return
	}
	if len(c.byNumber) >= c.capacity {
		clear(c.byNumber)
		clear(c.numbers)
	}
	c.byNumber[n] = account
	c.numbers[account.ID] = append(c.numbers[account.ID], n)
}

// invalidate forgets what comes from a row that has changed: that of an id or that of a number.
func (c *accountCache) invalidate(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	id := freshet.AccountID(key)
	if text, ok := strings.CutPrefix(key, freshet.NumberKeyPrefix); ok {
		n, err := freshet.ParseNumber(text)
		if err != nil {
			return // no account has such a number
		}
		id = c.byNumber[n].ID // and all its numbers with it; they are hardly ever more than one
	}
	for _, n := range c.numbers[id] {
		delete(c.byNumber, n)
	}
	delete(c.numbers, id)
}
