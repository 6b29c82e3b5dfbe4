package kafka

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// State is how a part of the program is doing.
type State string

// The states of a part.
const (
	Starting State = "starting"
	Running  State = "running"
	Failed   State = "failed"
)

// PartStatus is the state of a part.
type PartStatus struct {
	Name  string
	State State
	// Since is when the part entered the state.
	Since time.Time
	// Err is why it failed last; it stays while the part starts again, and is nil once it runs.
	Err error
}

// Health keeps the states of the named parts of a program. The zero value is ready to use, and it is safe for
// concurrent use.
type Health struct {
	mu    sync.Mutex
	parts map[string]PartStatus
}

// Starting notes that a part is starting; a part is first known by this call, so make it before anything is served.
func (h *Health) Starting(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(name, Starting, h.parts[name].Err)
}

// Running notes that a part does its work.
func (h *Health) Running(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(name, Running, nil)
}

// Failed notes that a part has failed.
func (h *Health) Failed(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(name, Failed, err)
}

// Remove forgets a part.
func (h *Health) Remove(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.parts, name)
}

// Parts lists the parts by name.
func (h *Health) Parts() []PartStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	parts := make([]PartStatus, 0, len(h.parts))
	for _, p := range h.parts {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b PartStatus) int { return cmp.Compare(a.Name, b.Name) })
	return parts
}

// Ready says whether every part is running, and lists those that are not.
func (h *Health) Ready() (bool, []PartStatus) {
	missing := slices.DeleteFunc(h.Parts(), func(p PartStatus) bool { return p.State == Running })
	return len(missing) == 0, missing
}

func (h *Health) set(name string, state State, err error) {
	if h.parts == nil {
		h.parts = map[string]PartStatus{}
	}
	since := time.Now()
	if old, ok := h.parts[name]; ok && old.State == state {
		since = old.Since
	}
	h.parts[name] = PartStatus{Name: name, State: state, Since: since, Err: err}
}
