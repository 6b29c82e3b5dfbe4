// Package pebblestore keeps posts and follower lists in a Pebble database on the local disk. It is the post store of a
// process that was given no Cassandra.
//
// Keys, all numbers big-endian and of fixed width (u4: 4 bytes, u8: 8 bytes):
//
//	'p' post:u8                    the post and the offsets of its columns (record.go)
//	'a' author:u8 ^post:u8         nothing; there while the post is created and not deleted; newest first
//	'f' followee:u8 follower:u8    version, follows; kept after an unfollow, for its version
//	'm' post:u8                    a one; there while the post is saved and not known to be published
//	's'                            which slots may have such posts (marks.go)
//	'o' partition:u4               offset and time up to which the archive group has stored a partition of posts
//
// Every value but the empty ones begins with a byte that tells its version. Rows that belong together are written in
// one batch. A value that cannot be read is an error wrapping ErrCorrupt that names the key.
//
// Without Options.Sync a write lies with the operating system when a method returns (wal.go): it outlives the process,
// however it ends, but not a power failure. Pebble keeps the order of writes, so what a power failure takes is always
// the end, and the progress is never ahead of the posts; the archive group commits its Kafka offsets on its own,
// though, so a machine that may lose power sets Sync.
package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"freshet/internal/posts"
)

// ErrCorrupt is wrapped by the error for a value that cannot be read.
var ErrCorrupt = errors.New("a value in the post store cannot be read")

// Options are those of Open. The zero value is a store on disk that does not fsync, logging to slog.Default.
type Options struct {
	// Sync makes every write wait until it is on the disk. Concurrent writers share an fsync.
	Sync bool
	// Log gets Pebble's errors. Nil: slog.Default.
	Log *slog.Logger
	// FS is the file system; nil is the disk. Tests put one that crashes here.
	FS vfs.FS
}

// Store is a posts.Store in a directory. One process at a time can have it open.
type Store struct {
	db *pebble.DB
	// mu makes reading rows and writing them back one step. Readers do not take it.
	mu sync.Mutex
}

var _ posts.Database = (*Store)(nil)

// cacheBytes holds the blocks read lately: enough for the rows of some 100,000 posts, small beside what a broker in the
// same process takes.
const cacheBytes = 64 << 20

// Open opens the store in dir, creating it if needed.
func Open(dir string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if !o.Sync {
		o.FS = writtenFS{o.FS}
	}
	po := &pebble.Options{
		FS: o.FS,
		// The next version's log notes how far it was synced, and refuses to open when something is torn before that,
		// which a power failure without Options.Sync may well do (wal.go).
		FormatMajorVersion: pebble.FormatColumnarBlocks,
		CacheSize:          cacheBytes,
		MemTableSize:       16 << 20,
		Logger:             logger{o.Log},
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, po)
	if err != nil {
		return nil, fmt.Errorf("open the post store in %s: %w", dir, err)
	}
	return &Store{db: db}, nil
}

// Close closes the database.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the post store: %w", err)
	}
	return nil
}

// get hands the value under key to read, or nil if there is none. The value is only valid during the call.
func (s *Store) get(key []byte, read func(value []byte) error) error {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return read(nil)
	}
	if err != nil {
		return fmt.Errorf("read key %x of the post store: %w", key, err)
	}
	err = read(v)
	if err != nil {
		err = corrupt(key, err)
	}
	return errors.Join(err, closer.Close())
}

func corrupt(key []byte, err error) error {
	return fmt.Errorf("%w: key %x: %w", ErrCorrupt, key, err)
}

// commit runs fill under the lock and writes its batch. It syncs the log outside the lock, where it shares the sync
// with other callers, and also if fill had nothing to write: what fill read may be another caller's write that has
// not been synced yet.
func (s *Store) commit(fill func(b *pebble.Batch) error) error {
	b := s.db.NewBatch()
	if err := s.fill(b, fill); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := b.Close(); err != nil {
		return fmt.Errorf("write to the post store: %w", err)
	}
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync the post store: %w", err)
	}
	return nil
}

func (s *Store) fill(b *pebble.Batch, fill func(b *pebble.Batch) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := fill(b); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write to the post store: %w", err)
	}
	return nil
}

const progressV1 = 1

// Progress implements posts.Store.
func (s *Store) Progress(ctx context.Context) (map[int32]posts.Progress, error) {
	all := map[int32]posts.Progress{}
	err := s.scan(ctx, []byte{progressRow}, []byte{progressRow + 1}, func(key, value []byte) (bool, error) {
		if len(key) != 5 {
			return false, corrupt(key, errors.New("the key is not 5 bytes long"))
		}
		p, err := decodeProgress(value)
		if err != nil {
			return false, corrupt(key, err)
		}
		all[int32(binary.BigEndian.Uint32(key[1:]))] = p
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// SetProgress implements posts.Store.
func (s *Store) SetProgress(ctx context.Context, partition int32, p posts.Progress) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	key := progressKey(partition)
	return s.commit(func(b *pebble.Batch) error {
		var old posts.Progress
		err := s.get(key, func(value []byte) (err error) {
			if value != nil {
				old, err = decodeProgress(value)
			}
			return err
		})
		if err != nil {
			return err
		}
		v := binary.AppendVarint([]byte{progressV1}, max(old.Offset, p.Offset))
		v = binary.AppendVarint(v, max(millis(old.Through), millis(p.Through)))
		return b.Set(key, v, nil)
	})
}

func decodeProgress(b []byte) (posts.Progress, error) {
	d := decoder{rest: b}
	if v := d.byte(); d.err == nil && v != progressV1 {
		return posts.Progress{}, fmt.Errorf("the value is of version %d; this program knows version %d", v, progressV1)
	}
	p := posts.Progress{Offset: d.varint(), Through: d.time()}
	return p, d.err
}

// scan calls visit for the keys from start up to end, excluding it, until it returns false or an error. Key and value
// are only valid during the call.
func (s *Store) scan(ctx context.Context, start, end []byte, visit func(key, value []byte) (bool, error)) (err error) {
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return fmt.Errorf("scan the post store from %x: %w", start, err)
	}
	defer func() {
		if e := it.Close(); e != nil && err == nil {
			err = fmt.Errorf("scan the post store from %x: %w", start, e)
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read key %x of the post store: %w", it.Key(), err)
		}
		more, err := visit(it.Key(), value)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	return nil // an error of the iterator comes out of Close
}

// logger passes Pebble's errors on and drops its notes on flushes and compactions.
type logger struct{ log *slog.Logger }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("post store: " + fmt.Sprintf(format, args...))
}

// Fatalf is called when the log can no longer be written. Going on would answer for writes that are lost.
func (l logger) Fatalf(format string, args ...any) {
	panic("post store: " + fmt.Sprintf(format, args...))
}
