package tables

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka"
	"pgregory.net/rapid"
)

// changelog stands for Kafka: a log of one partition, and a producer whose records wait until the test answers them.
type changelog struct {
	records []row
	sent    []sent
}

type sent struct {
	row
	finish goka.PromiseFinisher
}

func (c *changelog) Emit(topic, key string, value []byte) *goka.Promise {
	return c.EmitWithHeaders(topic, key, value, nil)
}

func (c *changelog) EmitWithHeaders(_, key string, value []byte, _ goka.Headers) *goka.Promise {
	promise, finish := goka.NewPromiseWithFinisher()
	c.sent = append(c.sent, sent{row{key, value}, finish})
	return promise
}

func (*changelog) Close() error { return nil }

// The ways in which a record may be answered.
const (
	acknowledged = iota
	nameless     // arrived twice: acknowledged, without an offset
	refused      // not in the log
	unanswered   // in the log, and failed all the same
)

// answer answers the oldest record that waits.
func (c *changelog) answer(how int) {
	s := c.sent[0]
	c.sent = c.sent[1:]
	if how != refused {
		c.records = append(c.records, s.row)
	}
	msg := &sarama.ProducerMessage{Offset: int64(len(c.records) - 1)}
	switch how {
	case acknowledged:
		s.finish(msg, nil)
	case nameless:
		msg.Offset = 0
		s.finish(msg, nil)
	default:
		s.finish(msg, errors.New("refused by the test"))
	}
}

// fold is the table that the log up to offset describes.
func (c *changelog) fold(upTo int64) map[string]string {
	table := map[string]string{}
	for _, r := range c.records[:upTo+1] {
		play(table, r)
	}
	return table
}

func play(table map[string]string, r row) {
	if r.value == nil {
		delete(table, r.key)
	} else {
		table[r.key] = string(r.value)
	}
}

const table = "group-table"

// processor does to the storage what goka's processor does.
type processor struct {
	t        rapid.TB
	disk     *vfs.MemFS
	log      *changelog
	tables   *Tables
	producer goka.Producer
	storage  *storage
	visible  map[string]string
}

func (p *processor) start() {
	var err error
	p.tables, err = open("tables", p.disk)
	p.check(err)
	p.producer = p.tables.WrapProducer(p.log)
	p.begin()
}

// begin opens the storage, checks what it has on disk, and recovers it.
func (p *processor) begin() {
	st, err := p.tables.ProcessorBuilder("group")(table, 0)
	p.check(err)
	p.check(st.Open())
	p.storage = st.(*storage)
	stored, err := st.GetOffset(none)
	p.check(err)
	if stored >= int64(len(p.log.records)) {
		p.t.Fatalf("offset %d is stored, and the changelog ends at %d", stored, len(p.log.records))
	}
	held := p.rows()
	for key, value := range held {
		if !slices.ContainsFunc(p.log.records, func(r row) bool { return r.key == key && string(r.value) == value }) {
			p.t.Fatalf("row %s=%s is on disk and never was in the changelog", key, value)
		}
	}
	for offset := stored + 1; offset < int64(len(p.log.records)); offset++ {
		r := p.log.records[offset]
		play(held, r)
		if r.value == nil {
			p.check(st.Delete(r.key))
		} else {
			p.check(st.Set(r.key, r.value))
		}
		p.check(st.SetOffset(offset))
	}
	p.check(st.MarkRecovered())
	p.visible = p.log.fold(int64(len(p.log.records)) - 1)
	if !maps.Equal(held, p.visible) {
		p.t.Fatalf("stored up to %d, with the rest of the changelog: %v, want %v", stored, held, p.visible)
	}
	p.look()
}

func (p *processor) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *processor) rows() map[string]string {
	it, err := p.storage.Iterator()
	p.check(err)
	defer it.Release()
	found := map[string]string{}
	for it.Next() {
		value, err := it.Value()
		p.check(err)
		found[string(it.Key())] = string(value)
	}
	p.check(it.Err())
	return found
}

// look compares what the storage shows with what was set last.
func (p *processor) look() {
	p.t.Helper()
	if got := p.rows(); !maps.Equal(got, p.visible) {
		p.t.Fatalf("shown: %v, want %v", got, p.visible)
	}
}

