package sim

import (
	"errors"
	"time"
)

// proc is a process: what dies together.
type proc struct {
	w        *world
	name     string
	alive    bool
	pausedTo int // the step until which it stands still, without knowing
	producer *producer
	started  int // how many times
	// setBack is how much less its host's clock says than that of most others.
	setBack time.Duration
	onStart func()
	onDeath func()
}

var errTimeout = errors.New("kafka did not acknowledge in time")

func (w *world) newProc(name string) *proc {
	p := &proc{w: w, name: name}
	p.producer = &producer{w: w, owner: p}
	w.procs = append(w.procs, p)
	return p
}

func (p *proc) runs() bool { return p.alive && (p.w.step >= p.pausedTo || p.w.quiet) }

func (p *proc) now() time.Time { return p.w.now.Add(-p.setBack) }

func (p *proc) start() {
	p.alive, p.pausedTo = true, 0
	p.started++
	p.w.tracef("%s starts !", p.name)
	if p.onStart != nil {
		p.onStart()
	}
}

func (p *proc) die() {
	if !p.alive {
		return
	}
	p.w.tracef("%s dies !", p.name)
	p.alive = false
	for _, c := range p.w.coros {
		if c.owner == p {
			c.kill()
		}
	}
	p.w.forgetCoros()
	p.producer.die()
	if p.onDeath != nil {
		p.onDeath()
	}
}
