// Package crash ends the process at a place where that would hurt most, for tests: as kill -9 does, with nothing
// written, closed or answered any more.
//
// Only a program built with the tag crash can do it. It reads the variable Env once, at its start: "point:n", and the
// n-th time that the process comes past the point is its last. In all other programs At does nothing and costs nothing.
//
//	points.go  the points: a closed list
//	on.go      with the tag
//	off.go     without
package crash

// Env is the variable of the environment that names a point, and how often the process may come past it.
const Env = "FRESHET_CRASH"

// Point is a place in the program.
type Point string

// The points.
const (
	// Saved: a post is in the post store, marked as unpublished, and not in the log.
	Saved Point = "saved"
	// Published: a post is in the log, and its author has not been told.
	Published Point = "published"
	// Flushed: Redis has a flush, and no watermark says so.
	Flushed Point = "flushed"
	// Noted: the watermarks are in Redis, and what they allow to be committed is not.
	Noted Point = "noted"
	// RowSet: a row of a table is changed in memory, and not sent to the changelog yet.
	RowSet Point = "row-set"
	// RowAcknowledged: the changelog has a row, and the disk does not.
	RowAcknowledged Point = "row-acknowledged"
	// Compacting: a block was read to be compacted, and not written.
	Compacting Point = "compacting"
	// Building: a cold feed is marked as being built and its outboxes are read; the feed is not written.
	Building Point = "building"
)

// Points are all of them.
var Points = []Point{Saved, Published, Flushed, Noted, RowSet, RowAcknowledged, Compacting, Building}
