// Package feedstest holds what tests of feeds share: a model of Redis, and the suite that holds every feeds.Conn to the
// same answers.
//
//	model.go  Model: the operations on plain maps, each of which can be undone
//	suite.go  Compare: two Conns, the same random operations, the same answers
package feedstest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"

	"freshet"
	"freshet/internal/feeds"
)

// Model does what the scripts of feeds do, on maps. It is for one goroutine.
type Model struct {
	layout feeds.Layout
	now    func() time.Time
	zones  []*zone
}

type zone struct {
	token      string
	writers    map[string]counter
	marks      map[feeds.Input]int64
	recovering map[feeds.Input]int64
	posts      map[freshet.PostID]post
	outboxes   map[freshet.Number][]byte
	logs       map[uint64][]byte
	blocks     map[uint64]*block
}

type counter struct {
	n       int64
	expires time.Time
}

type post struct {
	deleted bool
	offset  int64
	body    []byte
	expires time.Time
}

type block struct {
	generation string
	feeds      map[byte][]byte
}

const counterLife = 48 * time.Hour

// NewModel makes an empty Redis. now is the clock by which bodies and counters expire.
func NewModel(layout feeds.Layout, now func() time.Time) *Model {
	m := &Model{layout: layout, now: now, zones: make([]*zone, layout.Zones)}
	for i := range m.zones {
		m.zones[i] = newZone()
	}
	return m
}

func newZone() *zone {
	return &zone{
		writers: map[string]counter{}, marks: map[feeds.Input]int64{}, recovering: map[feeds.Input]int64{},
		posts: map[freshet.PostID]post{}, outboxes: map[freshet.Number][]byte{},
		logs: map[uint64][]byte{}, blocks: map[uint64]*block{},
	}
}

// Do implements feeds.Conn; it never fails.
func (m *Model) Do(_ context.Context, ops ...feeds.Op) error {
	for _, op := range ops {
		m.Apply(op)
	}
	return nil
}

// undo collects, in order, how to take changes back.
type undo []func()

func (u undo) all() {
	for i := len(u) - 1; i >= 0; i-- {
		u[i]()
	}
}

// set changes a map and notes how to take it back.
func set[K comparable, V any](u *undo, m map[K]V, key K, value V) {
	old, had := m[key]
	m[key] = value
	*u = append(*u, func() {
		if had {
			m[key] = old
		} else {
			delete(m, key)
		}
	})
}

func drop[K comparable, V any](u *undo, m map[K]V, key K) {
	old, had := m[key]
	if !had {
		return
	}
	delete(m, key)
	*u = append(*u, func() { m[key] = old })
}

// Apply runs an operation and returns what takes its changes back, nil if it made none. Changes are to be taken back in
// the reverse order, zone by zone.
func (m *Model) Apply(op feeds.Op) func() {
	var u undo
	z := m.zones[op.InZone(m.layout)]
	switch op := op.(type) {
	case *feeds.ReadZone:
		op.State = z.state()
	case *feeds.Open:
		m.open(z, op, &u)
	case *feeds.Advance:
		m.advance(z, op, &u)
	case *feeds.Recover:
		m.recover(z, op, &u)
	case *feeds.PutBody:
		m.putBody(z, op, &u)
	case *feeds.PutTombstone:
		set(&u, z.posts, op.Post, post{deleted: true, expires: m.now().Add(feeds.BodyLife)})
	case *feeds.ReadBody:
		p, _ := m.post(z, op.Post)
		op.Body, op.Offset, op.Deleted, op.State = p.body, p.offset, p.deleted, z.state()
		op.Waits = maps.Clone(z.recovering)
	case *feeds.AppendOutbox:
		value := appended(z.outboxes[op.Author], op.IDs)
		set(&u, z.outboxes, op.Author, value)
		op.Length = int64(len(value))
	case *feeds.ReadOutbox:
		op.Value, op.State = z.outboxes[op.Author], z.state()
	case *feeds.RewriteOutbox:
		rewriteOutbox(z, op, &u)
	case *feeds.DropOutbox:
		z.dropOutbox(op, &u)
	case *feeds.UnloadOutbox:
		z.unloadOutbox(op, &u)
	case *feeds.DropFeeds:
		z.dropFeeds(op, &u)
	case *feeds.AppendLog:
		value := appended(z.logs[op.Block], op.Entries)
		set(&u, z.logs, op.Block, value)
		op.Length = int64(len(value))
	case *feeds.ReadBlock:
		z.readBlock(op)
	case *feeds.SwapFeed:
		z.swapFeed(op, &u)
	case *feeds.Compact:
		z.compact(op, &u)
	default:
		panic(fmt.Sprintf("unknown operation %T", op))
	}
	if len(u) == 0 {
		return nil
	}
	return u.all
}

