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
// A second rule keeps out who is no longer the owner. A process that was paused for so long that its partition went to
// another may, when it wakes up, still get a row into the changelog, behind what the new owner wrote there. So an owner
// first of all writes a fence, and every reader of the changelog, this host's recovery, other hosts' and views, passes
// over the rows of whoever fenced it earlier (Fence). The owner of the moment notices a foreign record by the offset
// that its own acknowledgements skip; its processor then fails, and the session after that writes again the rows that
// were passed over, since compaction would keep only the foreign ones (fencing.go).
//
// Writes are not synced. Pebble keeps their order, so a crash takes an end of them, offsets included, and the next
// start reads a little more of the changelog.
//
// Files: storage.go is one partition of a table, producer.go what is written and acknowledged, fence.go the rule of
// fences, fencing.go what a storage does by it, iterator.go what it says.
package tables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka"
	gokastorage "github.com/lovoo/goka/storage"
)

// Tables is the database of a process. It is safe for concurrent use.
type Tables struct {
	db *pebble.DB

	mu        sync.RWMutex
	open      map[place]*storage
	producers map[string]*producer // by group
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
	return &Tables{db: db, open: map[place]*storage{}, producers: map[string]*producer{}}, nil
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

// Holder is whoever has tables here: a processor or a view. Its builder, its callback and, for a processor, its
// producer belong together: with another callback zombies' rows count, and with another producer rows reach the disk
// before they are known to be in Kafka.
type Holder struct {
	tables     *Tables
	owner      owner
	partitions int32
}

// Processor is the holder of the group's own table, which has this many partitions, and of the tables that it joins or
// looks up.
func (t *Tables) Processor(group goka.Group, partitions int32) Holder {
	return Holder{t, owner{processorKind, string(group)}, partitions}
}

// View is the holder of a view's table. Views of the same table in a process take different names; a name must stay the
// same over restarts for the view to find what it had.
func (t *Tables) View(name string) Holder {
	return Holder{tables: t, owner: owner{viewKind, name}}
}

// Builder implements goka's storage.Builder.
func (h Holder) Builder(topic string, partition int32) (gokastorage.Storage, error) {
	if len(h.owner.name) > 255 || len(topic) > 255 {
		return nil, fmt.Errorf("local table %s of %s: names have at most 255 bytes", topic, h.owner.name)
	}
	return newStorage(h.tables, place{owner: h.owner, topic: topic, partition: partition}), nil
}

// Update is the callback for goka's WithUpdateCallback or WithViewCallback: it calls next for the rows that count.
func (h Holder) Update(next goka.UpdateCallback) goka.UpdateCallback {
	return func(ctx goka.UpdateContext, s gokastorage.Storage, key string, value []byte) error {
		own := h.tables.lookup(place{h.owner, string(ctx.Topic()), ctx.Partition()})
		if own == nil {
			return fmt.Errorf("read row %q of %s: %w", key, ctx.Topic(), errClosed)
		}
		if !own.admit(ctx.Offset(), key, value, ctx.Headers()) {
			return nil
		}
		return next(ctx, s, key, value)
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
	return nil
}

func (t *Tables) unregister(s *storage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[s.place] == s {
		delete(t.open, s.place)
	}
}

func (t *Tables) producerOf(group string) *producer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.producers[group]
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
