package tables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka"
	"pgregory.net/rapid"
)

// changelog stands for Kafka: a log of one partition.
type changelog struct {
	records []*record
}

type record struct {
	row
	headers goka.Headers
	gone    bool // compacted away
	void    bool // by the last fold
}

func (c *changelog) end() int64 { return int64(len(c.records)) }

// update is goka's UpdateContext.
type update struct {
	goka.UpdateContext
	offset  int64
	headers goka.Headers
}

func (update) Topic() goka.Stream      { return table }
func (update) Partition() int32        { return 0 }
func (u update) Offset() int64         { return u.offset }
func (u update) Headers() goka.Headers { return u.headers }

// fold is the table that the log describes, by the rule of fences and before any compaction. Each record is noted as
// void or not.
func (c *changelog) fold() map[string]string {
	table, fence := map[string]string{}, NewFence()
	for offset, r := range c.records {
		epoch := int64(none)
		if h, ok := r.headers[EpochHeader]; ok {
			epoch = int64(binary.BigEndian.Uint64(h))
		} else if strings.HasPrefix(r.key, fencePrefix) {
			epoch = int64(offset)
		}
		r.void = !fence.Passes(epoch)
		if !r.void && !strings.HasPrefix(r.key, fencePrefix) {
			play(table, r.row)
		}
	}
	return table
}

// compact removes every record before the offset that has a later one of its key there, but for a last record.
func (c *changelog) compact(before int64) {
	last := map[string]int{}
	for i, r := range c.records[:before] {
		if earlier, ok := last[r.key]; ok {
			c.records[earlier].gone = true
		}
		last[r.key] = i
	}
}

func play(table map[string]string, r row) {
	if r.value == nil {
		delete(table, r.key)
	} else {
		table[r.key] = string(r.value)
	}
}

// link is the producer of one process: its records wait until the test answers them, and keep their order.
type link struct {
	mu     sync.Mutex
	log    *changelog
	sent   []sent
	atOnce bool
}

// intrude lets somebody else write a record.
func (l *link) intrude(r *record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.records = append(l.log.records, r)
}

type sent struct {
	*record
	finish goka.PromiseFinisher
}

func (l *link) Emit(topic, key string, value []byte) *goka.Promise {
	return l.EmitWithHeaders(topic, key, value, nil)
}

func (l *link) EmitWithHeaders(_, key string, value []byte, headers goka.Headers) *goka.Promise {
	l.mu.Lock()
	defer l.mu.Unlock()
	promise, finish := goka.NewPromiseWithFinisher()
	l.sent = append(l.sent, sent{&record{row: row{key, value}, headers: headers}, finish})
	for l.atOnce && len(l.sent) > 0 {
		l.answer(acknowledged)
	}
	return promise
}

func (*link) Close() error { return nil }

// The ways in which a record may be answered.
const (
	acknowledged = iota
	nameless     // arrived twice: acknowledged, without an offset
	refused      // not in the log
	unanswered   // in the log, and failed all the same
)

var errRefused = errors.New("refused by the test")

// answer answers the oldest record that waits.
func (l *link) answer(how int) {
	s := l.sent[0]
	l.sent = l.sent[1:]
	if how != refused {
		l.log.records = append(l.log.records, s.record)
	}
	msg := &sarama.ProducerMessage{Offset: l.log.end() - 1}
	switch how {
	case acknowledged:
		s.finish(msg, nil)
	case nameless:
		msg.Offset = 0
		s.finish(msg, nil)
	default:
		s.finish(nil, errRefused)
	}
}

const table = "group-table"

// host does to the storage what goka's processor does, on a disk of its own.
type host struct {
	t        rapid.TB
	name     string
	log      *changelog
	disk     *vfs.MemFS
	tables   *Tables
	holder   Holder
	link     *link
	producer goka.Producer
	storage  *storage // nil: it has no session
	visible  map[string]string
	failed   bool  // a record of the session failed: it has to end
	settled  int64 // up to here it knows the changelog to be as it should be
	writes   int
}

func newHost(t rapid.TB, name string, log *changelog) *host {
	h := &host{t: t, name: name, log: log, disk: vfs.NewCrashableMem()}
	h.start()
	return h
}

func (h *host) start() {
	var err error
	h.tables, err = open("tables", h.disk)
	h.check(err)
	h.holder = h.tables.Processor("group", 1)
	h.link = &link{log: h.log}
	h.producer = h.holder.WrapProducer(h.link)
	h.storage = nil
}

func (h *host) stop() {
	h.link.sent = nil
	h.check(h.producer.Close())
	h.check(h.tables.Close())
}

// begin ends a session, if there is one, and begins another.
func (h *host) begin() {
	stored := h.recover()
	err := h.storage.MarkRecovered()
	if errors.Is(err, ErrChangelogCut) {
		h.begin()
		return
	}
	h.check(err)
	h.settled = h.log.end()
	h.visible = h.log.fold()
	if got := h.rows(); !maps.Equal(got, h.visible) {
		h.t.Fatalf("%s, recovered from %d on: %v, want %v", h.name, stored, got, h.visible)
	}
	h.link.atOnce = false
}

// recover opens the storage and reads the changelog, from which offset on it returns.
func (h *host) recover() (stored int64) {
	if h.storage != nil {
		h.check(h.storage.Close())
		h.storage = nil
	}
	h.failed = false
	st, err := h.holder.Builder(table, 0)
	h.check(err)
	h.link.atOnce = true
	h.check(st.Open())
	h.storage = st.(*storage)
	stored, err = st.GetOffset(none)
	h.check(err)
	for key, value := range h.rows() {
		was := func(r *record) bool { return r.key == key && string(r.value) == value }
		if stored < h.log.end() && !slices.ContainsFunc(h.log.records, was) {
			h.t.Fatalf("%s: row %s=%s is on disk and never was in the changelog", h.name, key, value)
		}
	}
	callback := h.holder.Update(goka.DefaultUpdate)
	if end := h.log.end(); stored < end {
		for offset := stored + 1; offset < end; offset++ {
			r := h.log.records[offset]
			if r.gone {
				continue
			}
			h.check(callback(update{offset: offset, headers: r.headers}, st, r.key, r.value))
			h.check(st.SetOffset(offset))
		}
	}
	return stored
}

