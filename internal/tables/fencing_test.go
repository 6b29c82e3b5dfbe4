package tables

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka"
)

// startHost is a host with a session, on a log of its own unless one is given.
func startHost(t *testing.T, name string, log *changelog) *host {
	t.Helper()
	h := newHost(t, name, log)
	t.Cleanup(h.stop)
	h.begin()
	return h
}

func (h *host) restart() {
	h.stop()
	h.start()
	h.begin()
}

func (h *host) wantOffset(want int64) {
	h.t.Helper()
	if got, err := h.storage.GetOffset(none); err != nil || got != want {
		h.t.Fatalf("offset %d, %v, want %d", got, err, want)
	}
}

func (h *host) wantRows(want string) {
	h.t.Helper()
	if got := fmt.Sprint(h.rows()); got != want {
		h.t.Fatalf("%s has %s, want %s", h.name, got, want)
	}
}

// A host that was paused gets its row into the changelog behind the rows of the new owner: nobody takes it for a row,
// the new owner notices at its next row, and what the session after that finds it writes again, so that compaction
// leaves it.
func TestZombieRowDoesNotCount(t *testing.T) {
	log := &changelog{}
	x := startHost(t, "x", log)
	x.write("k", []byte("first"))
	x.answer(acknowledged)
	x.write("k", []byte("zombie"))
	x.write("z", []byte("zombie"))
	y := startHost(t, "y", log)
	y.write("k", []byte("new"))
	y.answer(acknowledged)
	x.answer(acknowledged)
	x.answer(acknowledged)
	if !x.failed {
		t.Error("the zombie was told that its rows are in the changelog")
	}
	y.write("other", []byte("row"))
	y.answer(acknowledged)
	if !y.failed {
		t.Fatal("the owner did not notice the foreign rows")
	}
	y.begin()
	log.compact(y.settled)
	third := startHost(t, "third", log)
	third.wantRows("map[k:new other:row]") // the record is there, whatever its writer was told
	y.wantRows("map[k:new other:row]")
}

// A session that ends between its recovery and the writing again of rows leaves them to the next.
func TestZombieRowAfterAnInterruptedRecovery(t *testing.T) {
	log := &changelog{}
	x := startHost(t, "x", log)
	x.write("k", []byte("zombie"))
	y := startHost(t, "y", log)
	y.write("k", []byte("new"))
	y.answer(acknowledged)
	x.answer(acknowledged)
	y.recoverPartly()
	y.begin()
	log.compact(y.settled)
	startHost(t, "third", log).wantRows("map[k:new]")
}

// goka ends the recovery of a session that ends before it has read everything as if it had; what was read stays.
func TestRecoveryThatIsCutShort(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	h.write("k", []byte("1"))
	h.answer(acknowledged)
	must(t, h.storage.Close())
	st, err := h.holder.Builder(table, 0)
	must(t, err)
	h.link.atOnce = true
	must(t, st.Open())
	if err := st.MarkRecovered(); !errors.Is(err, errCutShort) {
		t.Errorf("got %v, want an error that wraps errCutShort", err)
	}
	if offset, err := st.GetOffset(none); err != nil || offset != 1 {
		t.Errorf("offset %d, %v, want 1", offset, err)
	}
	must(t, st.Close())
	if err := st.MarkRecovered(); !errors.Is(err, errClosed) {
		t.Errorf("got %v, want an error that wraps errClosed", err)
	}
	h.storage = nil
	h.begin()
	h.wantRows("map[k:1]")
}

// Where compaction has left only a beat of an owner's fence, the beat says its epoch.
func TestFenceIsCompacted(t *testing.T) {
	log := &changelog{}
	x := startHost(t, "x", log)
	x.write("k", []byte("zombie"))
	y := startHost(t, "y", log)
	own := y.storage.own
	y.storage.send(own, own.fenceKey, own.fenceID, nil)
	y.answer(acknowledged)
	log.compact(log.end())
	x.answer(acknowledged)
	startHost(t, "third", log).wantRows("map[]")
}

