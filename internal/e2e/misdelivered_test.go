package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet"
	"freshet/internal/audit"
	"freshet/internal/misdeliver"
)

// misdelivered is a run in which fan-out delivers wrongly for a while.
type misdelivered struct {
	*run
	// audits are the flags of the tools that look into the servers.
	audits []string
	// numbers are those of all accounts. Nobody follows anybody else while fan-out is wrong.
	numbers map[string]freshet.Number
	wrong   []*Post // that were published then
	// deploy puts the right program in the place of the wrong one; redeliver has fan-out deliver the posts again.
	deploy, redeliver func()
}

// TestMisdelivered: fan-out leaves out a tenth of the followers, and delivers to accounts that do not follow, for a
// while. The audit finds exactly that. Reading the posts again brings back what was missing, and building feeds anew
// takes away what was too many; then the audit finds nothing, and every account reads what the definition says. All the
// while posts are accepted and feeds are read.
func TestMisdelivered(t *testing.T) {
	t.Parallel()
	if err := buildFaulty(); err != nil {
		t.Fatal(err)
	}
	m := &misdelivered{run: newRun(t)}
	bug := filepath.Join(t.TempDir(), "bug")
	listen := freePort(t)
	m.proc = executeProgram(t, faulty, []string{misdeliver.Env + "=" + bug}, listen, "dev", "--listen", listen, "--admin",
		"127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--redis-listen", "127.0.0.1:0", "--zones", fmt.Sprint(zones),
		"--page-size", "4", "--pull-above", "0", "--log-limit", "1024")
	m.proc.awaitReady()
	m.deploy = func() {} // the right program is the one without the file
	m.redeliver = func() { m.readAgain(func() { m.seekBack(nil) }) }
	m.audits = []string{
		"--kafka", m.proc.kafka, "--redis", m.proc.redis, "--zones", fmt.Sprint(zones),
	}
	inParallel(make([]int, 40), m.registerer())
	clients := m.newClients(4)
	m.prepare(clients)
	m.findsNothing("before")

	if err := os.WriteFile(bug, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.deliversWrongly(clients)
	m.quiet()
	if err := os.Remove(bug); err != nil {
		t.Fatal(err)
	}
	m.repaired(clients)
	m.proc.stop()
}

// prepare has accounts follow each other, at random, and makes all feeds warm and merges all follows into them.
func (m *misdelivered) prepare(clients []*client) {
	m.t.Helper()
	random := m.random(77)
	open := m.ledger.open()
	for i, who := range open {
		for range 8 {
			whom := open[random.IntN(len(open))]
			if random.IntN(3) == 0 {
				whom = open[0] // whose tree has several levels
			}
			if who == whom || m.ledger.has(Follows, who, whom) {
				continue
			}
			if err := clients[i%len(clients)].relate("follow", http.MethodPut, "following", who, whom); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.quiet()
	m.compareFeeds("cold feeds")
	m.phase("before the bug", clients, 30, []operation{
		{10, (*client).post}, {2, (*client).delete},
		{4, relate("unfollow", http.MethodDelete, "following")}, {1, relate("mute", http.MethodPut, "muted")},
	})
	m.quiet()
	m.compareFeeds("before the bug")
	m.numbers = map[string]freshet.Number{}
	for _, record := range m.readTopic("freshet.registrations") {
		m.numbers[string(record.Key)] = freshet.NumberAt(record.Partition, record.Offset)
	}
}

// onlyPosts changes nothing but posts: what is damaged stays known.
var onlyPosts = []operation{{10, (*client).post}, {2, (*client).edit}}

func (m *misdelivered) deliversWrongly(clients []*client) {
	m.t.Helper()
	before := len(m.ledger.world.Posts)
	m.phase("fan-out delivers wrongly", clients, 40, onlyPosts)
	m.wrong = slices.Clone(m.ledger.world.Posts[before:])
	if len(m.wrong) < 50 {
		m.t.Fatalf("only %d posts were delivered wrongly", len(m.wrong))
	}
}

// damage is what an audit has to find, by the rule by which it was done. A post that came to an account soon after that
// had unfollowed its author may be one of before; excused are those.
func (m *misdelivered) damage() (missing, extra, excused map[string]bool) {
	missing, extra, excused = map[string]bool{}, map[string]bool{}, map[string]bool{}
	w := &m.ledger.world
	for _, p := range m.wrong {
		var followers []freshet.Number
		for _, a := range w.Accounts {
			if w.Has(Follows, a, p.Author) {
				followers = append(followers, m.numbers[a.ID])
			}
		}
		got := misdeliver.Wrong(freshet.PostID(p.ID), followers)
		for _, a := range w.Accounts {
			line := fmt.Sprintf("%s %d", a.ID, p.ID)
			follows := w.Has(Follows, a, p.Author)
			switch has := slices.Contains(got, m.numbers[a.ID]); {
			case follows && !has && !w.Has(Mutes, a, p.Author):
				missing[line] = true
			case has && !follows && a != p.Author && m.ledger.flags[flagKey{Follows, a, p.Author}] != nil:
				excused[line] = true
			case has && !follows && a != p.Author:
				extra[line] = true
			}
		}
	}
	return missing, extra, excused
}

// found is what an audit of everything finds, by list and kind. It proves that the audit has looked at feeds.
func (m *misdelivered) found(flags ...string) map[string]map[string]bool {
	m.t.Helper()
	args := append([]string{"audit", "--all", "--trees", "-o", "json", "--explain", "3"}, m.audits...)
	args = append(args, "--served", "10", "--api", m.proc.url(), "--log-level", "error")
	cmd := exec.CommandContext(m.t.Context(), binary, append(args, flags...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 0 && code != 5 {
		m.t.Fatalf("freshet audit: exit code %d (%v)\n%s\n%s", code, err, out, stderr.String())
	}
	var result struct {
		Differences []audit.Difference `json:"differences"`
		Summary     audit.Summary      `json:"summary"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		m.t.Fatalf("freshet audit: %v\n%s", err, out)
	}
	s := result.Summary
	m.t.Logf("the audit has compared %d feeds with %d posts, %d trees with %d follows, %d served feeds; it has looked "+
		"again at %d, and finds %v (%.1f s)", s.Checked, s.Entries, s.Trees, s.Follows, s.Served, s.Second, s.Differences,
		s.Seconds)
	if s.Checked == 0 || s.Entries == 0 || s.Follows == 0 {
		m.t.Errorf("the audit has seen too little: %+v", s)
	}
	if code := cmd.ProcessState.ExitCode(); (code == 5) != (len(result.Differences) > 0) {
		m.t.Errorf("%d differences, and the exit code is %d", len(result.Differences), code)
	}
	found := map[string]map[string]bool{}
	for _, d := range result.Differences {
		what := d.List + " " + d.Kind
		if found[what] == nil {
			found[what] = map[string]bool{}
		}
		found[what][string(d.Account.ID)+" "+d.Post] = true
	}
	return found
}

func (m *misdelivered) findsNothing(when string) {
	m.t.Helper()
	if found := m.found(); len(found) > 0 {
		m.t.Errorf("%s: the audit finds %v", when, found)
	}
}

// readAgain resets fan-out to the earliest posts, and waits until it is past all that there was then.
func (m *misdelivered) readAgain(reset func()) {
	m.t.Helper()
	log := openLog(m.t, m.proc)
	ends, err := log.ends(postsTopic)
	if err != nil {
		m.t.Fatal(err)
	}
	reset()
	await(m.t, "fan-out has read the posts again", func() (bool, string) {
		offsets, err := log.admin.FetchOffsetsForTopics(m.t.Context(), fanoutGroup, postsTopic)
		behind := int64(0)
		for p, end := range ends {
			at, _ := offsets.Lookup(p.topic, p.id)
			behind += max(0, end-at.At)
		}
		return err == nil && behind == 0, fmt.Sprintf("it is %d behind (%v)", behind, err)
	})
}

// findsExactly wants what an audit has found in feeds to be the damage, but for what is excused.
func (m *misdelivered) findsExactly(
	when, kind string, found map[string]map[string]bool, want, excused map[string]bool,
) {
	m.t.Helper()
	got := found["feed "+kind]
	maps.DeleteFunc(got, func(line string, _ bool) bool { return excused[line] })
	if maps.Equal(got, want) {
		m.t.Logf("%s: the audit finds the %d posts that are %s, and no others", when, len(want), kind)
		return
	}
	for line := range want {
		if !got[line] {
			m.t.Errorf("%s: the audit does not find %s in the feed of %s", when, kind, line)
		}
	}
	for line := range got {
		if !want[line] {
			m.t.Errorf("%s: the audit finds %s in the feed of %s, and nobody did that", when, kind, line)
		}
	}
}

// repaired finds the damage, repairs it, and proves that nothing is left, while clients post and readers read.
func (m *misdelivered) repaired(clients []*client) {
	m.t.Helper()
	missing, extra, excused := m.damage()
	if len(missing) == 0 || len(extra) == 0 {
		m.t.Fatalf("the bug has done nothing: %d posts are missing, %d are extra", len(missing), len(extra))
	}
	before := m.operations.Load()
	readers := m.read(2, uint64(before)<<16)
	for _, c := range clients {
		if c.pace = pace; onServers { // audits take long there, and every feed is compared with the model in the end
			c.pace = 5 * pace
		}
	}
	finished := m.work(clients, 1<<40, onlyPosts)
	m.awaitOperations(before+10, finished)

	m.deploy()
	found := m.found()
	m.findsExactly("after the bug", audit.Missing, found, missing, nil)
	m.findsExactly("after the bug", audit.Extra, found, extra, excused)
	for line := range found["served missing"] {
		if !missing[line] {
			m.t.Errorf("the audit finds that the API does not show %s, which is not missing", line)
		}
	}

	m.redeliver()
	found = m.found()
	m.findsExactly("after the posts were read again", audit.Missing, found, nil, nil)
	m.findsExactly("after the posts were read again", audit.Extra, found, extra, excused)

	var damaged []string
	for line := range extra {
		id, _, _ := strings.Cut(line, " ")
		damaged = append(damaged, id)
	}
	slices.Sort(damaged)
	args := append([]string{"rebuild", "feeds", "--log-level", "error"}, m.audits...)
	if code, out := tool(m.t, append(args, slices.Compact(damaged)...)...); code != 0 {
		m.t.Errorf("rebuild feeds: exit code %d\n%s", code, out)
	}
	m.findsNothing("after the feeds were made cold")
	begun := m.operations.Load()
	m.awaitOperations(begun+50, finished) // feeds are read, and so built, meanwhile
	m.findsNothing("after feeds were built again")

	posts := m.counted("post")
	m.enough.Store(true)
	<-finished
	m.enough.Store(false)
	readers.end()
	if posts == 0 || readers.pages.Load() == 0 || m.counted("refused post") > 0 || readers.refused.Load() > 0 {
		m.t.Errorf("%d posts were accepted and %d refused; %d pages were read and %d refused", posts,
			m.counted("refused post"), readers.pages.Load(), readers.refused.Load())
	}
	m.t.Logf("meanwhile %d operations, none refused; %d pages were read, %d of them incomplete",
		m.operations.Load()-before, readers.pages.Load(), readers.incomplete.Load())
	m.compare("after the repair")
	m.findsNothing("after the repair, with all feeds warm")
}
