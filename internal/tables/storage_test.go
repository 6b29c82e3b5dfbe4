package tables

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"freshet/internal/kafka/kafkatest"

	"github.com/cockroachdb/pebble/v2/vfs"
	gokastorage "github.com/lovoo/goka/storage"
	"github.com/syndtr/goleveldb/leveldb"
	ldbstorage "github.com/syndtr/goleveldb/leveldb/storage"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	kafkatest.Main(m,
		// LevelDB, which the tests compare with, lets this one linger for a while after Close.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
		// sarama's metrics have one for the whole process.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func openTables(t testing.TB, dir string, fs vfs.FS) *Tables {
	t.Helper()
	tables, err := open(dir, fs)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openStorage opens partition 0 of a view's table, or of a processor's own table if the topic is one.
func openStorage(t testing.TB, b gokastorage.Builder, topic string) *storage {
	t.Helper()
	st, err := b(topic, 0)
	must(t, err)
	must(t, st.Open())
	return st.(*storage)
}

func openLevelDB(t *testing.T) gokastorage.Storage {
	t.Helper()
	db, err := leveldb.Open(ldbstorage.NewMemStorage(), nil)
	must(t, err)
	st, err := gokastorage.New(db)
	must(t, err)
	must(t, st.Open())
	return st
}

// rows reads an iterator to its end, as "key=value".
func rows(t testing.TB, it gokastorage.Iterator, err error) []string {
	t.Helper()
	must(t, err)
	defer it.Release()
	var got []string
	for it.Next() {
		value, err := it.Value()
		must(t, err)
		got = append(got, fmt.Sprintf("%s=%s", it.Key(), value))
	}
	must(t, it.Err())
	return got
}

// The same steps give the same answers as goka's own storage on LevelDB, whether the rows lie in memory or on disk, and
// whether they came from the changelog or are pending.
func TestAnswersAsLevelDB(t *testing.T) {
	type step func(t *testing.T, s gokastorage.Storage) string
	set := func(key, value string) step {
		return func(t *testing.T, s gokastorage.Storage) string { must(t, s.Set(key, []byte(value))); return "" }
	}
	remove := func(key string) step {
		return func(t *testing.T, s gokastorage.Storage) string { must(t, s.Delete(key)); return "" }
	}
	offset := func(o int64) step {
		return func(t *testing.T, s gokastorage.Storage) string { must(t, s.SetOffset(o)); return "" }
	}
	recovered := func(t *testing.T, s gokastorage.Storage) string { must(t, s.MarkRecovered()); return "" }
	look := func(key string) step {
		return func(t *testing.T, s gokastorage.Storage) string {
			value, err := s.Get(key)
			must(t, err)
			has, err := s.Has(key)
			must(t, err)
			return fmt.Sprintf("%s=%q nil: %t has: %t", key, value, value == nil, has)
		}
	}
	lookOffset := func(t *testing.T, s gokastorage.Storage) string {
		o, err := s.GetOffset(-3)
		must(t, err)
		return fmt.Sprint("offset ", o)
	}
	all := func(t *testing.T, s gokastorage.Storage) string {
		it, err := s.Iterator()
		return fmt.Sprint(rows(t, it, err))
	}
	between := func(start, limit []byte) step {
		return func(t *testing.T, s gokastorage.Storage) string {
			it, err := s.IteratorWithRange(start, limit)
			return fmt.Sprint(rows(t, it, err))
		}
	}
	seek := func(keys ...string) step {
		return func(t *testing.T, s gokastorage.Storage) (got string) {
			it, err := s.Iterator()
			must(t, err)
			defer it.Release()
			for _, key := range keys {
				ok := it.Seek([]byte(key))
				got += fmt.Sprintf("%t %s ", ok, it.Key())
				got += fmt.Sprintf("then %t %s; ", it.Next(), it.Key())
			}
			return got
		}
	}
	snapshot := func(t *testing.T, s gokastorage.Storage) string {
		it, err := s.Iterator()
		must(t, s.Set("b", []byte("later")))
		must(t, s.Set("b2", []byte("later")))
		must(t, s.Delete("a"))
		return fmt.Sprint(rows(t, it, err))
	}
	fill := []step{
		set("b", "1"), set("a", "2"), set("ab", "3"), set("c", "4"), set("\xff", "5"), set("\xff\xff", "6"), set("ba", ""),
	}
	looks := []step{
		all, look("a"), look("ba"), look("x"), look(""),
		between([]byte("a"), nil), between([]byte("a"), []byte{}), between([]byte("ab"), []byte("c")),
		between(nil, []byte("b")), between(nil, nil), between([]byte("\xff"), nil),
		between([]byte("d"), []byte("e")), between([]byte("c"), []byte("a")),
		seek("a", "aa", "b0", "c", "d"), seek("c", "a"), seek("\xff\xff\xff"),
	}
	change := []step{
		remove("b"), set("c", "new"), set("aa", "new"), remove("none"), set("d", "gone"), remove("d"),
		remove("\xff\xff"), set("a", "2"),
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"empty", slices.Concat([]step{lookOffset}, looks)},
		{"pending", slices.Concat(fill, looks)},
		{"recovered", slices.Concat(fill, []step{offset(6), recovered, lookOffset}, looks)},
		{"acknowledged, in memory", slices.Concat(fill, []step{offset(6)}, looks)},
		{"pending over disk", slices.Concat(fill, []step{offset(6), recovered}, change, looks)},
		{"acknowledged over disk", slices.Concat(fill, []step{offset(6), recovered}, change, []step{offset(14)}, looks)},
		{"all three", slices.Concat(
			fill, []step{offset(6), recovered}, change,
			[]step{offset(14), set("b", "back"), remove("aa"), set("e", "x")}, looks)},
		{"snapshot", slices.Concat(fill, []step{offset(6), recovered, snapshot, all})},
		{"snapshot of what is pending", slices.Concat(fill, []step{snapshot, all})},
		{"offsets", []step{recovered, offset(0), lookOffset, offset(5), lookOffset, offset(3), lookOffset}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tables := openTables(t, t.TempDir(), vfs.Default)
			defer func() { must(t, tables.Close()) }()
			ours, theirs := openStorage(t, tables.View("view").Builder, "rows"), openLevelDB(t)
			defer func() { must(t, theirs.Close()) }()
			for i, step := range test.steps {
				if got, want := step(t, ours), step(t, theirs); got != want {
					t.Errorf("step %d:\n got %s\nwant %s", i, got, want)
				}
			}
		})
	}
}