// write is goka's SetValue, or Delete for a nil value.
func (p *processor) write(key string, value []byte) {
	play(p.visible, row{key, value})
	st := p.storage
	if value == nil {
		p.check(st.Delete(key))
		p.producer.Emit(table, key, nil)
		return
	}
	p.check(st.Set(key, value))
	p.producer.Emit(table, key, value).ThenWithMessage(func(msg *sarama.ProducerMessage, err error) {
		if err == nil && msg.Offset != 0 {
			p.check(st.SetOffset(msg.Offset))
		}
	})
}

// Whatever happens and whenever the process ends: the disk has only rows that are in the changelog, and with the
// changelog behind the stored offset they make the table that the whole changelog makes. Until then the storage shows
// what was set last.
func TestNeverAheadOfTheChangelog(t *testing.T) {
	keys := []string{"a", "b", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		p := &processor{t: rt, disk: vfs.NewCrashableMem(), log: &changelog{}}
		p.start()
		defer func() { p.check(p.tables.Close()) }()
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed of what the disk keeps"), 0))
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{
				"set", "set", "set", "set", "delete",
				"answer", "answer", "answer", "answer", "nameless", "refuse", "unanswered",
				"intruder", "flush", "write out", "reopen", "restart", "crash", "power failure",
			}).Draw(rt, "step") {
			case "set":
				value := rapid.SampledFrom([]string{"1", "2", ""}).Draw(rt, "value")
				p.write(rapid.SampledFrom(keys).Draw(rt, "key"), []byte(value))
			case "delete":
				p.write(rapid.SampledFrom(keys).Draw(rt, "key"), nil)
			case "answer":
				p.answer(acknowledged)
			case "nameless":
				p.answer(nameless)
			case "refuse":
				p.answer(refused)
			case "unanswered":
				p.answer(unanswered)
			case "intruder":
				p.log.records = append(p.log.records, row{rapid.SampledFrom(keys).Draw(rt, "key"), []byte("intruder")})
			case "flush":
				p.check(p.storage.MarkRecovered())
			case "write out": // what Pebble does by itself when its memory is full
				p.check(p.tables.db.Flush())
			case "reopen": // a rebalance: the producer lives on, and what it has under way
				p.check(p.storage.Close())
				p.begin()
			case "restart":
				p.check(p.tables.Close())
				p.log.sent = nil
				p.start()
			case "crash":
				p.crash(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
			case "power failure":
				p.crash(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 99).Draw(rt, "kept"), RNG: rng})
			}
			p.look()
		}
	})
}

func (p *processor) answer(how int) {
	if len(p.log.sent) > 0 {
		p.log.answer(how)
	}
}

// crash leaves the disk as it is, or worse, and what is under way in the producer is gone.
func (p *processor) crash(kept vfs.CrashCloneCfg) {
	disk := p.disk.CrashClone(kept)
	p.check(p.tables.Close())
	p.disk, p.log.sent = disk, nil
	p.start()
}

func start(t *testing.T) *processor {
	p := &processor{t: t, disk: vfs.NewCrashableMem(), log: &changelog{}}
	p.start()
	t.Cleanup(func() { must(t, p.tables.Close()) })
	return p
}

func (p *processor) wantOffset(want int64) {
	p.t.Helper()
	if got, err := p.storage.GetOffset(none); err != nil || got != want {
		p.t.Fatalf("offset %d, %v, want %d", got, err, want)
	}
}

func (p *processor) restart() {
	p.check(p.tables.Close())
	p.log.sent = nil
	p.start()
}

func TestPendingIsDroppedAtClose(t *testing.T) {
	p := start(t)
	p.write("a", []byte("1"))
	p.answer(acknowledged)
	p.write("a", []byte("2"))
	p.write("b", []byte("2"))
	p.look()
	p.restart() // which checks that nothing of it is there
	if got := fmt.Sprint(p.rows()); got != "map[a:1]" {
		t.Errorf("got %s", got)
	}
}

func TestNewerPendingStaysVisible(t *testing.T) {
	p := start(t)
	for _, value := range []string{"1", "2", "1"} {
		p.write("a", []byte(value))
	}
	for _, offset := range []int64{none, 1, 2} {
		p.look()
		p.answer(acknowledged)
		p.wantOffset(offset)
	}
	p.look()
	if len(p.storage.pending) != 0 {
		t.Errorf("still pending: %v", p.storage.pending)
	}
}

