package tables

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"freshet"
)

// EpochHeader names the header of a changelog's record that says the epoch of its writer: 8 bytes, big endian.
const EpochHeader = "freshet-epoch"

// fencePrefix begins the keys of fences. No row's key has a zero byte.
const fencePrefix = "\x00fence-"

// beatEvery is how often an owner makes sure that nobody else has written to its changelog, also where it writes
// nothing itself. What it notices it puts right within this time and a restart; the brokers must not compact younger
// records (freshet.MinCompactionLag).
const beatEvery = time.Hour

var (
	// ErrIntruder is wrapped by the error for an acknowledgement that skips an offset: somebody else wrote to the
	// changelog, a process that was thought dead, or the owner of the next session. The processor has to start again.
	ErrIntruder = errors.New("somebody else has written to the changelog")
	// ErrReplaced is wrapped by the error of a recovery that finds a later owner's fence.
	ErrReplaced = errors.New("another process has taken the partition over")
	// errNotOwned is wrapped by the error for a row of a partition whose storage is not open.
	// errCutShort is wrapped by the error of a recovery that ends before it has read everything.
	errCutShort = errors.New("the session ended before the table was read")
	errNotOwned = errors.New("the partition is not owned by this process any more")
)

// ownership is what a storage has while its processor owns the partition.
type ownership struct {
	producer *producer
	fenceKey string
	fenceID  []byte
	fencedAt int64 // the offset of this owner's fence by its acknowledgement, 0 if that named none
	epoch    int64 // the same, once the fence has been read; none before
	// recovered is set when the owner may write rows.
	recovered bool
	// skipped are the keys of the rows that were passed over, to be written again; nil for none. Until that is done, the
	// changelog counts as read up to before, with the fence of that place.
	skipped map[string]struct{}
	before  int64
	fence   Fence
}

// takeOver writes the fence of a new owner, and returns when it is in the changelog. Views, and storages of processors
// that have no producer, own nothing.
func (s *storage) takeOver() error {
	group, isTable := strings.CutSuffix(s.place.topic, tableSuffix)
	if s.place.owner != (owner{processorKind, group}) || !isTable {
		return nil
	}
	p := s.tables.producerOf(group)
	if p == nil {
		return nil
	}
	own := &ownership{
		producer: p, fenceKey: fenceKey(s.place.partition, p.partitions), fenceID: make([]byte, 16), epoch: none,
	}
	_, _ = rand.Read(own.fenceID) // never fails
	s.mu.Lock()
	s.own = own
	s.mu.Unlock()
	fenced := make(chan error, 1)
	own.producer.emit(s.place.topic, own.fenceKey, own.fenceID, nil).ThenWithMessage(
		func(msg *sarama.ProducerMessage, err error) {
			if msg != nil {
				own.fencedAt = msg.Offset
			}
			fenced <- err
		})
	return <-fenced
}

// fenceKey is the key of the fences of a partition, one that the partitioner puts there.
func fenceKey(partition, partitions int32) string {
	for i := 0; ; i++ {
		key := fencePrefix + strconv.Itoa(i)
		if freshet.PartitionOf(key, partitions) == partition {
			return key
		}
	}
}

// await waits for a record to be acknowledged.
func await(promise *goka.Promise) error {
	done := make(chan error, 1)
	promise.Then(func(err error) { done <- err })
	return <-done
}

// admit is told of every record that is read from the changelog, and says whether it is a row that counts.
func (s *storage) admit(offset int64, key string, value []byte, headers goka.Headers) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch, named := int64(none), false
	if h := headers[EpochHeader]; len(h) == 8 {
		epoch, named = int64(binary.BigEndian.Uint64(h)), true
	}
	if strings.HasPrefix(key, fencePrefix) {
		if named { // a beat, which may be all that compaction has left of the fence
			s.fence.Passes(epoch)
		} else {
			s.fence.Passes(offset)
			if s.own != nil && bytes.Equal(value, s.own.fenceID) {
				s.own.epoch = offset
			}
		}
		return false
	}
	was := s.fence
	if s.fence.Passes(epoch) {
		return true
	}
	if !s.warned {
		s.warned = true
		slog.Warn("a changelog has rows of a process that had lost the partition; they do not count",
			"table", s.place.String(), "first offset", offset, "its epoch", epoch, "owner's epoch", was.Epoch)
	}
	if s.own != nil {
		if s.own.skipped == nil {
			s.own.skipped = map[string]struct{}{}
			s.own.before, s.own.fence = s.offset, was
		}
		s.own.skipped[key] = struct{}{}
	}
	return false
}

