package streams

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// entry is a record on its way into the ring.
type entry struct {
	ref
	at    time.Time         // of the record, or of one before it in its partition, if that was later
	event freshet.PostEvent // kept of edits only
}

// parse reads a record; one that cannot be read is an error, and has its place only.
func parse(r kafka.Fetched) (entry, error) {
	e := entry{ref: ref{partition: r.Partition, offset: r.Offset}, at: r.Time}
	var m events.PostEvent
	if err := proto.Unmarshal(r.Value, &m); err != nil {
		return e, fmt.Errorf("record %d of partition %d of posts: %w", r.Offset, r.Partition, err)
	}
	event, err := m.Event()
	if err != nil {
		return e, fmt.Errorf("record %d of partition %d of posts: %w", r.Offset, r.Partition, err)
	}
	e.post, e.author, e.kind = event.Post.ID, event.Post.Author, int32(event.Kind)
	if event.Kind == freshet.PostEdited {
		e.event = event
	}
	return e, nil
}

// inOrder merges what was read of several partitions: those of a partition stay as they are, which is the order of each
// author's posts, and among partitions the time of the records counts, and then the id of the post.
func inOrder(entries []entry) []entry {
	byPartition := map[int32][]entry{}
	var partitions []int32
	for _, e := range entries {
		list := byPartition[e.partition]
		if len(list) == 0 {
			partitions = append(partitions, e.partition)
		} else if before := list[len(list)-1].at; e.at.Before(before) {
			e.at = before
		}
		byPartition[e.partition] = append(list, e)
	}
	merged := make([]entry, 0, len(entries))
	for len(merged) < len(entries) {
		first := int32(-1)
		for _, p := range partitions {
			if list := byPartition[p]; len(list) > 0 && (first < 0 || list[0].before(&byPartition[first][0])) {
				first = p
			}
		}
		merged = append(merged, byPartition[first][0])
		byPartition[first] = byPartition[first][1:]
	}
	return merged
}

func (e *entry) before(other *entry) bool {
	if !e.at.Equal(other.at) {
		return e.at.Before(other.at)
	}
	return e.post < other.post
}