// A record that failed for the producer and arrived all the same is read at the next start: the offset does not pass
// it.
func TestOffsetStaysBeforeAGap(t *testing.T) {
	p := start(t)
	for _, value := range []string{"0", "1", "2"} {
		p.write("a", []byte(value))
	}
	p.write("b", []byte("3"))
	p.answer(acknowledged)
	p.answer(acknowledged)
	p.answer(unanswered)
	p.answer(acknowledged)
	p.wantOffset(1)
	p.restart()
	p.wantOffset(3)
	if got := fmt.Sprint(p.rows()); got != "map[a:2 b:3]" {
		t.Errorf("got %s", got)
	}
}

// An acknowledgement that comes after a rebalance is for the storage that was open before it.
func TestLateAcknowledgement(t *testing.T) {
	p := start(t)
	p.write("a", []byte("1"))
	must(t, p.storage.Close())
	p.begin()
	for _, value := range []string{"1", "2", "1"} {
		p.write("a", []byte(value))
	}
	for range 4 {
		p.answer(acknowledged)
		p.look()
	}
}

func TestOffsetPassesNamelessAcknowledgements(t *testing.T) {
	p := start(t)
	for i := range 5 {
		p.write("a", fmt.Append(nil, i))
	}
	p.answer(acknowledged)
	p.wantOffset(none) // 0 is what a record without an offset says, too
	p.answer(acknowledged)
	p.wantOffset(1)
	p.answer(nameless)
	p.answer(nameless)
	p.wantOffset(1)
	p.answer(acknowledged)
	p.wantOffset(4)
}

// A changelog that was made anew empties the table, and the next start recovers it.
func TestChangelogCut(t *testing.T) {
	p := start(t)
	for i := range 3 {
		p.write("a", fmt.Append(nil, i))
		p.answer(acknowledged)
	}
	p.write("old", []byte("x"))
	p.answer(acknowledged)
	p.check(p.storage.MarkRecovered())
	p.log.records = []row{{"b", []byte("new")}}
	p.check(p.storage.Set("c", []byte("new")))
	var got error
	p.producer.Emit(table, "c", []byte("new")).Then(func(err error) { got = err })
	p.answer(acknowledged)
	if !errors.Is(got, ErrChangelogCut) || !strings.Contains(got.Error(), table) {
		t.Fatalf("got %v, want an error that wraps ErrChangelogCut and names the table", got)
	}
	p.restart()
	if got := fmt.Sprint(p.rows()); got != "map[b:new c:new]" {
		t.Errorf("after the restart: %s", got)
	}
}

// Recovery reads a changelog of which compaction has left holes.
func TestRecoveryOfACompactedChangelog(t *testing.T) {
	p := start(t)
	st := p.storage
	for _, offset := range []int64{3, 7, 8} {
		must(t, st.Set(fmt.Sprint(offset), []byte("x")))
		must(t, st.SetOffset(offset))
		p.wantOffset(offset)
	}
	must(t, st.MarkRecovered())
	p.log.records = make([]row, 9)
	p.visible = p.rows()
	p.write("a", []byte("1"))
	p.answer(acknowledged)
	p.wantOffset(9)
}

// A standby follows the changelog without ever producing.
func TestStandbyFollows(t *testing.T) {
	p := start(t)
	must(t, p.storage.MarkRecovered())
	for offset := range int64(5000) {
		must(t, p.storage.Set(fmt.Sprint(offset%10), fmt.Append(nil, offset)))
		must(t, p.storage.SetOffset(offset))
		p.log.records = append(p.log.records, row{fmt.Sprint(offset % 10), fmt.Append(nil, offset)})
	}
	if len(p.storage.pending) != 0 || p.storage.ackedBytes >= flushBytes {
		t.Errorf("%d keys pending and %d bytes not written", len(p.storage.pending), p.storage.ackedBytes)
	}
	p.restart()
}

func TestWrapProducerLeavesOtherTopicsAlone(t *testing.T) {
	p := start(t)
	var got error
	p.producer.Emit("group-loop", "a", []byte("1")).Then(func(err error) { got = err })
	p.answer(refused)
	if got == nil {
		t.Error("the failure of a record of another topic got lost")
	}
	p.producer.Emit("other-table", "a", []byte("1"))
	p.answer(acknowledged)
	p.wantOffset(none)
}
