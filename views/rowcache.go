package views

import (
	"container/list"
	"sync"

	"freshet"
)

// maxCachedRelations bounds the decoded rows that are kept: at 40 bytes a relation, about 80 MB.
const maxCachedRelations = 2_000_000

// rowCache keeps decoded rows, the most recently used ones, up to a number of relations in all. A row is forgotten when
// it changes; one that changes while it is being loaded is not kept, so that a loader that read the older row cannot
// leave it behind.
type rowCache struct {
	mu    sync.Mutex
	limit int
	held  int
	byKey map[string]*list.Element // of *cachedRow
	used  *list.List               // the most recently used first
}

type cachedRow struct {
	key    string
	row    *freshet.Following
	loaded bool
	cost   int
}

func newRowCache(limit int) *rowCache {
	return &rowCache{limit: limit, byKey: make(map[string]*list.Element), used: list.New()}
}

// get returns the row from the cache or from load.
func (c *rowCache) get(key string, load func() (*freshet.Following, error)) (*freshet.Following, error) {
	c.mu.Lock()
	e, ok := c.byKey[key]
	if ok && e.Value.(*cachedRow).loaded {
		c.used.MoveToFront(e)
		row := e.Value.(*cachedRow).row
		c.mu.Unlock()
		return row, nil
	}
	if !ok { // otherwise somebody is loading it: share the place, since both read what was not invalidated since
		e = c.used.PushFront(&cachedRow{key: key})
		c.byKey[key] = e
	}
	c.mu.Unlock()

	row, err := load()

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[key] != e {
		return row, err
	}
	if err != nil {
		c.remove(e)
		return nil, err
	}
	if entry := e.Value.(*cachedRow); !entry.loaded {
		entry.row, entry.loaded, entry.cost = row, true, cost(row)
		c.held += entry.cost
	}
	for c.held > c.limit && c.used.Len() > 1 {
		c.remove(c.used.Back())
	}
	return row, nil
}

// invalidate forgets a row that has changed, and keeps those who are loading it from leaving it here.
func (c *rowCache) invalidate(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.remove(e)
	}
}

func (c *rowCache) remove(e *list.Element) {
	entry := e.Value.(*cachedRow)
	delete(c.byKey, entry.key)
	c.used.Remove(e)
	c.held -= entry.cost
}

// cost of a row in relations; the entry itself costs as much as a few.
func cost(row *freshet.Following) int {
	if row == nil {
		return 4
	}
	return 4 + len(row.Relations) + len(row.Muted)/4 + len(row.Blocked)/4
}