// recoverPartly is a session that ends before its recovery does.
func (h *host) recoverPartly() {
	h.recover()
	h.check(h.storage.Close())
	h.storage, h.link.atOnce = nil, false
}

func (h *host) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) rows() map[string]string {
	it, err := h.storage.Iterator()
	h.check(err)
	defer it.Release()
	found := map[string]string{}
	for it.Next() {
		value, err := it.Value()
		h.check(err)
		found[string(it.Key())] = string(value)
	}
	h.check(it.Err())
	return found
}

// look compares what the storage shows with what was set last.
func (h *host) look() {
	h.t.Helper()
	if h.storage == nil {
		return
	}
	if got := h.rows(); !maps.Equal(got, h.visible) {
		h.t.Fatalf("%s shows %v, want %v", h.name, got, h.visible)
	}
}

// set writes a row that no other was like, or deletes it.
func (h *host) set(key string, remove bool) {
	var value []byte
	if !remove {
		h.writes++
		value = fmt.Appendf(nil, "%s%d", h.name, h.writes)
	}
	h.write(key, value)
}

// write is goka's SetValue, or Delete for a nil value. What goka is told to be acknowledged has to count.
func (h *host) write(key string, value []byte) {
	play(h.visible, row{key, value})
	st := h.storage
	if value == nil {
		h.check(st.Delete(key))
	} else {
		h.check(st.Set(key, value))
	}
	promise := h.producer.Emit(table, key, value)
	sent := h.link.sent[len(h.link.sent)-1].record
	promise.ThenWithMessage(func(msg *sarama.ProducerMessage, err error) {
		if st != h.storage {
			return
		}
		if err != nil {
			h.failed = true
			return
		}
		if value != nil && msg.Offset != 0 {
			h.check(st.SetOffset(msg.Offset))
		}
		h.settled = max(h.settled, st.offset+1)
		if h.log.fold(); sent.void {
			h.t.Fatalf("%s: row %s=%q was acknowledged, and does not count", h.name, key, value)
		}
	})
}

func (h *host) answer(how int) {
	if len(h.link.sent) > 0 {
		h.link.answer(how)
		h.producer.(*producer).laters.Wait()
	}
}

// crash leaves the disk as it is, or worse, and what is under way in the producer is gone.
func (h *host) crash(kept vfs.CrashCloneCfg) {
	disk := h.disk.CrashClone(kept)
	h.stop()
	h.disk = disk
	h.start()
}

// Whatever happens and whenever a process ends, and also when a process goes on that has lost its partition: a new
// owner has the rows that the changelog says by the rule of fences, from the disk it has, or none, and after any
// compaction that the brokers may do; the disk has only rows that are in the changelog; the storage shows what was set
// last; and what was acknowledged counts.
func TestOwnersAgreeWithTheChangelog(t *testing.T) {
	keys := []string{"a", "b", "c"}
	passed, intruders := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		log := &changelog{}
		hosts := []*host{newHost(rt, "x", log), newHost(rt, "y", log)}
		defer func() {
			for _, h := range hosts {
				h.stop()
			}
		}()
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed of what the disk keeps"), 0))
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			h := hosts[rapid.IntRange(0, 1).Draw(rt, "host")]
			step := rapid.SampledFrom([]string{
				"begin", "recover partly", "set", "set", "set", "set", "delete",
				"answer", "answer", "answer", "answer", "answer", "nameless", "refuse", "unanswered",
				"flush", "write out", "beat", "compact", "new disk", "crash", "power failure",
			}).Draw(rt, "step")
			if h.storage == nil || h.failed {
				step = "begin"
			}
			switch step {
			case "begin":
				if h.failed {
					intruders++
				}
				h.begin()
			case "recover partly":
				h.recoverPartly()
			case "set", "delete":
				h.set(rapid.SampledFrom(keys).Draw(rt, "key"), step == "delete")
			case "answer":
				h.answer(acknowledged)
			case "nameless":
				h.answer(nameless)
			case "refuse":
				h.answer(refused)
			case "unanswered":
				h.answer(unanswered)
			case "flush":
				h.storage.mu.Lock()
				h.check(h.storage.flush())
				h.storage.mu.Unlock()
			case "write out": // what Pebble does by itself when its memory is full
				h.check(h.tables.db.Flush())
			case "beat":
				own := h.storage.own
				h.storage.send(own, own.fenceKey, own.fenceID, nil)
			case "compact":
				before := int64(0)
				for _, h := range hosts {
					before = max(before, h.settled)
				}
				log.compact(before)
			case "new disk":
				h.stop()
				h.disk = vfs.NewCrashableMem()
				h.start()
			case "crash":
				h.crash(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
			case "power failure":
				h.crash(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 99).Draw(rt, "kept"), RNG: rng})
			}
			h.look()
			if h.storage != nil && h.storage.own.skipped == nil && h.storage.own.before != 0 {
				passed++
			}
		}
	})
	t.Logf("%d sessions ended because of a failed record, %d steps after rows were passed over", intruders, passed)
	if intruders == 0 || passed == 0 {
		t.Error("no host was ever thrown out, or none passed over a zombie's row")
	}
}
