package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// errReseat ends a session so that the next one applies what is wanted.
var errReseat = errors.New("the session ends so that a seek takes effect")

// seek is a request to move. It is in Group.seeks until a session takes it.
type seek struct {
	offsets map[TopicPartition]int64
	done    chan error // capacity 1; nil if nobody waits
}

// Seek moves the group to these offsets, up or down: it ends the session, and the next one commits the offsets before
// anything is processed. It returns at once. Partitions that this member does not own by then are left alone and
// logged. An offset beyond the partition's end ends the processor with an *OutOfRangeError; for one below its start see
// GroupConfig.Removed.
func (g *Group) Seek(offsets map[TopicPartition]int64) {
	g.request(&seek{offsets: maps.Clone(offsets)})
}

// SeekAndWait is Seek, all or nothing, that returns when the offsets are committed. The error is a *NotOwnedError if
// this member does not own all the partitions, an *OutOfRangeError if an offset is outside of its partition, and the
// context's error if ctx ends before the seek has begun; nothing has been moved then. After any other error the offsets
// may or may not have been committed: ask again.
func (g *Group) SeekAndWait(ctx context.Context, offsets map[TopicPartition]int64) error {
	if s := g.current(); s != nil { // spares the others a session's end; the next session looks again
		if err := s.owns(offsets); err != nil {
			return err
		}
	}
	k := &seek{offsets: maps.Clone(offsets), done: make(chan error, 1)}
	g.request(k)
	select {
	case err := <-k.done:
		return err
	case <-ctx.Done():
	}
	if g.withdraw(k) {
		return fmt.Errorf("group %s: seek not begun: %w", g.cfg.Name, ctx.Err())
	}
	return <-k.done // a session has taken it and answers within its own time limit
}

func (g *Group) request(k *seek) {
	g.mu.Lock()
	g.seeks = append(g.seeks, k)
	m := g.member
	g.mu.Unlock()
	if m != nil {
		m.endSession(errReseat)
	}
}

func (g *Group) withdraw(k *seek) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.seeks, k)
	if i < 0 {
		return false
	}
	g.seeks = slices.Delete(g.seeks, i, i+1)
	return true
}

func (g *Group) takeSeeks() []*seek {
	g.mu.Lock()
	defer g.mu.Unlock()
	taken := g.seeks
	g.seeks = nil
	return taken
}

// giveBack keeps the seeks of a session that could not begin for the next one. Whoever waits is told instead.
func (g *Group) giveBack(taken []*seek, err error) {
	var kept []*seek
	for _, k := range taken {
		if k.done == nil {
			kept = append(kept, k)
		} else {
			k.done <- err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seeks = append(kept, g.seeks...)
}
