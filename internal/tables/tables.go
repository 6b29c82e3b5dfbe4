// Package tables keeps goka's local tables: the rows of the partitions that a processor owns, and the copies that joins
// and views hold. All of them lie in one Pebble database a process.
//
// A table is a cache of its changelog in Kafka. One rule makes it a true one: what lies on disk never runs ahead of the
// changelog. goka itself writes a row to its storage first and produces it afterwards; were the row on disk by then, a
// failed produce followed by a restart would leave a row that no other host will ever see, and a redelivered message
// would find its work done. So here
//
//   - Set and Delete keep the row in memory, where Get, Has and iterators see it: it is pending;
//   - the producer (WrapProducer) tells the storage when Kafka has acknowledged the row, and at which offset; only
//     then is it allowed onto the disk, in one batch with the offset up to which the changelog is held;
//   - rows that come from the changelog, in a recovery, a join or a view, are told apart by goka's SetOffset, which
//     follows each of them with an offset that no acknowledgement has named, and go to disk the same way;
//   - closing, like crashing, drops what is pending.
//
// The offset only moves over records that this process knows: when acknowledgements skip an offset, somebody else wrote
// to the partition (a process that believes it still owns it, or this one, in a produce that failed but arrived). Then
// the offset stays, and the next start reads the changelog again from there.
//
// Writes are not synced. Pebble keeps their order, so a crash takes an end of them, offsets included, and the next
// start reads a little more of the changelog.
//
// Files: storage.go is one partition of a table, producer.go the acknowledgements, iterator.go what it says.
package tables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka"
	gokastorage "github.com/lovoo/goka/storage"
)

// Tables is the database of a process. It is safe for concurrent use.
type Tables struct {
	db *pebble.DB
	// opens counts the storages opened so far. It tells an acknowledgement for an earlier storage of a partition from
	// one for the storage that is open now.
	opens atomic.Int64

	mu   sync.RWMutex
	open map[place]*storage
}

// place says which partition of which table a storage holds, and for whom.
type place struct {
	owner     owner
	topic     string
	partition int32
}

// owner keeps apart what a processor and any views hold of the same table.
type owner struct {
	kind byte
	name string
}

const (
	processorKind = 'p'
	viewKind      = 'v'
)

const (
	// cacheBytes holds the blocks read lately; the working set of a processor is better in memory.
	cacheBytes = 128 << 20
	// memTableBytes is written to the log before it is sorted out to disk: larger means fewer, larger files in a
	// recovery.
	memTableBytes = 32 << 20
)

// Open opens the database in dir, creating it if needed. One process at a time can have it open. Pebble's errors go to
// slog.Default.
func Open(dir string) (*Tables, error) {
	return open(dir, vfs.Default)
}

func open(dir string, fs vfs.FS) (*Tables, error) {
	o := &pebble.Options{
		FS:                 fs,
		FormatMajorVersion: pebble.FormatColumnarBlocks,
		CacheSize:          cacheBytes,
		MemTableSize:       memTableBytes,
		Logger:             logger{slog.Default()},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open the local tables in %s (if its files are damaged, delete the directory: everything "+
			"in it comes back from Kafka): %w", dir, err)
	}
	return &Tables{db: db, open: map[place]*storage{}}, nil
}

// Close closes the storages that are still open, which drops what is pending in them, and the database.
func (t *Tables) Close() error {
	t.mu.RLock()
	open := make([]*storage, 0, len(t.open))
	for _, s := range t.open {
		open = append(open, s)
	}
	t.mu.RUnlock()
	var errs []error
	for _, s := range open {
		errs = append(errs, s.Close())
	}
	errs = append(errs, t.db.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the local tables: %w", err)
	}
	return nil
}

// ProcessorBuilder builds the storages of the group's processor: of its own table, and of the tables that it joins or
// looks up. The producer of the processor must be one that WrapProducer returned; with any other, rows reach the disk
// before they are known to be in Kafka.
func (t *Tables) ProcessorBuilder(group goka.Group) gokastorage.Builder {
	return t.builder(owner{processorKind, string(group)})
}

// ViewBuilder builds the storages of a view. Views of the same table in a process take different names; a name must
// stay the same over restarts for the view to find what it had.
func (t *Tables) ViewBuilder(name string) gokastorage.Builder {
	return t.builder(owner{viewKind, name})
}

func (t *Tables) builder(o owner) gokastorage.Builder {
	return func(topic string, partition int32) (gokastorage.Storage, error) {
		if len(o.name) > 255 || len(topic) > 255 {
			return nil, fmt.Errorf("local table %s of %s: names have at most 255 bytes", topic, o.name)
		}
		return newStorage(t, place{owner: o, topic: topic, partition: partition}), nil
	}
}

// ErrOpen is wrapped by the error for a storage that is open already.
var ErrOpen = errors.New("the local table is open already")

func (t *Tables) register(s *storage) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[s.place] != nil {
		return fmt.Errorf("open %s: %w; a second view of a table needs another name", s.place, ErrOpen)
	}
	t.open[s.place] = s
	s.born = t.opens.Add(1)
	return nil
}

func (t *Tables) unregister(s *storage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[s.place] == s {
		delete(t.open, s.place)
	}
}

func (t *Tables) lookup(p place) *storage {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open[p]
}

func (p place) String() string {
	who := "processor"
	if p.owner.kind == viewKind {
		who = "view"
	}
	return fmt.Sprintf("table %s/%d of %s %s", p.topic, p.partition, who, p.owner.name)
}

// prefix begins every key of a place, and no key of another:
//
//	kind:u1  length:u1 name  length:u1 topic  partition:u4    then 'o' for the offset, or 'r' and a row's key
func (p place) prefix() []byte {
	b := []byte{p.owner.kind, byte(len(p.owner.name))}
	b = append(b, p.owner.name...)
	b = append(b, byte(len(p.topic)))
	b = append(b, p.topic...)
	return binary.BigEndian.AppendUint32(b, uint32(p.partition))
}

const (
	offsetRow  = 'o'
	tableRow   = 'r'
	behindRows = tableRow + 1
)

// logger passes Pebble's errors on and drops its notes on flushes and compactions.
type logger struct{ log *slog.Logger }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("local tables: " + fmt.Sprintf(format, args...))
}

// Fatalf is called when the log can no longer be written.
func (l logger) Fatalf(format string, args ...any) {
	panic("local tables: " + fmt.Sprintf(format, args...))
}
