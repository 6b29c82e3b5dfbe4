package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that is started, ended and started again with the same arguments. Its output goes to the end of
// one log, however often it starts.
type process struct {
	name    string // for errors
	program string
	args    []string
	dir     string
	log     string

	mu  sync.Mutex
	now *running // nil before the first start
}

// running is one life of a process.
type running struct {
	pid   int
	ended chan struct{} // closed when it is gone; err is set before
	err   error
	asked bool // somebody ended it; under process.mu
}

// start starts the program unless it runs. It has a process group of its own, so that a Ctrl-C in a terminal reaches
// this process only, which then stops it properly.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil && !p.now.over() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(p.log), 0o750); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	cmd := exec.Command(p.program, p.args...) //nolint:gosec,noctx // our own arguments; it outlives every context
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, out, out
	cmd.SysProcAttr = childAttributes()

	r := &running{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ends the child with the thread that started it, so the thread stays as long as the child does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			r.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			r.err = cmd.Wait()
		}
		r.err = errors.Join(r.err, out.Close())
		close(r.ended)
	}()
	if err := <-started; err != nil {
		<-r.ended
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.now = r
	return nil
}

func (r *running) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// stop ends the process: with SIGTERM, and with SIGKILL after the grace, at once if that is 0. It returns when the
// process is gone. One that does not run is left alone.
func (p *process) stop(grace time.Duration) error {
	p.mu.Lock()
	r := p.now
	if r == nil || r.over() {
		p.mu.Unlock()
		return nil
	}
	r.asked = true
	p.mu.Unlock()
	if grace > 0 {
		if err := r.signal(syscall.SIGTERM); err != nil {
			return fmt.Errorf("stop %s: %w", p.name, err)
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-r.ended:
			return nil
		case <-timer.C:
		}
	}
	if err := r.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-r.ended
	return nil
}

// signal reaches the whole process group.
func (r *running) signal(s syscall.Signal) error {
	err := syscall.Kill(-r.pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return nil // it ended meanwhile
	}
	return err
}

// wait returns nil when ctx ends or the process is stopped, and an error when it ends on its own.
func (p *process) wait(ctx context.Context) error {
	p.mu.Lock()
	r := p.now
	p.mu.Unlock()
	if r == nil {
		return fmt.Errorf("%s was never started", p.name)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-r.ended:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.asked {
		return nil
	}
	how := "exit status 0"
	if r.err != nil {
		how = r.err.Error()
	}
	return fmt.Errorf("%s ended: %s\n%s", p.name, how, p.tail())
}

const (
	tailLines = 20
	tailBytes = 16 << 10
)

// tail is the end of the log, with its name.
func (p *process) tail() string {
	end, err := readEnd(p.log, tailBytes)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	lines := strings.Split(string(bytes.TrimSpace(end)), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return fmt.Sprintf("the end of %s:\n\t%s", p.log, strings.Join(lines, "\n\t"))
}

func readEnd(file string, most int64) (end []byte, err error) {
	f, err := os.Open(file) //nolint:gosec // our own log
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-most), most))
}