// appended never shares memory with value, which undo may bring back.
func appended(value, more []byte) []byte {
	return append(append(make([]byte, 0, len(value)+len(more)), value...), more...)
}

func (z *zone) state() feeds.ZoneState {
	return feeds.ZoneState{Token: z.token, Recovering: len(z.recovering) > 0}
}

func (z *zone) setToken(u *undo, token string) {
	old := z.token
	z.token = token
	*u = append(*u, func() { z.token = old })
}

// is says that the zone has a token, and this one.
func (z *zone) is(token string) bool { return z.token != "" && z.token == token }

func (m *Model) counter(z *zone, writer string) (int64, bool) {
	c, ok := z.writers[writer]
	if !ok || !m.now().Before(c.expires) {
		return 0, false
	}
	return c.n, true
}

func (m *Model) setCounter(z *zone, u *undo, writer string, n int64) {
	set(u, z.writers, writer, counter{n: n, expires: m.now().Add(counterLife)})
}

func (m *Model) open(z *zone, op *feeds.Open, u *undo) {
	n, _ := m.counter(z, op.Writer)
	if z.token != op.Known.Token || n >= op.Known.Counter {
		n++
		m.setCounter(z, u, op.Writer, n)
	}
	op.Token, op.Counter = z.token, n
	op.Marks, op.Recovering = maps.Clone(z.marks), maps.Clone(z.recovering)
}

func (m *Model) advance(z *zone, op *feeds.Advance, u *undo) {
	n, ok := m.counter(z, op.Writer)
	if op.OK = z.is(op.Token) && ok && n == op.Counter; !op.OK {
		return
	}
	m.setCounter(z, u, op.Writer, n+1)
	for input, offset := range op.Marks {
		set(u, z.marks, input, offset)
		if wanted, waits := z.recovering[input]; waits && wanted <= offset {
			drop(u, z.recovering, input)
		}
	}
}

func (m *Model) recover(z *zone, op *feeds.Recover, u *undo) {
	n, _ := m.counter(z, op.Writer)
	if op.OK = z.token == op.Old && n == op.Counter; !op.OK {
		return
	}
	z.setToken(u, op.New)
	m.setCounter(z, u, op.Writer, 1)
	for input, end := range op.Ends {
		if wanted, waits := z.recovering[input]; !waits || wanted < end {
			set(u, z.recovering, input, end)
		}
	}
	for input, offset := range op.Marks {
		set(u, z.marks, input, offset)
	}
}

func (m *Model) post(z *zone, id freshet.PostID) (post, bool) {
	p, ok := z.posts[id]
	if !ok || !m.now().Before(p.expires) {
		return post{}, false
	}
	return p, true
}

func (m *Model) putBody(z *zone, op *feeds.PutBody, u *undo) {
	there, found := m.post(z, op.Post)
	fits := !found && !op.Replace || found && !there.deleted && there.offset <= op.Offset
	if op.OK = z.is(op.Token) && fits; !op.OK {
		return
	}
	body := append([]byte{}, op.Body...)
	set(u, z.posts, op.Post, post{offset: op.Offset, body: body, expires: m.now().Add(feeds.BodyLife)})
}

func rewriteOutbox(z *zone, op *feeds.RewriteOutbox, u *undo) {
	there := z.outboxes[op.Author]
	rest, prefixed := bytes.CutPrefix(there, op.Old)
	if len(op.Old) == 0 {
		prefixed = len(there) == 0
	}
	if op.OK = z.is(op.Token) && prefixed; !op.OK {
		return
	}
	if value := appended(op.New, rest); len(value) > 0 {
		set(u, z.outboxes, op.Author, value)
	} else {
		drop(u, z.outboxes, op.Author)
	}
}

func (z *zone) dropOutbox(op *feeds.DropOutbox, u *undo) {
	if op.OK = z.is(op.Token); !op.OK {
		return
	}
	z.setToken(u, "")
	old := z.marks
	z.marks = map[feeds.Input]int64{}
	*u = append(*u, func() { z.marks = old })
	drop(u, z.outboxes, op.Author)
}

