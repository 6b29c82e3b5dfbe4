package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
)

// Small feeds, pages and few zones, so that a few accounts come to the end of each.
const (
	denseAccounts = 48
	denseClients  = 16
	denseWork     = 100 // operations of a client in a phase
)

var denseFlags = []string{"--zones", strconv.Itoa(zones), "--feed-length", "160", "--page-size", "4"}

// TestDense: a few accounts do everything to each other, at first undisturbed, then under one fault after another.
// After each phase every account reads what the definition says.
func TestDense(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	dir := filepath.Join(t.TempDir(), "data")
	flags := append([]string{"--data", dir}, denseFlags...)
	r.proc = start(t, flags...)
	inParallel(make([]int, denseAccounts), r.registerer())
	clients := r.newClients(denseClients)

	phase := func(name string, work int, faults ...fault) {
		r.phase(name, clients, work, busy, faults...)
		r.compare(name)
	}
	killed := func(name string, end func(*process), first ...fault) {
		r.ended(name, clients, denseWork/3, busy, flags, end, first...)
		r.compare(name)
	}
	phase("undisturbed", denseWork)
	for round := range rounds(t) {
		in := func(name string) string { return fmt.Sprintf("round %d, %s", round, name) }
		for _, f := range []fault{flushAll, deleteZones, seekBack} {
			phase(in(f.name), denseWork, f)
		}
		killed(in("kill"), (*process).kill)
		killed(in("kill soon after a reset"), (*process).kill, seekBack)
		phase(in("FLUSHALL soon after a kill"), denseWork/3, flushAll)
		killed(in("Ctrl-C"), func(p *process) { p.stop() })
	}
	r.proc.stop()
	r.wantAll("post", "delete", "delete again", "look", "follow", "refused follow", "unfollow", "mute", "unmute", "block",
		"unblock", "register", "close", "register again")
}
