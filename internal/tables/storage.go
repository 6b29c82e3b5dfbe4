package tables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	gokastorage "github.com/lovoo/goka/storage"
)

// none is the offset of a storage that holds nothing of its changelog yet.
const none = -1

// flushBytes is how much acknowledged data a storage gathers before it writes a batch. Rows that change often are so
// written once; a crash costs reading that much of the changelog again.
const flushBytes = 128 << 10

// errClosed is returned for the use of a storage that is not open.
var errClosed = errors.New("the local table is not open")

// storage is one partition of a table. A row is looked for in pending, then in acked, then on disk. Values are kept and
// returned as they are, not copied: nobody changes them after Set, nor what Get returned.
type storage struct {
	tables *Tables
	place  place
	prefix []byte

	mu   sync.RWMutex
	live bool // open, and in step with its changelog
	// pending has, for each key, the values set and not known to be in the changelog, oldest first; nil is a delete.
	pending map[string][][]byte
	// acked has the rows that are in the changelog and not on disk yet; nil is a delete.
	acked      map[string][]byte
	ackedBytes int
	// offset: disk and acked together hold the changelog up to here, inclusive.
	offset        int64
	offsetChanged bool
	// last is the highest offset that an acknowledgement named; above it, SetOffset speaks of the changelog.
	last int64
	// unsure are the rows acknowledged without an offset since the last one that had it (see acknowledged).
	unsure []acknowledgement
	// gap: somebody else wrote to the changelog, so the offset stays where it is.
	gap bool
	// fence is how far the changelog has been fenced, as far as it was read.
	fence  Fence
	warned bool // of a row that was passed over
	// own is what only the table of a processor that writes it has; nil for all others.
	own *ownership
}

var _ gokastorage.Storage = (*storage)(nil)

func newStorage(t *Tables, p place) *storage {
	return &storage{
		tables: t,
		place:  p,
		prefix: p.prefix(),
		offset: none,
		last:   none,
		fence:  NewFence(),
	}
}

// Open implements goka's Storage.
func (s *storage) Open() error {
	if err := s.tables.register(s); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return fmt.Errorf("open %s: %w", s.place, err)
	}
	if err := s.takeOver(); err != nil {
		return fmt.Errorf("fence %s off from whoever owned it before: %w", s.place, err)
	}
	return nil
}

func (s *storage) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := s.read(append(slices.Clip(s.prefix), offsetRow))
	switch {
	case err != nil:
		return err
	case value == nil:
	case len(value) != 16:
		return fmt.Errorf("the stored offset and fence %x are not 16 bytes long", value)
	default:
		s.offset = int64(binary.BigEndian.Uint64(value))
		s.fence.Epoch = int64(binary.BigEndian.Uint64(value[8:]))
	}
	s.live, s.pending, s.acked = true, map[string][][]byte{}, map[string][]byte{}
	return nil
}

// Close writes what is acknowledged, drops what is pending, and lets the place be opened again. Closing a storage that
// is not open does nothing.
func (s *storage) Close() error {
	s.giveUp(errClosed)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.tables.unregister(s)
	if !s.live {
		return nil
	}
	err := s.flush()
	s.live, s.pending, s.acked = false, nil, nil
	return err
}

// Set implements goka's Storage.
func (s *storage) Set(key string, value []byte) error {
	if value == nil {
		return fmt.Errorf("set row %q in %s: the value is nil", key, s.place)
	}
	return s.write(key, value)
}

// Delete implements goka's Storage.
func (s *storage) Delete(key string) error { return s.write(key, nil) }

func (s *storage) write(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live {
		return fmt.Errorf("write row %q in %s: %w", key, s.place, errClosed)
	}
	s.pending[key] = append(s.pending[key], value)
	return nil
}

// Get implements goka's Storage.
func (s *storage) Get(key string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.live {
		return nil, fmt.Errorf("read row %q of %s: %w", key, s.place, errClosed)
	}
	if values := s.pending[key]; len(values) > 0 {
		return values[len(values)-1], nil
	}
	if value, ok := s.acked[key]; ok {
		return value, nil
	}
	value, err := s.read(s.rowKey(key))
	if err != nil {
		return nil, fmt.Errorf("read row %q of %s: %w", key, s.place, err)
	}
	return value, nil
}

