//go:build crash

package crash

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var (
	last Point
	left atomic.Int64 // how often the process may still come past it, this time included
)

func init() {
	text, ok := os.LookupEnv(Env)
	if !ok {
		return
	}
	point, n, err := parse(text)
	if err != nil {
		panic(err)
	}
	last = point
	left.Store(n)
}

func parse(text string) (Point, int64, error) {
	name, count, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 || !slices.Contains(Points, Point(name)) {
		return "", 0, fmt.Errorf("%s=%s: want one of %v, a colon and a number from 1", Env, text, Points)
	}
	return Point(name), n, nil
}

// At ends the process if this is the point, for the n-th time.
func At(p Point) {
	if p == last && left.Add(-1) == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL) // cannot fail for oneself
		select {}
	}
}
