package sim

import (
	"freshet"
	"freshet/views"
)

// closing is a record of profiles: the account is closed, for good.
type closing struct{ account freshet.Number }

// accounts is an API process' lagging view of which accounts are closed.
type accounts struct {
	w      *world
	at     []int64
	until  []int64 // what it has to reach before it answers
	closed map[freshet.Number]int
}

func newAccounts(w *world) *accounts {
	v := &accounts{w: w, at: make([]int64, w.partitions), closed: map[freshet.Number]int{}}
	for p := range w.partitions {
		v.until = append(v.until, w.profiles.end(p))
	}
	return v
}

// ByNumber implements views.Directory.
func (v *accounts) ByNumber(n freshet.Number) (freshet.Account, bool, error) {
	for p, at := range v.at {
		if at < v.until[p] {
			return freshet.Account{}, false, views.ErrNotReady
		}
	}
	_, closed := v.closed[n]
	if v.w.mutated("posts of closed accounts shown") {
		closed = false
	}
	return freshet.Account{Number: n, Closed: closed}, true, nil
}

func (v *accounts) behind() bool {
	for p, at := range v.at {
		if at < v.w.profiles.end(p) {
			return true
		}
	}
	return false
}

func (v *accounts) step() {
	for p, at := range v.at {
		if at < v.w.profiles.end(p) {
			c, _ := v.w.profiles.parts[p][at].value.(closing)
			if _, known := v.closed[c.account]; !known {
				v.closed[c.account] = v.w.step
			}
			v.at[p]++
			return
		}
	}
}

// close is what DELETE of an account does: the log, and this process' own view.
func (a *api) close(n freshet.Number) {
	w := a.w
	a.client("close", func(c *coro) {
		if _, err := a.produce(c, w.profiles, n.Key(), closing{n}, w.now.Add(produceTimeout)); err != nil {
			return
		}
		c.until(func() bool {
			_, closed := a.accounts.closed[n]
			return closed
		})
		w.count("client: close")
	})
}
