package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// ErrMissing is wrapped by the error for a program that is not installed. The error says how to install it.
var ErrMissing = errors.New("not installed")

// find looks for a program in PATH.
func find(program, what, install string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is %w: there is no %s in PATH; install it (Debian: apt-get install %s)",
			what, ErrMissing, program, install)
	}
	return path, nil
}

func findJava() (string, error) { return find("java", "Java", "openjdk-17-jre-headless") }

// CacheEnv names the variable that says where jars are kept. Without it that is freshet-servers in the user's cache.
const CacheEnv = "FRESHET_SERVERS_CACHE"

func cacheDir() (string, error) {
	dir := os.Getenv(CacheEnv)
	if dir == "" {
		caches, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a place for jars; %s may name one: %w", CacheEnv, err)
		}
		dir = filepath.Join(caches, "freshet-servers")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find a place for jars: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil { //nolint:gosec // the user names the folder
		return "", fmt.Errorf("make a place for jars; %s may name another: %w", CacheEnv, err)
	}
	return dir, nil
}

// distribution is a Java server: what to fetch of it. The versions of what it depends on are named by its artifacts, so
// they are as fixed as its own.
type distribution struct {
	name      string   // with the version: the folder in the cache
	artifacts []string // group:artifact:version
}

// mavenPlugin copies artifacts and what they depend on into a folder.
const mavenPlugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

// fetchTimeout bounds a download of some 60 MB.
const fetchTimeout = 10 * time.Minute

// jars is the folder with the distribution's jars. The first call of all processes fetches them, while the others wait:
// into a folder of another name, so that one with the right name is always whole.
func (d distribution) jars(ctx context.Context) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, d.name)
	if there(dir) {
		return dir, nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	lock := flock.New(dir + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("wait for whoever else fetches %s: %w", d.name, err)
	}
	if !there(dir) {
		err = d.fetch(ctx, dir)
	}
	return dir, errors.Join(err, lock.Close())
}

func there(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// fetch runs under the lock.
func (d distribution) fetch(ctx context.Context, dir string) error {
	maven, err := find("mvn", "Maven", "maven")
	if err != nil {
		return err
	}
	work := dir + ".partial"
	if err := os.RemoveAll(work); err != nil { // left by somebody who was killed
		return fmt.Errorf("fetch %s: %w", d.name, err)
	}
	if err := writeFile(filepath.Join(work, "pom.xml"), d.pom()); err != nil {
		return fmt.Errorf("fetch %s: %w", d.name, err)
	}
	into := filepath.Join(work, "jars")
	args := []string{"--quiet", "--batch-mode", "-Dstyle.color=never", mavenPlugin, "-DincludeScope=runtime",
		"-DoutputDirectory=" + into}
	cmd := exec.CommandContext(ctx, maven, args...) //nolint:gosec // our own arguments
	cmd.Dir, cmd.SysProcAttr = work, childAttributes()
	// mvn is a script: what it has started ends with it.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch %s from Maven Central: %w\n%s", d.name, errors.Join(ctx.Err(), err), out)
	}
	if err := os.Rename(into, dir); err != nil {
		return fmt.Errorf("fetch %s: %w", d.name, err)
	}
	return os.RemoveAll(work)
}

// pom is a project that has nothing but dependencies.
func (d distribution) pom() string {
	var b strings.Builder
	b.WriteString(`<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>freshet</groupId>
  <artifactId>servers</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
`)
	for _, a := range d.artifacts {
		part := strings.SplitN(a, ":", 3)
		fmt.Fprintf(&b, "    <dependency><groupId>%s</groupId>", part[0])
		fmt.Fprintf(&b, "<artifactId>%s</artifactId><version>%s</version></dependency>\n", part[1], part[2])
	}
	b.WriteString("  </dependencies>\n</project>\n")
	return b.String()
}
