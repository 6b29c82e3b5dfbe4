package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// ErrLocked is wrapped by the error of LockDir for a directory that another process has locked.
var ErrLocked = errors.New("the directory is in use")

// lockFile lies in the locked directory and holds the id of the process. It stays after unlocking: removing it would
// let two processes lock two files of one name.
const lockFile = "LOCK.pid"

// LockDir locks dir, creating it if needed, until unlock is called or the process ends, however it ends. The broker
// does not notice a second one on its files, so whoever opens a data directory locks it first.
func LockDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	path := filepath.Join(dir, lockFile)
	lock := flock.New(path)
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s is locked by %s; stop that process or choose another directory",
			ErrLocked, dir, holder(path))
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Unlock())
	}
	return func() error {
		if err := lock.Unlock(); err != nil {
			return fmt.Errorf("unlock %s: %w", dir, err)
		}
		return nil
	}, nil
}

// holder names the process that the lock file names. The file is empty for the moment between locking and writing.
func holder(path string) string {
	b, err := os.ReadFile(path) //nolint:gosec // the lock file of the operator's own directory
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return "process " + pid
	}
	return "another process"
}
