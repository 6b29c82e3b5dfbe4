package kafka

import "sort"

// Tracker follows the messages of one topic's partition in one session from delivery to release. It is a plain value
// without locks, goroutines or Kafka, so that a simulator can run it as well. All calls are amortised O(1) while
// offsets are dense, and O(log n) of the messages in flight where compaction has left gaps.
type Tracker struct {
	ring []tracked // its length is a power of two
	head int       // index in ring of the oldest message in flight
	size int       // messages in flight: delivered and not settled
	done int       // how many of these, from the oldest on, are finished without a hole

	next        int64 // the offset above the last delivered
	watermarked bool
	watermark   int64
}

type tracked struct {
	offset    int64
	followUps int32 // registered and not acknowledged
	finished  bool
}

const smallestRing = 64

// NewTracker starts at the position, the offset of the next message. In a watermarked partition Watermark has to
// pass a message before it is released.
func NewTracker(position int64, watermarked bool) *Tracker {
	return &Tracker{
		ring:        make([]tracked, smallestRing),
		next:        position,
		watermarked: watermarked,
		watermark:   position,
	}
}

// Deliver notes that the message at offset was handed out. Offsets rise and may have gaps; one that does not rise is
// ignored.
func (t *Tracker) Deliver(offset int64) {
	if offset < t.next {
		return
	}
	if t.size == len(t.ring) {
		t.grow()
	}
	*t.at(t.size) = tracked{offset: offset}
	t.size++
	t.next = offset + 1
}

// Follow notes that the message at offset, delivered and not finished, has a follow-up (one more, if called again).
// It is false, and nothing is noted, for any other offset.
func (t *Tracker) Follow(offset int64) bool {
	m := t.find(offset)
	if m == nil || m.finished {
		return false
	}
	m.followUps++
	return true
}

// Finish notes that the message is finished; false if it was not waited for.
func (t *Tracker) Finish(offset int64) bool {
	m := t.find(offset)
	if m == nil || m.finished {
		return false
	}
	m.finished = true
	for t.done < t.size && t.at(t.done).finished {
		t.done++
	}
	t.settle()
	return true
}

// FollowedUp notes that a follow-up of the message was acknowledged; false if none was waited for.
func (t *Tracker) FollowedUp(offset int64) bool {
	m := t.find(offset)
	if m == nil || m.followUps == 0 {
		return false
	}
	m.followUps--
	t.settle()
	return true
}

// Watermark notes that everything below upTo has been passed by the watermark. It never goes down.
func (t *Tracker) Watermark(upTo int64) { t.watermark = max(t.watermark, upTo) }

// Finished is the offset below which every message is finished: the next to be delivered, if all are.
func (t *Tracker) Finished() int64 {
	if t.done < t.size {
		return t.at(t.done).offset
	}
	return t.next
}

// Released is the offset below which every message is finished and followed up and, in a watermarked partition, passed
// by the watermark. This, and nothing above, may be committed. It never goes down.
func (t *Tracker) Released() int64 {
	settled := t.next
	if t.size > 0 {
		settled = t.at(0).offset
	}
	if t.watermarked {
		return min(settled, t.watermark)
	}
	return settled
}

// InFlight is how many messages are held in order: delivered, and they or one before them are not settled.
func (t *Tracker) InFlight() int { return t.size }

// settle drops the messages at the head that nothing but the watermark is waited for.
func (t *Tracker) settle() {
	for t.done > 0 && t.at(0).followUps == 0 {
		t.head = (t.head + 1) & (len(t.ring) - 1)
		t.size--
		t.done--
	}
}

func (t *Tracker) at(i int) *tracked { return &t.ring[(t.head+i)&(len(t.ring)-1)] }

// find looks at the place where the message is when there are no gaps; gaps can only have moved it to the front.
func (t *Tracker) find(offset int64) *tracked {
	if t.size == 0 || offset < t.at(0).offset || offset >= t.next {
		return nil
	}
	limit := int(min(offset-t.at(0).offset, int64(t.size-1)))
	if m := t.at(limit); m.offset == offset {
		return m
	}
	i := sort.Search(limit, func(i int) bool { return t.at(i).offset >= offset })
	if m := t.at(i); m.offset == offset {
		return m
	}
	return nil
}

func (t *Tracker) grow() {
	ring := make([]tracked, 2*len(t.ring))
	for i := range t.size {
		ring[i] = *t.at(i)
	}
	t.ring, t.head = ring, 0
}
