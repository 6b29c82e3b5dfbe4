package e2e

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// A network as they are, for each unit of work.
const (
	crowd   = 1050 // accounts
	starred = 1000 // of them, who follow the star
	fanOf   = 250  // accounts that the fan follows
)

// TestPowerLaw: a network as they are, with an account that 1,000 follow and one that follows 250, imported from a
// file. Its trees have many pages, its faults hit many blocks, and every account reads what the definition says.
func TestPowerLaw(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	dir := filepath.Join(t.TempDir(), "data")
	flags := []string{"--data", dir, "--zones", strconv.Itoa(zones), "--page-size", "64"}
	r.proc = start(t, flags...)
	r.importGraph(work(t))
	clients := r.newClients(16)

	const work = 45
	crowded := []operation{
		{40, (*client).post}, {10, (*client).delete}, {4, (*client).look},
		{20, relate("follow", http.MethodPut, "following")}, {16, relate("unfollow", http.MethodDelete, "following")},
		{3, relate("mute", http.MethodPut, "muted")}, {2, relate("block", http.MethodPut, "blocked")},
		{2, relate("unblock", http.MethodDelete, "blocked")}, {2, (*client).register}, {1, (*client).closeAccount},
	}
	r.phase("undisturbed", clients, work, crowded)
	r.compareFeeds("undisturbed")
	for round := range rounds(t) {
		broken, killed := fmt.Sprintf("round %d, reset and FLUSHALL", round), fmt.Sprintf("round %d, kill", round)
		r.phase(broken, clients, 2*work, crowded, seekBack, flushAll)
		r.compareFeeds(broken)
		r.ended(killed, clients, work/3, crowded, flags, (*process).kill)
		r.compare(killed)
	}
	r.proc.stop()
	r.wantAll("post", "delete", "look", "follow", "unfollow", "mute", "block", "register", "close")
}

// importGraph makes the network and brings it in with the tool for that.
func (r *run) importGraph(work int) {
	r.t.Helper()
	crowd, starred, fanOf := crowd*work, starred*work, fanOf*work
	random := r.random(1 << 33)
	accounts := make([]*Account, crowd)
	for i := range accounts {
		accounts[i] = r.ledger.addAccount("p" + strconv.Itoa(i))
	}
	r.star = accounts[0]
	edges := map[Pair]bool{}
	follow := func(who, whom int) {
		if who != whom {
			edges[Pair{accounts[who], accounts[whom]}] = true
		}
	}
	for i := range starred {
		follow(i+1, 0)
	}
	for i := range fanOf {
		follow(crowd-1, i)
	}
	zipf := rand.NewZipf(random, 1.3, 20, uint64(crowd-1))
	for i := range accounts {
		for range 1 + random.IntN(4) {
			follow(i, int(zipf.Uint64()))
		}
	}
	file := r.writeEdges(edges)
	begun := time.Now()
	if code, out := tool(r.t, "import", "graph", "--kafka", r.proc.kafka, file); code != 0 {
		r.t.Fatalf("import graph: exit code %d\n%s", code, out)
	}
	r.t.Logf("%d accounts and %d follows imported in %s", len(accounts), len(edges), since(begun))
}

func (r *run) writeEdges(edges map[Pair]bool) string {
	r.t.Helper()
	name := filepath.Join(r.t.TempDir(), "follows.txt")
	file, err := os.Create(name)
	if err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewWriter(file)
	for pair := range edges {
		fmt.Fprintln(lines, pair.Who.ID, pair.Whom.ID)
		r.ledger.imported(pair.Who, pair.Whom)
	}
	if err := lines.Flush(); err != nil {
		r.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		r.t.Fatal(err)
	}
	return name
}
