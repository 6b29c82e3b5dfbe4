//go:build real

package e2e

import (
	"fmt"
	"testing"
	"time"

	"freshet/internal/crash"
)

// crashing says which roles come past a point, and how often they may at most before it is their last time.
var crashing = map[crash.Point]struct {
	roles []string
	often int
}{
	crash.Published:       {[]string{"api"}, 50},
	crash.Flushed:         {[]string{"fanout"}, 200},
	crash.Noted:           {[]string{"fanout"}, 5},
	crash.RowSet:          {[]string{"fanout", "following"}, 200},
	crash.RowAcknowledged: {[]string{"fanout", "following"}, 200},
	crash.Compacting:      {[]string{"fanout"}, 4},
	crash.Building:        {[]string{"api"}, 10},
}

// TestRealCrashes: processes are killed where that would hurt most.
func TestRealCrashes(t *testing.T) {
	t.Parallel()
	d := deploy(t, 1)
	random := d.random(1 << 32)
	d.under("calm", func() { d.accepts() })
	for _, i := range random.Perm(len(crash.Points)) {
		point := crash.Points[i]
		if point == crash.Saved { // TestRealSavedPosts
			continue
		}
		at, known := crashing[point]
		if !known {
			t.Errorf("nobody comes past %s", point)
			continue
		}
		env := fmt.Sprintf("%s=%s:%d", crash.Env, point, 3+random.IntN(at.often))
		role := at.roles[random.IntN(len(at.roles))]
		if role == "api" {
			d.apiCrashes(env, point == crash.Building)
			continue
		}
		d.under("crash "+env+" of "+role, func() { d.crashes(d.first(role), env) })
	}
}

// first is the first process of a role.
func (d *deployment) first(role string) int {
	for i, p := range d.others {
		if p.cmd.Args[2] == role {
			return i
		}
	}
	d.t.Fatalf("there is no %s", role)
	return 0
}

// crashes starts a process again that will come to its point, waits for its end, and starts it once more.
func (d *deployment) crashes(i int, env string) {
	d.t.Helper()
	d.others[i].stop()
	doomed := d.again(d.others[i], env)
	begun := time.Now()
	doomed.awaitKilled()
	d.t.Logf("%s: killed itself after %s", env, since(begun))
	d.accepts()
	d.others[i] = d.again(doomed)
	d.others[i].awaitReady()
}

// apiCrashes lets the API come to its point while clients work.
func (d *deployment) apiCrashes(env string, cold bool) {
	d.t.Helper()
	d.proc.stop()
	d.proc = d.role(d.proc.listen, "api", env)
	d.proc.awaitReady()
	d.quiet()
	d.proc.killed.Store(true) // from now on it may end at any time
	d.broken.Store(true)
	var first []fault
	if cold {
		first = append(first, flushAll)
	}
	d.ended("crash "+env+" of api", d.clients, 1, busy, nil, (*process).awaitKilled, first...)
	d.broken.Store(false)
	d.compare("crash " + env)
}
