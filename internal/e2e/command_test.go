package e2e

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// within bounds a time that a reader of the documentation may count on; a child that is watched for races is slower.
func within(t *testing.T, what string, took, limit time.Duration) {
	t.Helper()
	if raced() {
		limit *= 10
	}
	if took > limit {
		t.Errorf("%s took %s, want less than %s", what, took, limit)
	}
	t.Logf("%s: %s", what, took.Round(time.Millisecond))
}

// TestStartAndCtrlC: without --data everything lies in a temporary directory, which goes with the process.
func TestStartAndCtrlC(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	p := start(t)
	within(t, "getting ready", time.Since(p.begun), 3*time.Second)
	if made := entries(t, temporary); len(made) != 1 || !strings.HasPrefix(made[0], "freshet-") {
		t.Errorf("while it runs, the directory for temporary files has %v, want one of its own", made)
	}
	r := newRun(t)
	r.proc = p
	r.registerer()(0)
	a := r.ledger.open()[0]
	if err := r.newClients(1)[0].post(); err != nil {
		t.Error(err)
	}
	r.quiet()
	r.compare("one account")
	unused, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.listen) // as browsers open them in advance
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close() //nolint:errcheck // nothing was sent
	within(t, "Ctrl-C", p.stop(), 5*time.Second)
	if left := entries(t, temporary); len(left) != 0 {
		t.Errorf("after %s's process has ended, there is still %v", a.ID, left)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range list {
		names = append(names, entry.Name())
	}
	return names
}

// TestLockedDirectory: a second process on the same data says which one has it, and ends.
func TestLockedDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first := start(t, "--data", dir)
	second := launch(t, freePort(t), "--data", dir)
	if code := second.wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	said := second.stderr()
	for _, want := range []string{dir, "process " + strconv.Itoa(first.cmd.Process.Pid)} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not name %q: %s", want, said)
		}
	}
	if lines := strings.Count(said, "\n"); lines != 1 {
		t.Errorf("it takes %d lines to say that the directory is locked: %s", lines, said)
	}
	first.kill()
	third := start(t, "--data", dir) // a lock goes with its process, however that ends
	third.stop()
}

// TestPortsInUse: whichever port is taken, the message names the flag that chooses another.
func TestPortsInUse(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // nothing was sent
	for _, flag := range []string{"--listen", "--admin", "--kafka-listen", "--redis-listen"} {
		p := launch(t, freePort(t), flag, taken.Addr().String()) // the last of a flag counts
		if code := p.wait(); code != 1 {
			t.Errorf("%s: exit code %d, want 1", flag, code)
		}
		said := p.stderr()
		for _, want := range []string{flag, taken.Addr().String(), "in use"} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: the message lacks %q: %s", flag, want, said)
			}
		}
	}
}

// TestWrongUsage: a mistake in typing is told from a failure by the exit code.
func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"dev", "--colour"}, {"dev", "--partitions", "3"},
		{"dev", "--accept", "both"}, {"dev", "extra"}, {"run"}, {"run", "cook"}, {"dve"},
	} {
		code, said := tool(t, args...)
		if code != 2 || !strings.HasPrefix(said, "freshet: ") || strings.Count(said, "\n") != 1 {
			t.Errorf("freshet %s: exit code %d and %q, want 2 and one line", strings.Join(args, " "), code, said)
		}
	}
}