func (z *zone) unloadOutbox(op *feeds.UnloadOutbox, u *undo) {
	rest, marked := bytes.CutPrefix(z.outboxes[op.Author], bytes.Repeat([]byte{0xff}, 8))
	op.OK = marked && (len(rest) == 0 || len(rest) >= 8)
	switch {
	case !op.OK:
	case len(rest) == 0:
		drop(u, z.outboxes, op.Author)
	default:
		set(u, z.outboxes, op.Author, appended(rest[:8], rest))
	}
}

func (z *zone) dropFeeds(op *feeds.DropFeeds, u *undo) {
	old, had := z.blocks[op.Block]
	if !had {
		return
	}
	delete(z.blocks, op.Block)
	*u = append(*u, func() { z.blocks[op.Block] = old })
}

func (z *zone) block(number uint64) *block {
	b := z.blocks[number]
	if b == nil {
		b = &block{feeds: map[byte][]byte{}}
		z.blocks[number] = b
	}
	return b
}

func (z *zone) readBlock(op *feeds.ReadBlock) {
	b := z.block(op.Block)
	op.Log, op.Generation, op.State = z.logs[op.Block], b.generation, z.state()
	if op.Slot == feeds.AllSlots {
		op.Feeds = maps.Clone(b.feeds)
		return
	}
	op.Feeds = map[byte][]byte{}
	if value, warm := b.feeds[byte(op.Slot)]; warm {
		op.Feeds[byte(op.Slot)] = value
	}
}

func (b *block) setGeneration(u *undo, generation string) {
	old := b.generation
	b.generation = generation
	*u = append(*u, func() { b.generation = old })
}

func (b *block) setFeed(u *undo, slot byte, value []byte) {
	if len(value) == 0 {
		drop(u, b.feeds, slot)
		return
	}
	set(u, b.feeds, slot, append([]byte{}, value...))
}

func (z *zone) swapFeed(op *feeds.SwapFeed, u *undo) {
	b := z.block(op.Block)
	if op.OK = z.is(op.Token) && b.generation == op.Generation; !op.OK {
		return
	}
	b.setFeed(u, op.Slot, op.Value)
	b.setGeneration(u, op.Next)
}

func (z *zone) compact(op *feeds.Compact, u *undo) {
	b := z.block(op.Block)
	rest, prefixed := bytes.CutPrefix(z.logs[op.Block], op.Log)
	if op.OK = z.is(op.Token) && b.generation == op.Generation && prefixed; !op.OK {
		return
	}
	if op.Feeds != nil {
		old := b.feeds
		b.feeds = map[byte][]byte{}
		for slot, value := range op.Feeds {
			b.feeds[slot] = append([]byte{}, value...)
		}
		*u = append(*u, func() { b.feeds = old })
		b.setGeneration(u, op.Next)
	}
	if len(rest) > 0 {
		set(u, z.logs, op.Block, rest)
	} else {
		drop(u, z.logs, op.Block)
	}
}

// Clear empties a zone, as FLUSHALL does.
func (m *Model) Clear(number feeds.Zone) func() {
	old := m.zones[number]
	m.zones[number] = newZone()
	return func() { m.zones[number] = old }
}

// Token is the zone's token.
func (m *Model) Token(number feeds.Zone) string { return m.zones[number].token }

// Well says that the zone waits for nothing.
func (m *Model) Well(number feeds.Zone) bool { return m.zones[number].state().Well() }

// Deleted says that a tombstone stands for the post.
func (m *Model) Deleted(id freshet.PostID) bool {
	p, _ := m.post(m.zones[m.layout.OfPost(id)], id)
	return p.deleted
}

// DropPost removes a body or tombstone.
func (m *Model) DropPost(id freshet.PostID) func() {
	var u undo
	drop(&u, m.zones[m.layout.OfPost(id)].posts, id)
	return u.all
}

// SetOutbox overwrites an author's outbox.
func (m *Model) SetOutbox(author freshet.Number, value []byte) func() {
	var u undo
	set(&u, m.zones[m.layout.OfAuthor(author)].outboxes, author, value)
	return u.all
}

// SetLog overwrites a block's log.
func (m *Model) SetLog(number uint64, value []byte) func() {
	var u undo
	set(&u, m.zones[m.layout.OfBlock(number)].logs, number, value)
	return u.all
}

// SetSlot overwrites a slot behind everybody's back: the generation stays.
func (m *Model) SetSlot(number uint64, slot byte, value []byte) func() {
	var u undo
	m.zones[m.layout.OfBlock(number)].block(number).setFeed(&u, slot, value)
	return u.all
}
