package views

import (
	"sync"
	"sync/atomic"
)

// waits are the goroutines that wait for rows to change. A wait that joined before a change is woken by it: who joins,
// looks, and then waits misses nothing.
type waits struct {
	waiting atomic.Int64 // spares the records of a recovery the lock
	mu      sync.Mutex
	byKey   map[string]map[chan struct{}]struct{}
}

// join returns a channel that gets a value after each change of the row, and what to call when the wait is over.
func (w *waits) join(key string) (<-chan struct{}, func()) {
	wake := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byKey == nil {
		w.byKey = make(map[string]map[chan struct{}]struct{})
	}
	if w.byKey[key] == nil {
		w.byKey[key] = make(map[chan struct{}]struct{})
	}
	w.byKey[key][wake] = struct{}{}
	w.waiting.Add(1)
	return wake, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.byKey[key], wake)
		if len(w.byKey[key]) == 0 {
			delete(w.byKey, key)
		}
		w.waiting.Add(-1)
	}
}

func (w *waits) wake(key string) {
	if w.waiting.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for wake := range w.byKey[key] {
		select {
		case wake <- struct{}{}:
		default: // it has yet to see an earlier change, and will see this one with it
		}
	}
}