// rewrite ends an owner's recovery: it makes sure that the partition is still its own, and writes the rows again over
// which it passed foreign ones.
func (s *storage) rewrite() error {
	s.mu.Lock()
	own, fence := s.own, s.fence
	if own != nil && own.epoch == none {
		defer s.mu.Unlock()
		return s.unfenced(own)
	}
	s.mu.Unlock()
	switch {
	case own == nil:
		return nil
	case own.epoch != fence.Epoch:
		return fmt.Errorf("%w: its epoch is %d, and this process's %d", ErrReplaced, fence.Epoch, own.epoch)
	}
	promises := map[string]*goka.Promise{}
	for _, key := range slices.Sorted(maps.Keys(own.skipped)) {
		value, err := s.Get(key)
		if err != nil {
			return err
		}
		promises[key] = s.send(own, key, value, nil)
	}
	for key, promise := range promises {
		if err := await(promise); err != nil {
			return fmt.Errorf("write row %q again: %w", key, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.skipped != nil {
		own.skipped = nil
		s.offsetChanged = true
	}
	own.recovered = true
	return nil
}

// unfenced is why a recovery has ended without the fence that was written before it. Mostly the session has ended;
// goka says so by ending the recovery early. If the fence lies below what the table had been read up to, the changelog
// is another one. The caller holds mu.
func (s *storage) unfenced(own *ownership) error {
	if !s.live {
		return errClosed
	}
	if s.offset == none || own.fencedAt > s.offset {
		return errCutShort
	}
	return errors.Join(fmt.Errorf("%w: its new end lies before offset %d, up to which the table was read",
		ErrChangelogCut, s.offset), s.wipe())
}

// owned is the ownership of a storage that is open and recovered.
func (s *storage) owned() *ownership {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.live || s.own == nil || !s.own.recovered {
		return nil
	}
	return s.own
}

// Epoch is the header that marks what the owner of a partition writes elsewhere, to a compacted topic with the same
// keys and as many partitions: who reads it with a Holder's Update passes over what a process wrote that had been
// replaced, as over its rows. It is nil while the holder does not own the partition.
//
// What was passed over nobody writes again, and compaction would keep it instead of what counts. So the owner has to
// say everything anew within freshet.MinCompactionLag, as a kafka.Sweeper does. Epochs are offsets of the changelog:
// who makes that topic anew has to make those that name its epochs anew as well.
func (h Holder) Epoch(partition int32) goka.Headers {
	s := h.tables.lookup(place{h.owner, h.owner.name + tableSuffix, partition})
	if s == nil {
		return nil
	}
	own := s.owned()
	if own == nil {
		return nil
	}
	return own.header()
}

func (own *ownership) header() goka.Headers {
	return goka.Headers{EpochHeader: binary.BigEndian.AppendUint64(nil, uint64(own.epoch))}
}

// Watch makes sure, until ctx ends, that nobody else writes to the partitions that the holder owns, also to those where
// it writes nothing itself. It returns an error that wraps ErrIntruder when somebody did: then the processor has to
// start again.
func (h Holder) Watch(ctx context.Context) error { return h.watch(ctx, beatEvery) }

func (h Holder) watch(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var beats []*goka.Promise
		for s, own := range h.owned() {
			beats = append(beats, s.send(own, own.fenceKey, own.fenceID, nil))
		}
		for _, beat := range beats {
			if err := await(beat); errors.Is(err, ErrIntruder) {
				return err
			}
		}
	}
}

// owned goes over the storages of the partitions that the holder owns now.
func (h Holder) owned() iter.Seq2[*storage, *ownership] {
	h.tables.mu.RLock()
	open := slices.Collect(maps.Values(h.tables.open))
	h.tables.mu.RUnlock()
	return func(yield func(*storage, *ownership) bool) {
		for _, s := range open {
			if s.place.owner != h.owner {
				continue
			}
			if own := s.owned(); own != nil && !yield(s, own) {
				return
			}
		}
	}
}

// Keys calls visit for the key of each row in the partitions that the holder owns now, until visit returns an error,
// which it returns. Rows that are written meanwhile may be left out.
func (h Holder) Keys(visit func(key string) error) error {
	for s := range h.owned() {
		it, err := s.Iterator()
		if errors.Is(err, errClosed) {
			continue
		}
		if err != nil {
			return err
		}
		for err == nil && it.Next() {
			err = visit(string(it.Key()))
		}
		if err == nil {
			err = it.Err()
		}
		it.Release()
		if err != nil {
			return err
		}
	}
	return nil
}
