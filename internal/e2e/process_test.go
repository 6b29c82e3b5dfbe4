package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freshet/internal/app/apptest" // also most of the program under test: a cached result does not outlive a change of it
	"freshet/internal/kafka/kafkatest"
)

// binary is the program, built once for all tests. faulty is where the one goes whose fan-out can be made to deliver
// wrongly; buildFaulty builds it for the test that needs it.
var (
	binary, faulty string
	buildFaulty    = sync.OnceValue(func() error { return build(faulty, "misdeliver") })
)

func TestMain(m *testing.M) {
	kafkatest.AtOnce(3) // they wait for their children most of the time
	dir, err := os.MkdirTemp("", "freshet-e2e-")
	if err == nil {
		binary = filepath.Join(dir, "freshet")
		err = build(binary)
		faulty = filepath.Join(dir, "faulty")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}))
}

func build(to string, tags ...string) error {
	if onServers {
		tags = append(tags, "crash")
	}
	var flags []string
	if len(tags) > 0 {
		flags = append(flags, "-tags", strings.Join(tags, ","))
	}
	if raced() {
		flags = append(flags, "-race")
	}
	return apptest.Build(to, flags...)
}

func raced() bool { return os.Getenv("FRESHET_E2E_RACE") == "1" }

// patience is how long a test waits for what should happen soon.
func patience() time.Duration {
	if raced() || onServers {
		return 2 * time.Minute
	}
	return 30 * time.Second
}

// onServers says that the tests are those on real servers.
var onServers = false

// await waits until cond is true, for as long as what it sees changes at least once in patience: a machine that others
// keep busy takes its time. What a failure says is what cond saw last.
func await(t *testing.T, what string, cond func() (bool, string)) {
	t.Helper()
	begun, before := time.Now(), ""
	changed := begun
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, seen := cond()
		if ok {
			return
		}
		now := time.Now()
		if seen != before {
			before, changed = seen, now
		}
		if now.Sub(changed) > patience() || now.Sub(begun) > longestWait {
			t.Fatalf("%s: not after %s, and for %s it is the same; last seen: %s", what, since(begun), since(changed), seen)
		}
		<-tick.C
	}
}

// longestWait ends a wait for what changes for ever.
const longestWait = 5 * time.Minute

// process is the program in a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    string // the file that its standard error goes to
	begun  time.Time
	listen string // the address of the API, known before it listens

	mu     sync.Mutex
	stdout strings.Builder
	output sync.WaitGroup
	silent atomic.Bool // the standard output is closed: the process has ended

	ready  atomic.Bool
	killed atomic.Bool // set before the signal
	ended  bool
	// expected is a part of errors in the log that belong there.
	expected string

	admin, kafka, redis string
}

// announced is what a process prints when it is ready; what its roles do not need is left out.
var announced = regexp.MustCompile(`(?s)ready after \S+\n` +
	`(?: +API +(http://\S+)/v1[^\n]*\n)?.* +operators +(http://\S+)/readyz.* Kafka +(\S+)\n(?: +Redis +(\S+)\n)?.*Ctrl-C`)

// launch starts `freshet dev` and does not wait until it is ready.
func launch(t *testing.T, listen string, flags ...string) *process {
	t.Helper()
	args := append([]string{
		"dev", "--listen", listen, "--admin", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--redis-listen", "127.0.0.1:0",
	}, flags...)
	return execute(t, listen, args...)
}

// start launches a process with ports of its own and waits until it is ready.
func start(t *testing.T, flags ...string) *process {
	t.Helper()
	p := launch(t, freePort(t), flags...)
	p.awaitReady()
	return p
}

func execute(t *testing.T, listen string, args ...string) *process {
	t.Helper()
	return executeWith(t, nil, listen, args...)
}

// executeWith starts the program with more variables in its environment.
func executeWith(t *testing.T, env []string, listen string, args ...string) *process {
	t.Helper()
	return executeProgram(t, binary, env, listen, args...)
}

func executeProgram(t *testing.T, program string, env []string, listen string, args ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "stderr-")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(program, args...), log: log.Name(), begun: time.Now(), listen: listen}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	p.output.Go(func() { p.read(out) })
	t.Cleanup(p.cleanUp)
	return p
}

