package cassandrastore

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"freshet"
)

func TestOneSchema(t *testing.T) {
	published, err := os.ReadFile("../../../docker/schema.cql")
	if err != nil {
		t.Fatal(err)
	}
	if string(published) != Schema {
		t.Error("docker/schema.cql is not what the store makes; run go generate ./internal/posts/cassandrastore")
	}
	var tables []string
	for _, s := range statements() {
		match := tableName.FindStringSubmatch(s)
		if match == nil || strings.Contains(s, "--") || strings.Count(s, "CREATE") != 1 {
			t.Errorf("not one statement that creates a table: %s", s)
			continue
		}
		tables = append(tables, match[1])
	}
	want := []string{"posts", "posts_by_author", "author_buckets", "followers", "follower_buckets", "progress"}
	if !slices.Equal(tables, want) {
		t.Errorf("got %v, want %v", tables, want)
	}
}

func TestOptionsRefused(t *testing.T) {
	good := Options{Addrs: []string{"127.0.0.1:1"}, Keyspace: "k"}
	for _, spoil := range []func(o *Options){
		func(o *Options) { o.Addrs = nil },
		func(o *Options) { o.Addrs = []string{"127.0.0.1:1", "host:port"} },
		func(o *Options) { o.Addrs = []string{":9042"} },
		func(o *Options) { o.Keyspace = "" },
		func(o *Options) { o.Keyspace = "a-b" },
		func(o *Options) { o.Keyspace = "Capital" },
		func(o *Options) { o.Replication = -1 },
		func(o *Options) { o.Consistency = "some" },
	} {
		o := good
		spoil(&o)
		if _, err := Open(t.Context(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: got %v, want %v", o, err, ErrOptions)
		}
	}
	_, err := Open(t.Context(), good)
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(err.Error(), "is it up") {
		t.Errorf("nobody listens: got %v, want the address, and what to look at", err)
	}
}

// The tokens are those that SELECT token(…) of Cassandra 5.0.5 gave.
func TestToken(t *testing.T) {
	tests := []struct {
		partition partition
		want      int64
	}{}
	for _, test := range tests {
		if got := test.partition.token(); got != test.want {
			t.Errorf("%+v: got %d, want %d", test.partition, got, test.want)
		}
	}
	if tokenOf(1<<63) != 1<<63-1 {
		t.Error("the ring has no lowest number")
	}
}

func TestBatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		writes := rapid.SliceOf(rapid.Custom(func(t *rapid.T) write {
			w := write{partition: one(rapid.Int64Range(0, 30).Draw(t, "key"))}
			if rapid.Bool().Draw(t, "two") {
				w.partition = two(w.partition.first, rapid.Int64Range(0, 2).Draw(t, "second"))
			}
			w.bytes = rapid.SampledFrom([]int{rowBytes, rowBytes, rowBytes, 1000, 4 * freshet.MaxText}).Draw(t, "bytes")
			w.args = []any{rapid.Int().Draw(t, "value")}
			return w
		})).Draw(t, "writes")
		count := map[any]int{}
		for _, w := range writes {
			count[[2]any{w.partition, w.args[0]}]++
		}
		for _, batch := range batches(writes) {
			partitions, bytes := map[partition]bool{}, 0
			for _, w := range batch {
				partitions[w.partition] = true
				bytes += w.bytes
				count[[2]any{w.partition, w.args[0]}]--
			}
			switch {
			case len(batch) == 0:
				t.Fatal("an empty batch")
			case len(batch) == 1:
			case len(partitions) == 1 && (len(batch) > partitionRows || bytes > partitionBytes):
				t.Fatalf("%d rows, %d bytes of one partition", len(batch), bytes)
			case len(partitions) > 1 && (len(partitions) > maxPartitions || bytes > batchBytes):
				t.Fatalf("%d partitions, %d bytes", len(partitions), bytes)
			}
		}
		for w, n := range count {
			if n != 0 {
				t.Fatalf("%v: %d times too few", w, n)
			}
		}
	})
}

// Rows of one partition that come together are one write of the server.
func TestBatchesOfPartitions(t *testing.T) {
	var writes []write
	for i := range 4096 {
		writes = append(writes, write{partition: one(int64(i % 64)), bytes: 300})
	}
	rand.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
	if n := len(batches(writes)); n != 64 {
		t.Errorf("64 rows of each of 64 partitions: got %d batches, want 64", n)
	}
}

func TestKnown(t *testing.T) {
	k := newKnown()
	first, used := one(1), one(2)
	k.add(map[partition]struct{}{first: {}, used: {}})
	for i := range int64(3 * knownAtMost) {
		k.add(map[partition]struct{}{two(i, i): {}})
		if !k.has(used) {
			t.Fatalf("forgot what was used, after %d others", i)
		}
		if n := len(k.young) + len(k.old); n > 2*knownAtMost {
			t.Fatalf("knows %d", n)
		}
	}
	if k.has(first) {
		t.Error("forgets nothing")
	}
}

func TestListStopsAtItsLimit(t *testing.T) {
	const all = 3*bucketsAtOnce + 1
	var read []int64
	next := func(_ context.Context, after *int64) ([]int64, error) {
		from := int64(0)
		if after != nil {
			from = *after + 1
		}
		var buckets []int64
		for b := from; b < min(from+bucketsAtOnce, all); b++ {
			buckets = append(buckets, b)
		}
		return buckets, nil
	}
	entries := func(n int) func(context.Context, int64, int) ([]int64, error) {
		return func(_ context.Context, bucket int64, limit int) ([]int64, error) {
			if bucket < firstStride {
				read = append(read, bucket)
			}
			return slices.Repeat([]int64{bucket}, min(n, limit)), nil
		}
	}
	page, err := list(t.Context(), 10, next, entries(10))
	if err != nil || len(page) != 10 || page[9] != 0 || len(read) != 1 {
		t.Errorf("a full first bucket: got %v, %v, having read %v", page, err, read)
	}
	page, err = list(t.Context(), 2*all, next, entries(1))
	if err != nil || len(page) != all || !slices.IsSorted(page) {
		t.Errorf("every bucket: got %d entries, %v", len(page), err)
	}
	page, err = list(t.Context(), 100, next, entries(3))
	if err != nil || len(page) != 100 || page[99] != 33 || !slices.IsSorted(page) {
		t.Errorf("a page over many buckets: got %v, %v", page, err)
	}
	failure := errors.New("no")
	_, err = list(t.Context(), 10, next, func(context.Context, int64, int) ([]int64, error) { return nil, failure })
	if !errors.Is(err, failure) {
		t.Errorf("got %v, want %v", err, failure)
	}
}