func TestIteratorAtItsEnds(t *testing.T) {
	tables := openTables(t, "tables", vfs.NewMem())
	defer func() { must(t, tables.Close()) }()
	s := openStorage(t, tables.View("view").Builder, "rows")
	must(t, s.Set("a", []byte("1")))
	it, err := s.Iterator()
	must(t, err)
	if it.Key() != nil {
		t.Errorf("before the first row: key %q", it.Key())
	}
	if !it.Next() || it.Next() || it.Next() || it.Key() != nil {
		t.Error("one row, and then nothing more, was expected")
	}
	it.Release()
	it.Release()
	if it.Next() || it.Seek([]byte("a")) {
		t.Error("a row after Release")
	}
}

func TestOwnersAndTablesAreApart(t *testing.T) {
	dir := t.TempDir()
	builders := func(tables *Tables) []*storage {
		var all []*storage
		for _, b := range []gokastorage.Builder{
			tables.Processor("a", 1).Builder, tables.Processor("ab", 1).Builder,
			tables.View("a").Builder, tables.View("b").Builder,
		} {
			for _, topic := range []string{"a-table", "ba-table", "a"} {
				for _, partition := range []int32{0, 1, 256} {
					st, err := b(topic, partition)
					must(t, err)
					must(t, st.Open())
					all = append(all, st.(*storage))
				}
			}
		}
		return all
	}
	tables := openTables(t, dir, vfs.Default)
	for i, s := range builders(tables) {
		must(t, s.Set("key", fmt.Append(nil, i)))
		must(t, s.SetOffset(int64(i)))
	}
	must(t, tables.Close())
	tables = openTables(t, dir, vfs.Default)
	defer func() { must(t, tables.Close()) }()
	for i, s := range builders(tables) {
		it, err := s.Iterator()
		if got, want := fmt.Sprint(rows(t, it, err)), fmt.Sprintf("[key=%d]", i); got != want {
			t.Errorf("%s: got %s, want %s", s.place, got, want)
		}
		if o, err := s.GetOffset(-3); err != nil || o != int64(i) {
			t.Errorf("%s: offset %d, %v, want %d", s.place, o, err, i)
		}
	}
}

func TestOpenTwice(t *testing.T) {
	tables := openTables(t, "tables", vfs.NewMem())
	defer func() { must(t, tables.Close()) }()
	first := openStorage(t, tables.View("view").Builder, "rows")
	second, err := tables.View("view").Builder("rows", 0)
	must(t, err)
	if err := second.Open(); !errors.Is(err, ErrOpen) {
		t.Fatalf("got %v, want %v", err, ErrOpen)
	}
	must(t, second.Close()) // as goka does after Open failed
	must(t, first.Set("a", []byte("still open")))
	must(t, first.Close())
	must(t, first.Close())
	must(t, second.Open())
}

func TestUseAfterClose(t *testing.T) {
	tables := openTables(t, "tables", vfs.NewMem())
	defer func() { must(t, tables.Close()) }()
	s := openStorage(t, tables.View("view").Builder, "rows")
	must(t, s.Close())
	_, getErr := s.Get("a")
	_, iterErr := s.Iterator()
	for name, err := range map[string]error{
		"Set": s.Set("a", []byte("1")), "Delete": s.Delete("a"), "Get": getErr, "Iterator": iterErr,
		"MarkRecovered": s.MarkRecovered(),
	} {
		if !errors.Is(err, errClosed) {
			t.Errorf("%s: got %v, want %v", name, err, errClosed)
		}
	}
	must(t, s.SetOffset(1))
}

func TestNilIsNoValue(t *testing.T) {
	tables := openTables(t, "tables", vfs.NewMem())
	defer func() { must(t, tables.Close()) }()
	if err := openStorage(t, tables.View("view").Builder, "rows").Set("a", nil); err == nil {
		t.Error("a nil value was taken")
	}
}