func (p *process) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		p.mu.Lock()
		p.stdout.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
	}
	p.silent.Store(true)
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

func (p *process) awaitReady() {
	p.t.Helper()
	await(p.t, "the process is ready", func() (bool, string) {
		found := announced.FindStringSubmatch(p.printed())
		if found == nil {
			if p.silent.Load() {
				p.t.Fatalf("the process has ended: %s", p.stderr())
			}
			return false, p.printed() + p.stderr()
		}
		p.admin, p.kafka, p.redis = found[2], found[3], found[4]
		return found[1] == p.url() || found[1] == "", p.printed()
	})
	p.ready.Store(true)
}

func (p *process) url() string { return "http://" + p.listen }

func (p *process) stderr() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// kill ends the process at once and proves that it was a signal that ended it.
func (p *process) kill() {
	p.t.Helper()
	p.killed.Store(true)
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Errorf("kill the process: %v", err)
	}
	p.awaitKilled()
}

// awaitKilled waits until the process has ended and proves that it was killed.
func (p *process) awaitKilled() {
	p.t.Helper()
	p.wait()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		p.t.Errorf("the process was to be killed, and ended with %s", p.cmd.ProcessState)
	}
}

// stop ends the process as Ctrl-C does, and returns how long that took.
func (p *process) stop() time.Duration {
	p.t.Helper()
	begun := time.Now()
	p.killed.Store(true)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Errorf("interrupt the process: %v", err)
	}
	if code := p.wait(); code != 0 {
		p.t.Errorf("after Ctrl-C the exit code is %d, want 0\n%s", code, p.tail())
	}
	return time.Since(begun)
}

// wait waits until the process has ended, and returns its exit code, -1 after a signal.
func (p *process) wait() int {
	p.t.Helper()
	timer := time.AfterFunc(patience(), func() {
		p.t.Errorf("the process does not end")
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines are in the log then
	})
	defer timer.Stop()
	p.output.Wait()  // before Wait, which closes the pipe
	_ = p.cmd.Wait() // what it says is in the state
	p.ended = true
	return p.cmd.ProcessState.ExitCode()
}

var troubles = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE|.*level=ERROR).*$`)

// cleanUp ends the process, and looks for what no run should have in its log.
func (p *process) cleanUp() {
	if !p.ended {
		p.killed.Store(true)
		_ = p.cmd.Process.Kill()
		p.wait()
	}
	for _, found := range troubles.FindAllString(p.stderr(), -1) {
		if p.expected != "" && strings.Contains(found, p.expected) {
			continue
		}
		if !onServers || !strings.Contains(found, "failed, will be started again") { // as it should be when they fail
			p.t.Errorf("the log has: %s", found)
		}
	}
	if p.t.Failed() {
		p.t.Logf("the end of the log of process %d:\n%s", p.cmd.Process.Pid, p.tail())
	}
}

// tail is the end of the log, without the requests that came too early.
func (p *process) tail() string {
	var text strings.Builder
	for line := range strings.Lines(p.stderr()) {
		if !strings.Contains(line, "status=503") {
			text.WriteString(line)
		}
	}
	return text.String()[max(0, text.Len()-8000):]
}

// tool runs a command that ends by itself.
func tool(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = t.TempDir() // where offsets reset leaves the way back
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Fatalf("freshet %v: %v\n%s", args, err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// logged is the lines of the log that name something.
func (p *process) logged(what string) string {
	var text strings.Builder
	for line := range strings.Lines(p.stderr()) {
		if strings.Contains(line, what) {
			text.WriteString(line)
		}
	}
	return text.String()
}

// handedOut are the ports that freePort has answered.
var handedOut sync.Map

// freePort is an address that nothing listens on, and that no other call is answered. It is outside of the range from
// which the system takes the ports of outgoing connections, so it stays free while a process is restarted.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(20_000+rand.IntN(10_000))
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, taken := handedOut.LoadOrStore(address, true); taken {
			continue
		}
		return address
	}
	t.Fatal("no free port found")
	return ""
}
