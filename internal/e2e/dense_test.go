package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// Small feeds, pages and few zones, and a limit to how many followers an author may have before it is pulled, so that a
// few accounts come to the end of each.
const (
	denseAccounts = 48
	denseClients  = 16
	denseWork     = 50 // operations of a client in a phase
)

var (
	smallFlags = []string{"--zones", strconv.Itoa(zones), "--feed-length", "160", "--page-size", "4"}
	denseFlags = append([]string{"--pull-above", "5"}, smallFlags...)
)

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
	work := denseWork * work(t)

	phase := func(name string, work int, faults ...fault) {
		r.phase(name, clients, work, busy, faults...)
		r.compare(name)
	}
	// Another limit makes many accounts at once leave pull, or come to it, at their next posts.
	killed := func(name string, limit int, end func(*process), first ...fault) {
		limited := append(slices.Clone(flags), "--pull-above", strconv.Itoa(limit))
		r.ended(name, clients, 2*work/3, busy, limited, end, first...)
		r.compare(name)
	}
	phase("undisturbed", work)
	for round := range rounds(t) {
		in := func(name string) string { return fmt.Sprintf("round %d, %s", round, name) }
		for _, f := range []fault{flushAll, deleteZones, seekBack} {
			phase(in(f.name), work, f)
		}
		killed(in("kill"), 30, (*process).kill)
		killed(in("kill soon after a reset"), 5, (*process).kill, seekBack)
		phase(in("FLUSHALL soon after a kill"), 2*work/3, flushAll)
		killed(in("Ctrl-C"), 10, func(p *process) { p.stop() })
		phase(in("after Ctrl-C"), 2*work/3)
	}
	r.wantCrossings()
	r.proc.stop()
	r.wantAll("post", "edit", "delete", "delete again", "look", "follow", "refused follow", "unfollow", "mute", "unmute",
		"block", "unblock", "register", "close", "register again")
}
