package freshet_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/app/apptest" // also most of what the commands run: a cached result does not outlive a change of it
)

// shellBlocks are the commands of README.md.
func shellBlocks(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, match := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(text, -1) {
		blocks = append(blocks, string(match[1]))
	}
	return blocks
}

// started is `make run` on free ports.
type started struct {
	api, admin, kafka string
	stop              func() error
}

func makeRun(t *testing.T) started {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // go run may have to build first
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "make", "run", "FLAGS=--listen 127.0.0.1:0 --admin 127.0.0.1:0 "+
		"--kafka-listen 127.0.0.1:0 --redis-listen 127.0.0.1:0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // make, go run and the program are told together
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			return err
		}
		// Whatever make makes of the signal: all of them end.
		if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			return err
		}
		return nil
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	var s started
	s.stop = stop
	word := regexp.MustCompile(`\S+`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch words := word.FindAllString(lines.Text(), -1); {
		case len(words) < 2:
		case words[0] == "API":
			s.api = strings.TrimSuffix(words[1], "/v1")
		case words[0] == "operators":
			s.admin = strings.TrimSuffix(words[1], "/readyz")
		case words[0] == "Kafka":
			s.kafka = words[1]
		case words[0] == "Ctrl-C":
			return s
		}
	}
	t.Fatal("make run ended before it was ready")
	return s
}

// What README.md tells a newcomer to type works, and shows what it says.
func TestReadme(t *testing.T) {
	blocks := shellBlocks(t)
	if len(blocks) < 3 || !strings.Contains(blocks[0], "make run\n") || !strings.Contains(blocks[0], "make test\n") {
		t.Fatalf("README.md does not begin with the two commands: %q", blocks)
	}
	if out, err := exec.CommandContext(t.Context(), "make", "-n", "test").CombinedOutput(); err != nil {
		t.Fatalf("make test: %v\n%s", err, out)
	}
	s := makeRun(t)

	binary := filepath.Join(t.TempDir(), "freshet")
	if err := apptest.Build(binary); err != nil {
		t.Fatal(err)
	}
	// The same commands, at the addresses of this run.
	script := strings.NewReplacer(
		"localhost:8080", strings.TrimPrefix(s.api, "http://"), "localhost:8081", strings.TrimPrefix(s.admin, "http://"),
		"go run ./cmd/freshet", "freshet",
	)
	prelude := "set -euo pipefail\nfreshet() {\n" +
		"  if [ \"$2\" = reset ]; then set -- \"$@\" --admin " + s.admin + "; fi\n" +
		"  " + binary + " \"$@\" --kafka " + s.kafka + "\n}\n"
	for _, block := range blocks[1:] {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", prelude+script.Replace(block))
		cmd.Dir = t.TempDir() // where offsets reset leaves the way back
		out, err := cmd.CombinedOutput()
		t.Logf("%s\n%s", block, out)
		if err != nil {
			t.Fatalf("%v", err)
		}
	}
	awaitText(t, s.api+"/v1/accounts/ann/feed", "hello, whole world")
	awaitText(t, s.api+"/v1/accounts/eve/following", `"dan"`)
	if err := s.stop(); err != nil {
		t.Errorf("make run, interrupted: %v", err)
	}
}

// awaitText waits until a list contains a text.
func awaitText(t *testing.T, url, want string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var list json.RawMessage
		err = json.NewDecoder(answer.Body).Decode(&list)
		_ = answer.Body.Close() // it was read
		if err == nil && strings.Contains(string(list), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not show %s: %s", url, want, list)
		}
	}
}

// The folders and files that README.md and ARCHITECTURE.md name exist.
func TestDocumentsNameWhatExists(t *testing.T) {
	name := regexp.MustCompile("`([a-z.]+(?:/[a-z._A-Z]+)+|[a-z]+/?)`")
	for _, document := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, match := range name.FindAllSubmatch(text, -1) {
			path := string(match[1])
			if !strings.Contains(path, "/") || strings.HasPrefix(path, "freshet.") {
				continue
			}
			found++
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s names %s: %v", document, path, err)
			}
		}
		if found < 5 {
			t.Errorf("%s names %d files; the pattern of this test must have missed some", document, found)
		}
	}
}
