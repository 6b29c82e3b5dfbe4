package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDrills does what docs/operations.md says to do when a store is lost or comes back from a backup, and then wants
// every list of every account to be what the log says.
func TestDrills(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	dir := filepath.Join(t.TempDir(), "data")
	backup := filepath.Join(t.TempDir(), "backup")
	flags := append([]string{"--data", dir}, denseFlags...)
	r.proc = start(t, flags...)
	inParallel(make([]int, 16), r.registerer())
	clients := r.newClients(4)

	// Its Redis is in memory, so that is lost each time, too.
	lose := func(what string) {
		if err := os.RemoveAll(filepath.Join(dir, what)); err != nil {
			t.Fatal(err)
		}
	}
	// stopped starts the process again after something has happened to its stores. Nobody reads before the post store
	// has what it should have.
	stopped := func(name string, happens, then func()) {
		r.phase("before "+name, clients, 30, busy)
		r.proc.stop()
		happens()
		r.proc = launch(t, r.proc.listen, flags...)
		r.proc.awaitReady()
		then()
		r.compare(name)
	}
	stopped("a backup of the post store", func() {
		if err := os.CopyFS(backup, os.DirFS(filepath.Join(dir, "posts"))); err != nil {
			t.Fatal(err)
		}
	}, r.quiet)
	r.ended("the local tables are lost", clients, 30, busy, flags, func(p *process) {
		p.kill()
		lose("tables")
	})
	r.compare("after the tables were lost")
	stopped("the post store restored from the backup", func() {
		lose("posts")
		if err := os.CopyFS(filepath.Join(dir, "posts"), os.DirFS(backup)); err != nil {
			t.Fatal(err)
		}
	}, r.storeAgain)
	stopped("the post store filled from the log", func() { lose("posts") }, r.storeAgain)
	r.proc.stop()
}

// storeAgain has the archive group read everything again, as operators do.
func (r *run) storeAgain() {
	for _, topic := range []string{"posts", "followers"} {
		reset := []string{
			"offsets", "reset", "--kafka", r.proc.kafka, "--admin", r.proc.admin,
			"--group", "archive", "--topic", topic, "--to", "earliest", "--execute",
		}
		if code, out := tool(r.t, reset...); code != 0 {
			r.t.Errorf("%v: exit code %d\n%s", reset, code, out)
		}
	}
	r.quiet()
}
