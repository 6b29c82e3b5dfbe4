package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"

	"freshet/internal/app"
	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/graph"
	"freshet/internal/kafka/kafkatest"
	"freshet/internal/offsets"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// patience is how long a test waits for what should happen.
const patience = 30 * time.Second

// start runs a process with every role and all servers, for a test that runs beside others.
func start(t *testing.T) *app.App {
	t.Helper()
	t.Parallel()
	cfg := config.Default()
	cfg.Partitions, cfg.Zones, cfg.DataDir = 2, 4, t.TempDir()
	return apptest.Start(t, cfg)
}

// result is what became of a command.
type result struct {
	code           int
	stdout, stderr string
}

func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root := rootCommand()
	root.SetArgs(append(args, "--log-level", "error"))
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	r := result{}
	if err := root.ExecuteContext(t.Context()); err != nil {
		r.code = 1
		var exit *exitError
		if errors.As(err, &exit) {
			r.code = exit.code
		}
		stderr.WriteString(err.Error())
	}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

// expect checks the exit code, and that the outputs contain what they should.
func (r result) expect(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, stdout) || !strings.Contains(r.stderr, stderr) {
		t.Errorf("got exit code %d\n%s\n%s\nwant %d, %q, %q", r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args string
		says string
	}{
		{"offsets", "want offsets list, describe, reset"},
		{"offsets lst", "want offsets list, describe, reset"},
		{"offsets list more and more", "takes one group at most"},
		{"offsets describe fanout --group archive", "and --group says archive"},
		{"offsets list -o yaml", "want table, json or jsonl"},
		{"offsets reset --to earliest --topic posts", "--group is missing"},
		{"offsets reset --group fanout --to earliest", "--topic is missing"},
		{"offsets reset --group fanout --topic posts", "want one of --to, --to-earliest"},
		{"offsets reset --group fanout --topic posts --to-earliest --to-latest", "got 2"},
		{"offsets reset --group fanout --topic posts --all-topics --to-earliest", "want one of them"},
		{"offsets reset --group fanout --topic posts --to-datetime 2026-03-01T12:00:00", "no zone"},
		{"offsets reset --group fanout --topic posts --by-duration P1Y", "want a duration above 0"},
		{"offsets reset --group fanout --topic posts --by-duration -2h", "want a duration above 0"},
		{"offsets reset --group fanout --topic posts --shift-by 0", "where the group stands"},
		{"offsets reset --group fanout --topic posts:a --to-earliest", `partition "a"`},
		{"offsets reset --group fanout --from-file no-such-file", "no such file"},
		{"offsets reset --plan no-such-file --execute", "no such file"},
		{"offsets reset --plan plan.json --group fanout", "leave out the other flags"},
		{"offsets reset --group fanuot --topic posts --to earliest", "did you mean fanout?"},
		{"offsets reset --group fanout --topic post --to earliest", "did you mean posts?"},
		{"offsets import", "want one FILE"},
		{"offsets delete", "--group is missing"},
		{"offsets reset --group fanout --topic posts --to yesterday", "want earliest"},
		{"offsets reset --group fanout --topic fanout-table --to earliest", "a table is not rewound"},
		{"offsets reset --group nobody --topic posts --to earliest", "unknown group nobody"},
		{"import", "import graph FILE"},
		{"import graph", "one FILE"},
		{"import graph a b", "one FILE"},
		{"audit", "ACCOUNT..., --sample N or --all"},
		{"audit ada --all", "ACCOUNT..., --sample N or --all"},
		{"audit --sample -1 --all", "--sample"},
		{"audit --all -o yaml", "want table, json or jsonl"},
		{"audit --all --served 3 --api ftp://here", "--api"},
		{"why ada", "an ACCOUNT and a POST"},
		{"why ada bela", "post id"},
		{"rebuild", "rebuild feeds, rebuild graph or rebuild store"},
		{"rebuild feeds", "ids on the standard input"},
		{"rebuild feeds ada --all", "ids on the standard input"},
		{"rebuild graph --all --rate -1", "--rate"},
		{"rebuild store", "offsets reset --group archive"},
	} {
		command(t, "", strings.Fields(tt.args)...).expect(t, exitUsage, "", tt.says)
	}
}

func TestToolsNameAKafkaThatDoesNotAnswer(t *testing.T) {
	const nobody = "127.0.0.1:1"
	for _, args := range []string{
		"offsets list", "offsets reset --group fanout --topic posts --to earliest", "import graph -",
		"audit --all", "why ada 1", "rebuild feeds --all",
	} {
		r := command(t, "ada bela\n", append(strings.Fields(args), "--kafka", nobody)...)
		r.expect(t, 1, "", "--kafka: kafka at "+nobody+" does not answer")
	}
}

func TestImportGraphRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "binary")
	if err := os.WriteFile(binary, []byte("ada\x00bela\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "", "import", "graph", filepath.Join(dir, "none")).expect(t, 1, "", "none: no such file")
	command(t, "", "import", "graph", dir).expect(t, 1, "", "is a directory")
	command(t, "", "import", "graph", binary).expect(t, 1, "", binary)
	command(t, "", "import", "graph", "-").expect(t, 1, "", "no follow in it")
	command(t, "ada ada\n", "import", "graph", "-").expect(t, 1, "", "line 1 is left out")
}

// The bars must come to their end, whatever the import does: the command waits for them.
func TestProgressEnds(t *testing.T) {
	for _, tt := range []struct {
		name     string
		total    int
		done     int
		complete bool
	}{
		{"all", 3, 3, true},
		{"nothing to do", 0, 0, true},
		{"less than announced", 3, 2, true},
		{"interrupted", 3, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &progress{log: slog.New(slog.DiscardHandler), bars: mpb.New(mpb.WithOutput(io.Discard))}
			for _, stage := range []graph.Stage{graph.StageRegister, graph.StageFollow} {
				for done := 0; done <= tt.done; done++ {
					p.stage(stage, done, tt.total)
				}
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				p.end(tt.complete)
			}()
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("the bars do not end")
			}
		})
	}
}

func TestImportAndReset(t *testing.T) {
	a := start(t)
	kafka := []string{"--kafka", strings.Join(a.Kafka(), ",")}
	tool := func(stdin, args string) result {
		t.Helper()
		return command(t, stdin, append(strings.Fields(args), kafka...)...)
	}

	const edges = "ada bela\nbela ada\nada chidi\nada\n" // the last line is bad
	r := tool(edges, "import graph -")
	r.expect(t, 0, "accounts   3 new, 0 known\nfollows    3 new, 0 known\nlines      1 left out", "line 4 is left out")
	tool(edges, "import graph - --no-wait").expect(t, 0, "accounts   0 new, 3 known\nfollows    0 new, 3 known\n", "")

	tool("", "offsets list --group nobody").expect(t, exitUsage, "", "unknown group nobody: Kafka has freshet.archive")
	tool("", "offsets list").expect(t, 0, "freshet.fanout     Stable", "")
	var list []offsets.Summary
	r = tool("", "offsets list -o json")
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list) != 4 || list[0].Group != "freshet.archive" {
		t.Errorf("list as json: %s, %v", r.stdout, err)
	}
	var groups []struct {
		Group   string
		Members []offsets.Member
		Topics  []struct {
			Partitions []struct{ Member, Host string }
		}
	}
	r = tool("", "offsets describe following -o json")
	if err := json.Unmarshal([]byte(r.stdout), &groups); err != nil || len(groups) != 1 ||
		groups[0].Group != "freshet.following" || len(groups[0].Members) != 1 || len(groups[0].Topics) != 3 ||
		groups[0].Topics[0].Partitions[0].Member != groups[0].Members[0].ID {
		t.Errorf("describe as json: %s, %v", r.stdout, err)
	}
	tool("", "offsets describe followng").expect(t, exitUsage, "", "did you mean following?")

	settled(t, kafka)
	const reset = "offsets reset --group following --topic follows "
	tool("", reset+"--to earliest").expect(t, exitPlan, "total", "--execute carries it out")
	tool("", reset+"--to latest").expect(t, 0, "total", "nothing to do")
	tool("", reset+"--to 1000").expect(t, 1, "total", "outside of what is kept")
	tool("", reset+"--to earliest --partitions 7").expect(t, exitUsage, "", "unknown partition 7")
	tool("", reset+"--to earliest --execute --admin 127.0.0.1:1").expect(t, exitLive, "total", "does not answer")
	undo := filepath.Join(t.TempDir(), "undo.csv")
	tool("", reset+"--to earliest --execute --admin "+a.AdminURL()+" --undo "+undo).expect(t, 0, "total",
		"done: the running group")
	if text, err := os.ReadFile(undo); err != nil ||
		!strings.Contains(string(text), "freshet.following,freshet.follows,") {
		t.Errorf("the way back: %q, %v", text, err)
	}
	settled(t, kafka)
	tool("", "offsets import "+undo).expect(t, 0, "total", "nothing to do")
	tool("", reset+"--to earliest --execute --admin "+a.AdminURL()+" --undo "+undo).expect(t, 1, "total", "file exists")

	file := filepath.Join(t.TempDir(), "plan.json")
	r = tool("", reset+"--to earliest -o json")
	if err := os.WriteFile(file, []byte(r.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	tool("", "offsets reset --execute --plan "+file+" --admin "+a.AdminURL()+" --undo "+undo+".2").expect(t, 0, "total",
		"done: the running group")
	settled(t, kafka)
	tool("", "offsets export following").expect(t, 0, "freshet.follows,0,", "")
	tool("", "offsets delete --group following --execute").expect(t, exitLive, "freshet.following,freshet.follows,",
		"it has members")

	var plan struct {
		Group   string
		Records int64
		Refused []string
	}
	r = tool("", reset+"--to 1000 -o json")
	if err := json.Unmarshal([]byte(r.stdout), &plan); err != nil || plan.Group != "freshet.following" ||
		len(plan.Refused) != 1 {
		t.Errorf("a plan as json: %s, %v", r.stdout, err)
	}
}

// settled waits until the group has committed all that it has read.
func settled(t *testing.T, kafka []string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	args := append(strings.Fields("offsets reset --group following --topic follows --to latest"), kafka...)
	for {
		r := command(t, "", args...)
		if strings.Contains(r.stderr, "nothing to do") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the group does not come to the end: %s %s", r.stdout, r.stderr)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.FailNow()
		}
	}
}
