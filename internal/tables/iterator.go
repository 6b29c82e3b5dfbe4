package tables

import (
	"bytes"
	"fmt"
	"slices"
	"sort"

	"github.com/cockroachdb/pebble/v2"
	gokastorage "github.com/lovoo/goka/storage"
)

// Iterator implements goka's Storage: it goes over the rows as they are now, pending ones included.
func (s *storage) Iterator() (gokastorage.Iterator, error) { return s.iterate(nil, nil) }

// IteratorWithRange implements goka's Storage. As in goka's own storage, an empty limit means all keys that begin with
// start.
func (s *storage) IteratorWithRange(start, limit []byte) (gokastorage.Iterator, error) {
	if len(limit) == 0 {
		limit = after(start)
	}
	return s.iterate(start, limit)
}

// iterate goes over the keys from start up to limit, excluding it; a nil limit is the end of the table.
func (s *storage) iterate(start, limit []byte) (gokastorage.Iterator, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.live {
		return nil, fmt.Errorf("iterate over %s: %w", s.place, errClosed)
	}
	rows := s.unwritten(start, limit)
	end := s.rowKey(string(limit))
	if limit == nil {
		end = append(slices.Clip(s.prefix), behindRows)
	}
	disk, err := s.tables.db.NewIter(&pebble.IterOptions{LowerBound: s.rowKey(string(start)), UpperBound: end})
	if err != nil {
		return nil, fmt.Errorf("iterate over %s: %w", s.place, err)
	}
	return &iterator{rows: rows, disk: disk, prefix: s.rowKey("")}, nil
}

// row is a row in memory; a nil value is a delete.
type row struct {
	key   string
	value []byte
}

// unwritten are the rows in the range that are not on disk, or differ there, sorted.
func (s *storage) unwritten(start, limit []byte) []row {
	var rows []row
	within := func(key string) bool { return key >= string(start) && (limit == nil || key < string(limit)) }
	for key, values := range s.pending {
		if within(key) {
			rows = append(rows, row{key, values[len(values)-1]})
		}
	}
	for key, value := range s.acked {
		if _, newer := s.pending[key]; !newer && within(key) {
			rows = append(rows, row{key, value})
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].key < rows[j].key })
	return rows
}

// iterator merges the rows in memory over those on disk.
type iterator struct {
	rows   []row
	at     int // in rows: the first that has not been passed
	disk   *pebble.Iterator
	prefix []byte // what stands before a row's key on disk

	started, released bool
	fromMemory        bool // the current row is rows[at]
	valid             bool
	err               error
}

// Next implements goka's Iterator.
func (it *iterator) Next() bool {
	if it.released || it.err != nil {
		return false
	}
	switch {
	case !it.started:
		it.started = true
		it.disk.First()
	case !it.valid:
		return false
	default:
		it.step()
	}
	return it.settle()
}

// step moves past the current row. A row in memory hides the one on disk with the same key.
func (it *iterator) step() {
	if !it.fromMemory {
		it.disk.Next()
		return
	}
	if it.disk.Valid() && string(it.diskKey()) == it.rows[it.at].key {
		it.disk.Next()
	}
	it.at++
}

// settle finds the row to stand on, passing over deleted ones.
func (it *iterator) settle() bool {
	for {
		if !it.disk.Valid() {
			if it.err = it.disk.Error(); it.err != nil {
				it.valid = false
				return false
			}
		}
		it.fromMemory = it.at < len(it.rows) && (!it.disk.Valid() || it.rows[it.at].key <= string(it.diskKey()))
		it.valid = it.fromMemory || it.disk.Valid()
		if !it.fromMemory || it.rows[it.at].value != nil {
			return it.valid
		}
		it.step()
	}
}

func (it *iterator) diskKey() []byte { return it.disk.Key()[len(it.prefix):] }

// Err implements goka's Iterator.
func (it *iterator) Err() error { return it.err }

// Key implements goka's Iterator; nil where there is no row.
func (it *iterator) Key() []byte {
	switch {
	case !it.valid:
		return nil
	case it.fromMemory:
		return []byte(it.rows[it.at].key)
	}
	return it.diskKey()
}

// Value implements goka's Iterator; nil where there is no row.
func (it *iterator) Value() ([]byte, error) {
	switch {
	case !it.valid:
		return nil, nil
	case it.fromMemory:
		return it.rows[it.at].value, nil
	}
	return it.disk.ValueAndErr()
}

// Release implements goka's Iterator.
func (it *iterator) Release() {
	if it.released {
		return
	}
	it.released, it.valid, it.rows = true, false, nil
	if err := it.disk.Close(); it.err == nil {
		it.err = err
	}
}

// Seek implements goka's Iterator: it stands on the first row at or after key, if there is one, and Next goes on behind
// it.
func (it *iterator) Seek(key []byte) bool {
	if it.released || it.err != nil {
		return false
	}
	it.started = true
	it.at = sort.Search(len(it.rows), func(i int) bool { return it.rows[i].key >= string(key) })
	it.disk.SeekGE(append(slices.Clip(it.prefix), key...))
	return it.settle()
}

// after is the first key behind all that begin with prefix; nil if there is none.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