// Has implements goka's Storage.
func (s *storage) Has(key string) (bool, error) {
	value, err := s.Get(key)
	return value != nil, err
}

// GetOffset implements goka's Storage.
func (s *storage) GetOffset(def int64) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.offset == none {
		return def, nil
	}
	return s.offset, nil
}

// SetOffset implements goka's Storage. goka calls it in two cases: after a row that it read from the changelog, and
// after the acknowledgement of a row that it produced. The second says nothing new, and is known by its offset; it may
// also come after Close.
func (s *storage) SetOffset(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live || offset <= s.last {
		return nil
	}
	for key, values := range s.pending {
		// A copy: the value is part of a fetched batch, which it would keep in memory.
		s.ack(key, bytes.Clone(values[len(values)-1]))
	}
	clear(s.pending)
	s.moveTo(offset)
	return s.flushIfLarge()
}

// MarkRecovered implements goka's Storage.
func (s *storage) MarkRecovered() error {
	if err := s.rewrite(); err != nil {
		return fmt.Errorf("end the recovery of %s: %w", s.place, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live {
		return fmt.Errorf("end the recovery of %s: %w", s.place, errClosed)
	}
	return s.flush()
}

// ack notes that a row is in the changelog.
func (s *storage) ack(key string, value []byte) {
	s.acked[key] = value
	s.ackedBytes += len(key) + len(value) + len(s.prefix)
}

func (s *storage) moveTo(offset int64) {
	s.offset, s.offsetChanged = offset, true
}

func (s *storage) flushIfLarge() error {
	if s.ackedBytes < flushBytes {
		return nil
	}
	return s.flush()
}

// flush writes the acknowledged rows and the offset, in one batch.
func (s *storage) flush() error {
	if len(s.acked) == 0 && !s.offsetChanged {
		return nil
	}
	b := s.tables.db.NewBatchWithSize(s.ackedBytes + len(s.acked)*16 + 64)
	defer func() { _ = b.Close() }() // never fails for a batch that was only written to
	for key, value := range s.acked {
		if value == nil {
			if err := b.Delete(s.rowKey(key), nil); err != nil {
				return fmt.Errorf("write %s: %w", s.place, err)
			}
			continue
		}
		if err := b.Set(s.rowKey(key), value, nil); err != nil {
			return fmt.Errorf("write %s: %w", s.place, err)
		}
	}
	if s.offsetChanged {
		if err := b.Set(append(slices.Clip(s.prefix), offsetRow), s.bookmark(), nil); err != nil {
			return fmt.Errorf("write %s: %w", s.place, err)
		}
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write %s: %w", s.place, err)
	}
	clear(s.acked)
	s.ackedBytes, s.offsetChanged = 0, false
	return nil
}

// bookmark is the offset up to which the changelog does not have to be read again, and how far it is fenced there.
func (s *storage) bookmark() []byte {
	offset, fence := s.offset, s.fence
	if s.own != nil && s.own.skipped != nil {
		offset, fence = s.own.before, s.own.fence
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	return binary.BigEndian.AppendUint64(b, uint64(fence.Epoch))
}

func (s *storage) rowKey(key string) []byte {
	b := make([]byte, 0, len(s.prefix)+1+len(key))
	b = append(b, s.prefix...)
	b = append(b, tableRow)
	return append(b, key...)
}

// read returns a copy of a value on disk, nil if there is none.
func (s *storage) read(key []byte) ([]byte, error) {
	value, closer, err := s.tables.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, value...), closer.Close()
}

// wipe forgets everything, on disk too, and puts the storage out of use.
func (s *storage) wipe() error {
	s.live, s.pending, s.acked, s.offset = false, nil, nil, none
	end := append(slices.Clip(s.prefix), behindRows)
	if err := s.tables.db.DeleteRange(s.prefix, end, pebble.NoSync); err != nil {
		return fmt.Errorf("empty %s: %w", s.place, err)
	}
	return nil
}
