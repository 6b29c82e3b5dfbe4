package tables

// Fence is the rule by which a reader of a changelog knows the rows of an owner that has been replaced. An owner takes
// a partition over by writing a fence to its changelog; the fence's offset is the owner's epoch, and every row names
// the epoch of its writer. What comes behind a later fence, or behind a row of a later epoch, does not count: the owner
// of that epoch has read everything before its fence, and nothing of what came after it from others.
//
// Epochs are offsets, so they grow for as long as the topic exists, which a consumer group's generation does not: it
// starts again when the group has been empty for long. A reader that has not seen a fence, because compaction has
// removed it, has seen rows that name its epoch, or nothing of that owner is left.
type Fence struct {
	// Epoch is the highest epoch read so far; none, -1, if no record had one.
	Epoch int64
}

// NewFence is the state of a reader that has read nothing.
func NewFence() Fence { return Fence{Epoch: none} }

// Passes says whether a record of this epoch counts, and notes it. The epoch of a fence is its own offset. A row that
// names no epoch has none.
func (f *Fence) Passes(epoch int64) bool {
	if epoch < f.Epoch {
		return false
	}
	f.Epoch = epoch
	return true
}
