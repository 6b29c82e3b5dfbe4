package pebblestore

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// writtenFS makes a sync of Pebble's log mean "written to the operating system". Pebble by itself knows two ways to
// commit: with an fsync, or into a buffer in this process, of which a kill takes the last 32 KiB. A store without
// Options.Sync wants what lies between. A log is fsynced when Pebble closes it to begin the next one, as it is in
// Pebble's own unsynced mode, so after a power failure no later log stands behind a torn one.
type writtenFS struct{ vfs.FS }

// walCategory is what Pebble calls its log's files when it makes them.
const walCategory = "pebble-wal"

func (f writtenFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return written(file, category, err)
}

func (f writtenFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	return written(file, category, err)
}

func written(file vfs.File, category vfs.DiskWriteCategory, err error) (vfs.File, error) {
	if err != nil || category != walCategory {
		return file, err
	}
	return writtenFile{file}, nil
}

type writtenFile struct{ vfs.File }

func (writtenFile) Sync() error                { return nil }
func (writtenFile) SyncData() error            { return nil }
func (writtenFile) SyncTo(int64) (bool, error) { return false, nil }

func (f writtenFile) Close() error { return errors.Join(f.File.Sync(), f.File.Close()) }
