package sim

import (
	"context"
	"iter"
)

// coro runs code that waits (for Redis, the post store, an acknowledgement) so that only one runs at a time and each
// wait gives way to the scheduler. Killing it unwinds its stack there, as the death of its process would end it.
type coro struct {
	w     *world
	owner *proc
	name  string
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	ready func() bool // nil: at once
	stuck int         // the step until which it stands still for no reason
	ended bool
	// For mutations: the build that it has begun, and whether it reads below the floor.
	build uint64
	below bool
}

// killed is thrown through the code of a coro whose process died.
type killed struct{}

// spawn makes a coro of a process.
func (w *world) spawn(owner *proc, name string, body func(c *coro)) *coro {
	c := &coro{w: w, owner: owner, name: name}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			c.ended = true
			if r := recover(); r != nil {
				if _, ok := r.(killed); !ok {
					panic(r)
				}
			}
		}()
		c.yield = yield
		body(c)
	})
	w.coros = append(w.coros, c)
	return c
}

// pass gives way to everybody else.
func (c *coro) pass() { c.until(nil) }

// until gives way until ready.
func (c *coro) until(ready func() bool) {
	c.ready = ready
	if stick := c.w.pace.stick; c.w.chance(stick) || c.name == c.w.pace.victim && c.w.chance(8) {
		c.stuck = c.w.step + c.w.rng.IntN(400)
	}
	if !c.yield(struct{}{}) {
		panic(killed{})
	}
	c.ready = nil
}

func (c *coro) kill() {
	if !c.ended {
		c.stop()
		c.ended = true
	}
}

// run takes the coro to its next wait; false if it cannot go on now.
func (c *coro) run() bool {
	if c.ended || c.w.step < c.stuck && !c.w.quiet || !c.owner.runs() || c.ready != nil && !c.ready() {
		return false
	}
	before := c.w.current
	c.w.current = c
	c.next()
	c.w.current = before
	return true
}

// stepCoro runs one coro, picked at random among those that can go on.
func (w *world) stepCoro() bool {
	if len(w.coros) == 0 {
		return false
	}
	start := w.rng.IntN(len(w.coros))
	for i := range w.coros {
		c := w.coros[(start+i)%len(w.coros)]
		if !c.run() {
			continue
		}
		if c.ended {
			w.forgetCoros()
		}
		return true
	}
	return false
}

func (w *world) forgetCoros() {
	kept := w.coros[:0]
	for _, c := range w.coros {
		if !c.ended {
			kept = append(kept, c)
		}
	}
	clear(w.coros[len(kept):])
	w.coros = kept
}

// background is the context of everything here; nothing waits by it.
var background = context.Background()
