package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// client does one operation after another, in the name of accounts that are its own.
type client struct {
	*run
	name  string
	rand  *rand.Rand
	own   []*Account
	posts []*Post       // of its accounts, not deleted
	count int           // of posts and accounts, for their names
	seen  readers       // pages that it read itself
	pace  time.Duration // between two operations, at least
}

// newClients share the accounts out.
func (r *run) newClients(n int) []*client {
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = &client{run: r, name: "c" + strconv.Itoa(i), rand: r.random(uint64(i + 1))}
	}
	for i, a := range r.ledger.open() {
		c := clients[i%n]
		c.own = append(c.own, a)
	}
	return clients
}

// pace keeps what takes long from making so much meanwhile that comparing it takes longer.
const pace = 100 * time.Millisecond

// longestOutage is longer than any server is away on purpose.
const longestOutage = 5 * time.Minute

// errLost ends a client: the process was killed before it had answered.
var errLost = errors.New("the process was killed")

// ask sends a request until it is answered with something else than "not now", which a delete may be while Redis is
// being recovered, and nothing else may be while the process lives and no server is away.
func (c *client) ask(method, path string, body any, patient bool) (answer, error) {
	deadline := time.Now().Add(patience())
	if c.broken.Load() {
		deadline = deadline.Add(longestOutage)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for again := false; ; again = true {
		excused := c.broken.Load() && method != http.MethodPost // which would post twice
		a, err := request(c.http, method, c.proc.url()+"/v1"+path, body)
		a.again = again
		switch {
		case err != nil && c.proc.killed.Load():
			return a, errLost
		case err != nil:
			c.t.Errorf("%s %s: %v", method, path, err)
			return a, err
		case (patient || excused) && a.status == http.StatusServiceUnavailable && time.Now().Before(deadline):
			c.retried.Add(1)
			if a.header.Get("Retry-After") == "" {
				c.t.Errorf("%s %s: %s without Retry-After", method, path, a)
			}
			<-tick.C
			continue
		}
		return a, nil
	}
}

// expect is ask for a request that has one right answer. One that had been answered "not now" may have happened all the
// same, so it may be answered as one that is sent twice.
func (c *client) expect(status int, method, path string, body any) (answer, error) {
	a, err := c.ask(method, path, body, false)
	second := map[int]int{http.StatusCreated: http.StatusOK, http.StatusAccepted: http.StatusNotFound}[status]
	if err == nil && a.status != status && (!a.again || a.status != second) {
		c.t.Errorf("%s %s: %s, want %d", method, path, a, status)
		return a, fmt.Errorf("status %d", a.status)
	}
	return a, err
}

// work does n operations, fewer when the process is killed or something is wrong.
func (c *client) work(n int, operations []operation) {
	total := 0
	for _, o := range operations {
		total += o.weight
	}
	tick := time.NewTicker(max(c.pace, 1))
	defer tick.Stop()
	for range n {
		if c.enough.Load() {
			return
		}
		if c.pace > 0 {
			<-tick.C
		}
		pick := c.rand.IntN(total)
		for _, o := range operations {
			if pick -= o.weight; pick < 0 {
				if o.do(c) != nil {
					return
				}
				break
			}
		}
	}
}