// An owner that writes nothing finds out as well.
func TestWatchNoticesForeignRows(t *testing.T) {
	log := &changelog{}
	h := startHost(t, "x", log)
	h.link.atOnce = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watched := make(chan error, 1)
	go func() { watched <- h.holder.watch(ctx, time.Millisecond) }()
	eventually(t, "the changelog has beats", func() bool { return h.offsetNow() > 2 })
	h.link.intrude(&record{row: row{"k", []byte("foreign")}})
	select {
	case err := <-watched:
		if !errors.Is(err, ErrIntruder) || !strings.Contains(err.Error(), table) {
			t.Errorf("got %v, want an error that wraps ErrIntruder and names the table", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the foreign row was not noticed")
	}
	h.begin()
	h.wantRows("map[]")
}

func (h *host) offsetNow() int64 {
	offset, err := h.storage.GetOffset(none)
	h.check(err)
	return offset
}

// Who finds a later fence in its recovery does not go on.
func TestReplacedWhileRecovering(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	st, err := h.holder.Builder(table, 0)
	must(t, err)
	must(t, h.storage.Close())
	h.link.atOnce = true
	must(t, st.Open())
	h.storage = st.(*storage)
	h.log.records = append(h.log.records, &record{row: row{h.storage.own.fenceKey, []byte("another")}})
	for offset := h.offsetNow() + 1; offset < h.log.end(); offset++ {
		r := h.log.records[offset]
		must(t, h.holder.Update(goka.DefaultUpdate)(update{offset: offset, headers: r.headers}, st, r.key, r.value))
		must(t, st.SetOffset(offset))
	}
	if err := st.MarkRecovered(); !errors.Is(err, ErrReplaced) {
		t.Errorf("got %v, want an error that wraps ErrReplaced", err)
	}
}

func TestPendingIsDroppedAtClose(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	h.write("a", []byte("1"))
	h.answer(acknowledged)
	h.write("a", []byte("2"))
	h.write("b", []byte("2"))
	h.look()
	h.restart()
	h.wantRows("map[a:1]")
}

func TestNewerPendingStaysVisible(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	for _, value := range []string{"1", "2", "1"} {
		h.write("a", []byte(value))
	}
	for _, offset := range []int64{0, 1, 2} {
		h.wantOffset(offset)
		h.look()
		h.answer(acknowledged)
	}
	h.look()
	if len(h.storage.pending) != 0 {
		t.Errorf("still pending: %v", h.storage.pending)
	}
}

// A record that failed for the producer and arrived all the same is read at the next start: the offset does not pass
// it, and what comes behind it fails.
func TestOffsetStaysBeforeAGap(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	for _, value := range []string{"1", "2", "3"} {
		h.write("a", []byte(value))
	}
	h.write("b", []byte("4"))
	h.answer(acknowledged)
	h.answer(acknowledged)
	h.answer(unanswered)
	h.failed = false
	h.answer(acknowledged)
	if !h.failed {
		t.Error("the row behind the gap did not fail")
	}
	h.wantOffset(2)
	h.restart()
	h.wantRows("map[a:3 b:4]")
}

// An acknowledgement without an offset waits until another shows whose records there are, and one is made to come.
func TestNamelessAcknowledgements(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	h.write("a", []byte("1"))
	h.answer(nameless)
	h.wantOffset(0)
	h.answer(acknowledged) // the beat
	h.wantOffset(2)
	h.write("a", []byte("2"))
	h.write("a", []byte("3"))
	h.answer(nameless)
	h.wantOffset(2)
	h.answer(acknowledged)
	h.wantOffset(4)
	h.look()

	h.write("a", []byte("4"))
	h.link.sent[len(h.link.sent)-1].value = []byte("4")
	h.link.intrude(&record{row: row{h.storage.own.fenceKey, []byte("another's")}})
	h.answer(acknowledged) // the first beat
	h.answer(nameless)
	if !h.failed {
		t.Error("a row behind another's fence did not fail")
	}
}

// A changelog that was made anew empties the table, and the next start recovers it.
func TestChangelogCut(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	for i := range 4 {
		h.write("a", fmt.Append(nil, i))
		h.answer(acknowledged)
	}
	h.log.records = []*record{{row: row{"b", []byte("new")}}}
	var got error
	must(t, h.storage.Set("c", []byte("new")))
	h.producer.Emit(table, "c", []byte("new")).Then(func(err error) { got = err })
	h.answer(acknowledged)
	if !errors.Is(got, ErrChangelogCut) || !strings.Contains(got.Error(), table) {
		t.Fatalf("got %v, want an error that wraps ErrChangelogCut and names the table", got)
	}
	// The row that was written names an epoch of the changelog that is gone.
	h.log.records = h.log.records[:1]
	h.restart()
	h.wantRows("map[b:new]")
}

// One that was made anew while nobody looked is found out by the fence.
func TestChangelogCutBetweenSessions(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	for i := range 4 {
		h.write("a", fmt.Append(nil, i))
		h.answer(acknowledged)
	}
	h.log.records = []*record{{row: row{"b", []byte("new")}}}
	h.begin()
	h.wantRows("map[b:new]")
}

// A view follows the changelog without ever producing.
func TestViewFollows(t *testing.T) {
	tables := openTables(t, t.TempDir(), vfs.Default)
	defer func() { must(t, tables.Close()) }()
	s := openStorage(t, tables.View("v").Builder, table)
	must(t, s.MarkRecovered())
	for offset := range int64(5000) {
		must(t, s.Set(fmt.Sprint(offset%10), fmt.Append(nil, offset)))
		must(t, s.SetOffset(offset))
	}
	if len(s.pending) != 0 || s.ackedBytes >= flushBytes {
		t.Errorf("%d keys pending and %d bytes not written", len(s.pending), s.ackedBytes)
	}
}

func TestWrapProducerLeavesOtherTopicsAlone(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	var got error
	h.producer.Emit("group-loop", "a", []byte("1")).Then(func(err error) { got = err })
	h.answer(refused)
	if !errors.Is(got, errRefused) {
		t.Errorf("the failure of a record of another topic is %v", got)
	}
	h.producer.Emit("other-table", "a", []byte("1"))
	h.answer(acknowledged)
	h.wantOffset(0)
}

// Rows of a partition that is not owned any more are not written.
func TestNoRowsWithoutASession(t *testing.T) {
	h := startHost(t, "x", &changelog{})
	must(t, h.storage.Close())
	var got error
	h.producer.EmitWithHeaders(table, "a", []byte("1"), goka.Headers{"h": nil}).Then(func(err error) { got = err })
	if !errors.Is(got, errNotOwned) || len(h.link.sent) != 0 {
		t.Errorf("got %v, want an error that wraps errNotOwned", got)
	}
}
