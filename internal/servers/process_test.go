package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleEnv makes the test binary a server, or the parent of one.
const roleEnv = "FRESHET_SERVERS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "server":
		serve()
	case "parent":
		parent()
	default:
		goleak.VerifyTestMain(m)
	}
}

// serve says where it listens and ends when it is asked to, unless it is told to be stubborn or to fail.
func serve() {
	if os.Args[1] == "fail" {
		fmt.Fprintln(os.Stdout, "cannot find my teapot")
		os.Exit(3)
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	l, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, "listening")
	for range asked {
		if os.Args[1] != "stubborn" {
			break
		}
	}
	_ = l.Close()
	fmt.Fprintln(os.Stdout, "ended as asked")
	os.Exit(0)
}

// parent starts a server and tells its process id.
func parent() {
	p := &process{name: "child", program: os.Args[0], args: os.Args[1:3], log: os.Args[3]}
	if err := os.Setenv(roleEnv, "server"); err != nil {
		panic(err)
	}
	if err := p.start(); err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, p.now.pid)
	select {}
}

// fake is a Server of test binaries.
func fake(t *testing.T, o Options, behaviour string, count int) (*Server, error) {
	t.Helper()
	t.Setenv(roleEnv, "server")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := prepare("fake", o, count, 1)
	if err != nil {
		return nil, err
	}
	for i, port := range s.ports.numbers {
		s.nodes = append(s.nodes, &node{address: loopback(port), process: &process{
			name: "fake " + strconv.Itoa(i), program: program, args: []string{behaviour, loopback(port)},
			log: filepath.Join(s.dir, strconv.Itoa(i), "log"),
		}})
	}
	s.serves = func(ctx context.Context) error {
		for _, address := range s.Addrs() {
			if err := dial(ctx, address); err != nil {
				return err
			}
		}
		return nil
	}
	s, err = s.open(t.Context())
	if err == nil {
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s, err
}

func dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func startFake(t *testing.T, o Options, behaviour string, count int) *Server {
	t.Helper()
	s, err := fake(t, o, behaviour, count)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func logOf(t *testing.T, s *Server, node int) string {
	t.Helper()
	b, err := os.ReadFile(s.nodes[node].process.log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\n", " ")
}

func TestStopKillStart(t *testing.T) {
	s := startFake(t, Options{Dir: t.TempDir()}, "willing", 2)
	addrs := fmt.Sprint(s.Addrs())
	if err := s.Stop(1); err != nil {
		t.Fatal(err)
	}
	if err := dial(t.Context(), s.Addrs()[1]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the stopped node: got %v", err)
	}
	if err := dial(t.Context(), s.Addrs()[0]); err != nil {
		t.Errorf("the other node: %v", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(0); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Addrs()); got != addrs {
		t.Errorf("the addresses were %s and are %s", addrs, got)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for node, want := range []string{
		"listening listening ended as asked ", // killed once
		"listening ended as asked listening ended as asked listening ended as asked ",
	} {
		if got := logOf(t, s, node); got != want {
			t.Errorf("log of node %d: got %q, want %q", node, got, want)
		}
	}
	if err := s.Kill(2); !errors.Is(err, ErrNoNode) {
		t.Errorf("kill a node that is not there: %v", err)
	}
}

func TestStubbornIsKilled(t *testing.T) {
	s := startFake(t, Options{Dir: t.TempDir()}, "stubborn", 1)
	if err := s.nodes[0].process.stop(50 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := dial(t.Context(), s.Addrs()[0]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after it was killed: got %v", err)
	}
}

func TestEndsWhileStarting(t *testing.T) {
	dir := t.TempDir()
	_, err := fake(t, Options{Dir: dir}, "fail", 1)
	if err == nil {
		t.Fatal("started")
	}
	log := filepath.Join(dir, "0", "log")
	for _, part := range []string{"fake 0 ended", "exit status 3", "cannot find my teapot", log} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	// The ports are free again.
	startFake(t, Options{Dir: dir}, "willing", 1)
}

func TestContextEndsWhileStarting(t *testing.T) {
	s := startFake(t, Options{}, "willing", 1)
	never := errors.New("not yet")
	s.serves = func(context.Context) error { return never }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := s.Start(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, never) || !strings.Contains(err.Error(), "listening") {
		t.Errorf("got %v, want the deadline, the last answer and the log", err)
	}
}

func TestWait(t *testing.T) {
	s := startFake(t, Options{}, "willing", 2)
	if err := syscall.Kill(s.nodes[1].process.now.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "fake 1 ended: signal: killed") {
		t.Errorf("got %v", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx); err != nil {
		t.Errorf("the context ended: got %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context()); err != nil {
		t.Errorf("stopped: got %v", err)
	}
}

func TestTemporaryDirectoryGoes(t *testing.T) {
	s := startFake(t, Options{}, "willing", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory after Close: %v", err)
	}
}

// A killed parent leaves no server behind, not even one that does not listen to signals.
func TestNoOrphans(t *testing.T) {
	ports, err := reservePorts(filepath.Join(t.TempDir(), "ports"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ports.release(); err != nil {
			t.Error(err)
		}
	}()
	address := loopback(ports.numbers[0])
	cmd := exec.Command(os.Args[0], "stubborn", address, filepath.Join(t.TempDir(), "log"))
	cmd.Env = append(os.Environ(), roleEnv+"=parent")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(child, syscall.SIGKILL) // it is still there, or gone already
		}
	})
	await(t, "the child listens", func() bool { return dial(t.Context(), address) == nil })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // it was killed
	await(t, "the child is gone", func() bool {
		return errors.Is(dial(t.Context(), address), syscall.ECONNREFUSED)
	})
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
		<-tick.C
	}
}
