package servers

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeMaven puts an mvn first in PATH that notes its calls in a file and copies the pom as a jar.
func fakeMaven(t *testing.T, script string) (calls func() int) {
	t.Helper()
	bin, notes := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	script = "#!/bin/sh\necho call >> " + notes + "\n" +
		`for a in "$@"; do case "$a" in -DoutputDirectory=*) into="${a#*=}";; esac; done` + "\n" + script
	if err := os.WriteFile(filepath.Join(bin, "mvn"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv(CacheEnv, filepath.Join(t.TempDir(), "cache"))
	return func() int {
		b, err := os.ReadFile(notes)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), "call")
	}
}

var something = distribution{name: "something-1.2", artifacts: []string{"org.example:something_2.13:1.2"}}

func TestFetchOnce(t *testing.T) {
	calls := fakeMaven(t, "mkdir $into && cp pom.xml $into/something.jar")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dir, err := something.jars(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			pom, err := os.ReadFile(filepath.Join(dir, "something.jar"))
			want := "<groupId>org.example</groupId><artifactId>something_2.13</artifactId><version>1.2</version>"
			if err != nil || !strings.Contains(string(pom), want) {
				t.Errorf("got %q, %v, want a pom with %s", pom, err, want)
			}
		})
	}
	wg.Wait()
	if n := calls(); n != 1 {
		t.Errorf("fetched %d times, want once", n)
	}
}

func TestFetchFails(t *testing.T) {
	fakeMaven(t, "mkdir $into; touch $into/half.jar; echo no route to Maven Central; exit 1")
	_, err := something.jars(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no route to Maven Central") {
		t.Fatalf("got %v, want what mvn said", err)
	}
	// Half a download is never taken for a whole one.
	cache := os.Getenv(CacheEnv)
	fakeMaven(t, "mkdir $into && cp pom.xml $into/whole.jar")
	t.Setenv(CacheEnv, cache)
	dir, err := something.jars(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if want := []string{filepath.Join(dir, "whole.jar")}; err != nil || !slices.Equal(files, want) {
		t.Errorf("got %v, %v, want %v", files, err, want)
	}
}

func TestFetchIsCancelled(t *testing.T) {
	fakeMaven(t, "sleep 1000 & wait")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		await(t, "mvn is called", func() bool {
			_, err := os.Stat(filepath.Join(os.Getenv(CacheEnv), "something-1.2.partial", "pom.xml"))
			return err == nil
		})
	})
	if _, err := something.jars(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	wg.Wait()
}

func TestMissingPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv(CacheEnv, t.TempDir())
	tests := []struct {
		name, install string
		start         func() error
	}{
		{"Redis", "apt-get install redis-server", func() error { _, err := Redis(t.Context(), Options{}); return err }},
		{"Kafka", "apt-get install openjdk-17", func() error { _, err := Kafka(t.Context(), Options{}); return err }},
		{"Cassandra", "apt-get install openjdk-17", func() error { _, err := Cassandra(t.Context(), Options{}); return err }},
		{"Maven", "apt-get install maven", func() error { _, err := something.jars(t.Context()); return err }},
	}
	for _, test := range tests {
		if err := test.start(); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), test.install) {
			t.Errorf("%s: got %v, want an error that wraps ErrMissing and says %q", test.name, err, test.install)
		}
	}
}

func TestNumbersOfNodes(t *testing.T) {
	for _, n := range []int{2, 4, 5, 7} {
		starts := map[string]error{}
		_, starts["Kafka"] = Kafka(t.Context(), Options{Brokers: n})
		_, starts["Redis"] = Redis(t.Context(), Options{RedisNodes: n})
		_, starts["Cassandra"] = Cassandra(t.Context(), Options{CassandraNodes: n})
		for name, err := range starts {
			if !errors.Is(err, ErrNodes) {
				t.Errorf("%d nodes of %s: got %v", n, name, err)
			}
		}
	}
	if _, err := Redis(t.Context(), Options{RedisNodes: 6, Secure: &Secure{}}); !errors.Is(err, ErrNodes) {
		t.Errorf("a cluster of Redis with users: got %v", err)
	}
}

// The nodes share the ring evenly.
func TestTokens(t *testing.T) {
	if token := cassandraToken(0, 1); token != 0 {
		t.Errorf("a node alone begins at %d", token)
	}
	const third = math.MaxUint64 / 3
	for i := range 3 {
		next := cassandraToken((i+1)%3, 3)
		if share := uint64(next) - uint64(cassandraToken(i, 3)); share < third || share > third+3 {
			t.Errorf("node %d has %d of the ring", i, share)
		}
	}
}
