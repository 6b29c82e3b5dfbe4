package views

import (
	"container/list"
	"sync"

	"freshet"
)

// maxCachedRelations bounds the decoded rows that are kept: at 40 bytes a relation, about 80 MB.
const maxCachedRelations = 2_000_000

// rowCache keeps decoded rows, the most recently used ones, up to a limit on what they cost in all. A row is forgotten
// when it changes; one that changes while it is being loaded is not kept, so that a loader that read the older row
// cannot leave it behind.
type rowCache[V any] struct {
	cost  func(V) int
	mu    sync.Mutex
	limit int
	held  int
	byKey map[string]*list.Element // of *cachedRow[V]
	used  *list.List               // the most recently used first
}

type cachedRow[V any] struct {
	key    string
	row    V
	loaded bool
	cost   int
}

func newRowCache[V any](limit int, cost func(V) int) *rowCache[V] {
	return &rowCache[V]{cost: cost, limit: limit, byKey: make(map[string]*list.Element), used: list.New()}
}

// get returns the row from the cache or from load.
func (c *rowCache[V]) get(key string, load func() (V, error)) (V, error) {
	c.mu.Lock()
	e, ok := c.byKey[key]
	if ok && e.Value.(*cachedRow[V]).loaded {
		c.used.MoveToFront(e)
		row := e.Value.(*cachedRow[V]).row
		c.mu.Unlock()
		return row, nil
	}
	if !ok { // otherwise somebody is loading it: share the place, since both read what was not invalidated since
		e = c.used.PushFront(&cachedRow[V]{key: key})
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
		return row, err
	}
	if entry := e.Value.(*cachedRow[V]); !entry.loaded {
		entry.row, entry.loaded, entry.cost = row, true, c.cost(row)
		c.held += entry.cost
	}
	for c.held > c.limit && c.used.Len() > 1 {
		c.remove(c.used.Back())
	}
	return row, nil
}

// invalidate forgets a row that has changed, and keeps those who are loading it from leaving it here.
func (c *rowCache[V]) invalidate(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.remove(e)
	}
}

func (c *rowCache[V]) remove(e *list.Element) {
	entry := e.Value.(*cachedRow[V])
	delete(c.byKey, entry.key)
	c.used.Remove(e)
	c.held -= entry.cost
}

// costOfRow is in relations; the entry itself costs as much as a few.
func costOfRow(row *freshet.Following) int {
	if row == nil {
		return 4
	}
	return 4 + len(row.Relations) + len(row.Muted)/4 + len(row.Blocked)/4
}
