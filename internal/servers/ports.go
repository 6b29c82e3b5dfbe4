package servers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// Ports are taken from below those that the system gives to outgoing connections (32768 and up on Linux): one of these
// could sit on a port while its server is down.
const (
	firstPort = 20000
	lastPort  = 29999
)

// ErrPortsTaken is wrapped by the error for the ports of a directory that somebody else uses now.
var ErrPortsTaken = errors.New("the ports are taken")

// ports are reserved for this process: each by a lock on a file that all processes of a user share, so they stay
// reserved while their server is down and are free again when this process ends, however it ends.
type ports struct {
	numbers []int
	locks   []*flock.Flock
}

// reservePorts takes the ports that file names, or count free ones, which it then writes there.
func reservePorts(file string, count int) (*ports, error) {
	dir, err := lockDir()
	if err != nil {
		return nil, err
	}
	p := &ports{}
	content, err := os.ReadFile(file) //nolint:gosec // in a directory of ours
	switch {
	case err == nil:
		err = p.again(dir, strings.Fields(string(content)), count)
	case errors.Is(err, os.ErrNotExist):
		if err = p.find(dir, count); err == nil {
			err = writeFile(file, strings.Trim(fmt.Sprint(p.numbers), "[]")+"\n")
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

// lockDir is where the locks lie: they are shared by processes with different caches too.
func lockDir() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("freshet-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory for the locks of ports: %w", err)
	}
	return dir, nil
}

func (p *ports) again(dir string, fields []string, count int) error {
	if len(fields) != count {
		return fmt.Errorf("the directory is that of a server with %d ports, not %d", len(fields), count)
	}
	for _, f := range fields {
		port, err := strconv.Atoi(f)
		if err != nil {
			return fmt.Errorf("read the ports: %w", err)
		}
		ok, err := p.take(dir, port)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: %d; is another server running in the same directory?", ErrPortsTaken, port)
		}
	}
	return nil
}

func (p *ports) find(dir string, count int) error {
	const all = lastPort - firstPort + 1
	start := rand.IntN(all)
	for i := 0; i < all && len(p.numbers) < count; i++ {
		if _, err := p.take(dir, firstPort+(start+i)%all); err != nil {
			return err
		}
	}
	if len(p.numbers) < count {
		return fmt.Errorf("%w: all from %d to %d", ErrPortsTaken, firstPort, lastPort)
	}
	return nil
}

// take reserves a port if nobody has reserved it or listens on it.
func (p *ports) take(dir string, port int) (bool, error) {
	lock := flock.New(filepath.Join(dir, strconv.Itoa(port)))
	ok, err := lock.TryLock()
	if err != nil {
		return false, fmt.Errorf("reserve port %d: %w", port, err)
	}
	if !ok {
		return false, lock.Close()
	}
	l, err := net.Listen("tcp", loopback(port)) //nolint:noctx // binding a loopback port does not wait
	if err != nil {
		return false, lock.Close() // somebody listens there
	}
	p.numbers, p.locks = append(p.numbers, port), append(p.locks, lock)
	return true, l.Close()
}

func (p *ports) release() error {
	var errs []error
	for _, l := range p.locks {
		errs = append(errs, l.Close())
	}
	p.locks = nil
	return errors.Join(errs...)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
