//go:build real

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"freshet/internal/offsets"
	"freshet/internal/replay"
)

const replaysTopic = "freshet.replays"

// replayed replays what was published since the bug began: half of the partitions from the log, by a tool that is
// killed in the middle, the others from the post store, while the lag of that is looked at.
func (m *misdeployed) replayed() {
	m.t.Helper()
	ago := func() string { return fmt.Sprintf("%ds", int(time.Since(m.begun).Seconds())+2) }
	first := []string{"fanout", "--from", ago(), "--partitions", "0,1,2,3"}
	doomed := m.replay(append(first, "--rate", "20")...)
	begun := m.replayIs("has copied some", func(s replay.State) bool { return s.Status == replay.Running && s.Copied > 0 })

	code, out := tool(m.t, m.replaying(first...)...)
	if code != 4 || !strings.Contains(out, begun.ID) {
		m.t.Errorf("a second replay: exit code %d, want 4 and the first one's name, %s\n%s", code, begun.ID, out)
	}
	if code, out := tool(m.t, m.replaying("resume", "fanout")...); code != 4 {
		m.t.Errorf("resuming a replay that goes on: exit code %d, want 4\n%s", code, out)
	}
	doomed.kill()
	left := m.replayIs("is left as it was", func(s replay.State) bool { return s.Status == replay.Running })
	done, total := left.Progress()
	if left.ID != begun.ID || done == 0 || done >= total {
		m.t.Errorf("the tool was to be killed in the middle of %s: %s", begun, left)
	}
	if code, out := tool(m.t, m.replaying("resume", "fanout", "--rate", "0")...); code != 0 {
		m.t.Errorf("resuming the replay: exit code %d\n%s", code, out)
	}
	all := m.replayIs("is done", func(s replay.State) bool { return s.ID == begun.ID && s.Status == replay.Done })
	m.t.Logf("a tool was killed after %d of %d records, and another went on from there: %d copies", done, total,
		all.Copied)

	var stored *tooled
	m.withFanoutSuspended(func() {
		stored = m.replay("fanout", "--from", ago(), "--from-store", "--cassandra", m.d.cassandra.Addrs()[0],
			"--partitions", "4,5,6,7")
		m.lagIsTold()
	})
	if code := stored.wait(); code != 0 {
		m.t.Errorf("replaying from the post store: exit code %d\n%s", code, stored.output)
	}
	if live, replay := m.told(); replay != 0 {
		m.t.Errorf("after the replay its lag is %d, and that of new records %d", replay, live)
	}
}

func (m *misdeployed) replaying(args ...string) []string {
	return append(append([]string{"replay"}, args...), "--kafka", m.proc.kafka, "--log-level", "error")
}

// tooled is a command that runs.
type tooled struct {
	m      *misdeployed
	cmd    *exec.Cmd
	output *bytes.Buffer // after wait
}

func (m *misdeployed) replay(args ...string) *tooled {
	m.t.Helper()
	r := &tooled{m, exec.Command(binary, m.replaying(args...)...), new(bytes.Buffer)}
	r.cmd.Stdout, r.cmd.Stderr = r.output, r.output
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = r.cmd.Process.Kill() }) // one that has ended is left alone
	return r
}

func (r *tooled) kill() {
	r.m.t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		r.m.t.Errorf("kill freshet replay: %v", err)
	}
	if code := r.wait(); code != -1 {
		r.m.t.Errorf("freshet replay was to be killed, and has ended with %d\n%s", code, r.output)
	}
}

// wait returns the exit code, -1 of one that was killed.
func (r *tooled) wait() int {
	_ = r.cmd.Wait() // what it says is in the state
	return r.cmd.ProcessState.ExitCode()
}

// replayIs waits until the replay of fan-out is as it is wanted.
func (m *misdeployed) replayIs(what string, is func(replay.State) bool) (found replay.State) {
	m.t.Helper()
	await(m.t, "the replay "+what, func() (bool, string) {
		code, out := tool(m.t, m.replaying("status", "-o", "json")...)
		var states []replay.State
		if err := json.Unmarshal([]byte(out), &states); code != 0 || err != nil || len(states) != 1 {
			return false, out
		}
		found = states[0]
		return is(found), found.String()
	})
	return found
}

// withFanoutSuspended does something while no fan-out process gets on.
func (m *misdeployed) withFanoutSuspended(do func()) {
	m.t.Helper()
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		for _, p := range m.others {
			if p.cmd.Args[2] == "fanout" {
				m.d.signal(p, s)
			}
		}
		if s == syscall.SIGSTOP {
			do()
		}
	}
}

// told is what the list of groups says of the lag of fan-out.
func (m *misdeployed) told() (live, replayed int64) {
	m.t.Helper()
	code, out := tool(m.t, "offsets", "list", "fanout", "--kafka", m.proc.kafka, "-o", "json", "--log-level", "error")
	var list []offsets.Summary
	if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil || len(list) != 1 {
		m.t.Errorf("offsets list: exit code %d (%v)\n%s", code, err, out)
		return 0, 0
	}
	return list[0].Lag, list[0].ReplayLag
}

// lagIsTold waits for copies of a replay that wait for fan-out, and wants them to be told apart from what is new, of
// which more and more waits.
func (m *misdeployed) lagIsTold() {
	m.t.Helper()
	accepted := m.counted("post")
	await(m.t, "copies and new posts wait", func() (bool, string) {
		live, replayed := m.lags()
		return replayed > 0 && live > 0 && m.counted("post") > accepted, fmt.Sprintf("%d copies, %d new", replayed, live)
	})
	liveBefore, replayBefore := m.lags()
	live, replayed := m.told()
	liveAfter, replayAfter := m.lags()
	if live < liveBefore || live > liveAfter || replayed < replayBefore || replayed > replayAfter {
		m.t.Errorf("offsets list tells a lag of %d and a replay lag of %d; there were %d to %d, and %d to %d", live, replayed,
			liveBefore, liveAfter, replayBefore, replayAfter)
	}
	m.t.Logf("while fan-out stands still: lag %d, replay lag %d", live, replayed)
}

// lags is how many records of its inputs fan-out has not committed, while it stands still: new ones, and copies.
func (m *misdeployed) lags() (live, replayed int64) {
	m.t.Helper()
	log := openLog(m.t, m.proc)
	committed, err := log.admin.FetchOffsets(m.t.Context(), fanoutGroup)
	if err != nil {
		m.t.Fatal(err)
	}
	ends, err := log.ends(postsTopic, replaysTopic, "freshet.followers", fanoutGroup+"-loop")
	if err != nil {
		m.t.Fatal(err)
	}
	for p, end := range ends {
		at, _ := committed.Lookup(p.topic, p.id)
		if p.topic == replaysTopic {
			replayed += end - max(0, at.At)
		} else {
			live += end - max(0, at.At)
		}
	}
	return live, replayed
}
