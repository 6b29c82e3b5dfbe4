//go:build real

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/misdeliver"
)

// misdeployed is misdelivered with every role as a process of its own on real servers, fan-out twice. The fix is
// deployed as operators do it: one fan-out process after the other is stopped and started again, while clients post and
// readers read.
type misdeployed struct {
	*misdelivered
	d     *deployment
	begun time.Time // of the bug
}

func misdeploy(t *testing.T, cluster bool) *misdeployed {
	t.Helper()
	if err := buildFaulty(); err != nil {
		t.Fatal(err)
	}
	bug := filepath.Join(t.TempDir(), "bug")
	d := &deployment{
		run: newRun(t), dir: t.TempDir(), cluster: cluster, program: faulty,
		wrong: []string{misdeliver.Env + "=" + bug},
		flags: []string{"--zones", fmt.Sprint(zones), "--page-size", "4", "--pull-above", "0"},
	}
	d.start(1)
	m := &misdeployed{misdelivered: &misdelivered{run: d.run, deploy: d.deployFix}, d: d}
	m.audits = []string{
		"--kafka", d.proc.kafka, "--redis", d.proc.redis, "--zones", fmt.Sprint(zones),
		"--cassandra", d.cassandra.Addrs()[0], "--store-replication", "1",
	}
	m.prepare(d.clients)
	m.findsNothing("before")
	m.begun = time.Now()
	if err := os.WriteFile(bug, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.deliversWrongly(d.clients)
	d.quiet()
	if err := os.Remove(bug); err != nil { // what is published from now on is right, so the damage is known
		t.Fatal(err)
	}
	return m
}

// TestRealMisdeliveredReset is TestMisdelivered on real servers. A fan-out process is killed while the posts are read
// again, and another one has its partitions then.
func TestRealMisdeliveredReset(t *testing.T) {
	m := misdeploy(t, false)
	m.redeliver = func() {
		m.readAgain(func() {
			m.d.seekBothBack()
			m.d.killed(m.d.first("fanout"))
		})
	}
	m.repaired(m.d.clients)
}

// TestRealMisdeliveredReplay is the same on a cluster of Redis, where the posts since the bug began are replayed:
// those of half of the partitions from the log, by a tool that is killed in the middle, those of the others from the
// post store.
func TestRealMisdeliveredReplay(t *testing.T) {
	m := misdeploy(t, true)
	m.redeliver = m.replayed
	m.repaired(m.d.clients)
	for _, what := range [][]string{{"graph", "--all"}, {"store"}} {
		args := append(append([]string{"rebuild"}, what...), "--log-level", "error")
		if code, out := tool(t, append(args, m.audits...)...); code != 0 {
			t.Errorf("rebuild %s: exit code %d\n%s", what[0], code, out)
		}
	}
	m.quiet()
	m.compare("after trees and store were stated again")
	m.findsNothing("after trees and store were stated again")
}

// deployFix starts every fan-out process again, without what made it wrong.
func (d *deployment) deployFix() {
	d.t.Helper()
	d.wrong, d.program = nil, binary
	for i, p := range d.others {
		if p.cmd.Args[2] == "fanout" {
			p.stop()
			d.others[i] = d.again(p)
			d.others[i].awaitReady()
		}
	}
}

// seekBothBack resets fan-out to the earliest posts, both of its processes.
func (d *deployment) seekBothBack() {
	d.t.Helper()
	var admins []string
	for _, p := range d.others {
		if p.cmd.Args[2] == "fanout" {
			admins = append(admins, p.admin)
		}
	}
	reset := []string{
		"offsets", "reset", "--kafka", d.proc.kafka, "--admin", strings.Join(admins, ","), "--group", "fanout",
		"--topic", "posts", "--to", "earliest",
	}
	if code, out := tool(d.t, reset...); code != 3 {
		d.t.Errorf("offsets reset without --execute: exit code %d, want 3\n%s", code, out)
	}
	if code, out := tool(d.t, append(reset, "--execute")...); code != 0 {
		d.t.Errorf("offsets reset: exit code %d\n%s", code, out)
	}
}
