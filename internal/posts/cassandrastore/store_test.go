package cassandrastore

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
	// What real Cassandra makes of both is compared, too.
	var made []string
	for _, m := range migrations {
		for _, s := range statementsOf(m.text) {
			if added := addition.FindStringSubmatch(s); added != nil {
				for i := range made {
					if strings.HasPrefix(made[i], "CREATE TABLE IF NOT EXISTS "+added[1]+" ") {
						made[i] = strings.Replace(made[i], "PRIMARY KEY", added[2]+", PRIMARY KEY", 1)
					}
				}
				continue
			}
			made = append(made, s)
		}
	}
	var wanted []string
	for _, s := range statementsOf(Schema) {
		if !strings.Contains(s, " schema_") {
			wanted = append(wanted, s)
		}
	}
	if got, want := words(made), words(wanted); !slices.Equal(got, want) {
		t.Errorf("the migrations make\n%s\nand the schema is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// addition is a statement that adds a column to a table.
var addition = regexp.MustCompile(`^ALTER TABLE (\w+) ADD IF NOT EXISTS (\w+ \w+)$`)

// words are statements with one space where there is any.
func words(statements []string) (all []string) {
	for _, s := range statements {
		all = append(all, strings.Join(strings.Fields(s), " "))
	}
	return all
}

// A migration that was released is never changed: here is what each was.
func TestMigrationsStayAsTheyWere(t *testing.T) {
	released := []string{
		"bcd85d3189de7f02ee91852f4fde5db3ea310f521ff52598f13ca41cfc1a2eb4",
		"a661cddcf567aea073991762968b9160cf8b369b7286d9f8973f1075f4cd8b1c",
	}
	if len(released) != len(migrations) {
		t.Fatalf("%d migrations, and %d are noted here", len(migrations), len(released))
	}
	for i, m := range migrations {
		if m.Checksum != released[i] {
			t.Errorf("migration %04d_%s has changed to %s; make another one instead", m.Version, m.Name, m.Checksum)
		}
		for _, s := range statementsOf(m.text) {
			again := strings.Contains(s, "IF NOT EXISTS") || strings.Contains(s, "IF EXISTS")
			if !changeOf.MatchString(s) || !again {
				t.Errorf("migration %04d_%s: a statement that does not bear being carried out twice: %s", m.Version, m.Name, s)
			}
		}
	}
}

func TestCompare(t *testing.T) {
	at := time.Unix(5, 0)
	known := []Migration{{Version: 1, Name: "one", Checksum: "a"}, {Version: 2, Name: "two", Checksum: "b"}}
	note := func(version int, checksum string) Migration {
		return Migration{Version: version, Name: "x", Checksum: checksum, AppliedAt: at}
	}
	for name, test := range map[string]struct {
		applied []Migration
		pending int
		refusal string
	}{
		"new":      {nil, 2, ""},
		"older":    {[]Migration{note(1, "a")}, 1, ""},
		"gap":      {[]Migration{note(2, "b")}, 1, ""},
		"current":  {[]Migration{note(2, "b"), note(1, "a")}, 0, ""},
		"newer":    {[]Migration{note(1, "a"), note(2, "b"), note(3, "c")}, 0, "versions up to 2"},
		"changed":  {[]Migration{note(1, "other")}, 0, "0001_one was applied with the checksum"},
		"nonsense": {[]Migration{note(0, "a")}, 0, "schema version 0"},
	} {
		all, err := compare("k", known, test.applied)
		var refused *VersionError
		asWanted := errors.As(err, &refused) && !refused.Older && strings.Contains(err.Error(), test.refusal)
		switch {
		case test.refusal == "" && (err != nil || len(pending(all)) != test.pending):
			t.Errorf("%s: %d pending, %v; want %d", name, len(pending(all)), err, test.pending)
		case test.refusal != "" && !asWanted:
			t.Errorf("%s: got %v, want a refusal that says %q", name, err, test.refusal)
		}
	}
	if !known[0].AppliedAt.IsZero() {
		t.Error("what the program knows has changed")
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
