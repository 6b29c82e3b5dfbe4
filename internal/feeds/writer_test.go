package feeds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/goleak"

	"freshet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// group stands for the consumer group: it says what is finished, and remembers what it was told.
type group struct {
	mu       sync.Mutex
	session  uint64
	finished map[Input]int64
	released map[Input]int64
	back     map[Input]int64
	backs    int
}

var testInput = Input{InputPosts, 0}

func (g *group) inputs() Inputs {
	return Inputs{
		Finished: func() (uint64, map[Input]int64) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.session, maps.Clone(g.finished)
		},
		Release: func(_ uint64, offsets map[Input]int64) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.released = offsets
		},
		Back: func(offsets map[Input]int64) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.back = offsets
			g.backs++
			g.session++
			maps.Copy(g.finished, offsets)
		},
		At: func(context.Context) (Positions, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			committed := map[Input]int64{testInput: 0}
			maps.Copy(committed, g.released)
			return Positions{Committed: committed, Stored: map[int32]int64{0: 3}}, nil
		},
		Ends: func(context.Context) (map[Input]int64, error) { return map[Input]int64{testInput: 100}, nil },
	}
}

func (g *group) finish(offset int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.finished[testInput] = offset
}

func (g *group) get() (released, back int64, backs int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.released[testInput], g.back[testInput], g.backs
}

type fixture struct {
	*testing.T
	mini   *miniredis.Miniredis
	conn   *Redis
	layout Layout
	group  *group
	writer *Writer
}

func newFixture(t *testing.T, configure func(*WriterConfig)) *fixture {
	t.Helper()
	f := &fixture{T: t, mini: miniredis.RunT(t), layout: Layout{Zones: 4, FeedLength: 5}}
	f.group = &group{session: 1, finished: map[Input]int64{testInput: 0}}
	conn, err := connectMini(t, f.mini, f.layout)
	if err != nil {
		t.Fatal(err)
	}
	f.conn = conn
	cfg := WriterConfig{Conn: conn, Layout: f.layout, Inputs: f.group.inputs(), NoteEvery: 5 * time.Millisecond}
	if configure != nil {
		configure(&cfg)
	}
	f.writer = NewWriter(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.writer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := f.writer.Recover(ctx, Positions{Committed: map[Input]int64{testInput: -1}}); err != nil {
		t.Fatal(err)
	}
	return f
}

// connectMini connects to miniredis, which does not know its eviction policy.
func connectMini(t *testing.T, mini *miniredis.Miniredis, layout Layout) (*Redis, error) {
	t.Helper()
	r := newRedis(layout, []string{mini.Addr()})
	err := r.loadScripts(t.Context())
	return r, err
}

func (f *fixture) await(what string, condition func() bool) {
	f.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			f.Fatalf("waited 10 s in vain until %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// deliver adds a delivery and waits until it is flushed.
func (f *fixture) deliver(post freshet.PostID, followers ...freshet.Number) {
	f.Helper()
	if err := <-f.add(f.Context(), post, followers...); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) add(ctx context.Context, post freshet.PostID, followers ...freshet.Number) <-chan error {
	done := make(chan error, 1)
	f.writer.Add(ctx, Delivery{
		Kind: freshet.PostCreated, Author: 7, Post: post, Followers: followers,
		Body: &PutBody{Post: post, Token: f.writer.Token(post), Offset: int64(post), Body: []byte("body")},
	}, func(err error) { done <- err })
	return done
}

func (f *fixture) logged(account freshet.Number) []freshet.PostID {
	f.Helper()
	read := &ReadBlock{Block: account.Block(), Slot: AllSlots}
	if err := f.conn.Do(f.Context(), read); err != nil {
		f.Fatal(err)
	}
	var ids []freshet.PostID
	if err := decodeLog(read.Log, func(slot byte, id freshet.PostID) {
		if slot == account.Slot() {
			ids = append(ids, id)
		}
	}); err != nil {
		f.Fatal(err)
	}
	return ids
}

func (f *fixture) state(zone Zone) ZoneState {
	f.Helper()
	read := &ReadZone{Zone: zone}
	if err := f.conn.Do(f.Context(), read); err != nil {
		f.Fatal(err)
	}
	return read.State
}

func TestWriterDeliversAndReleases(t *testing.T) {
	f := newFixture(t, nil)
	f.deliver(11, 1, 2, 40)
	f.deliver(12, 1)
	if got := fmt.Sprint(f.logged(1), f.logged(2), f.logged(40), f.logged(3)); got != "[11 12] [11] [11] []" {
		t.Errorf("the logs hold %s", got)
	}
	body, outbox := &ReadBody{Post: 11}, &ReadOutbox{Author: 7}
	if err := f.conn.Do(t.Context(), body, outbox); err != nil {
		t.Fatal(err)
	}
	ids, _, err := decodeOutbox(outbox.Value, 5)
	if string(body.Body) != "body" || body.Offset != 11 || err != nil || fmt.Sprint(ids) != "[12 11]" {
		t.Errorf("body %q at %d, outbox %v, %v", body.Body, body.Offset, ids, err)
	}
	f.group.finish(13)
	f.await("offset 13 is released", func() bool { released, _, _ := f.group.get(); return released == 13 })
	mark := f.mini.HGet(Zone(2).marksKey(), testInput.field())
	if mark != "13" {
		t.Errorf("zone 2 notes %q, want 13", mark)
	}
}

func TestWriterGoesBackWhenRedisLosesEverything(t *testing.T) {
	f := newFixture(t, nil)
	f.deliver(11, 1)
	f.group.finish(5)
	f.await("offset 5 is released", func() bool { released, _, _ := f.group.get(); return released == 5 })
	f.mini.FlushAll()
	f.await("the writer goes back", func() bool { _, _, backs := f.group.get(); return backs > 0 })
	if _, back, _ := f.group.get(); back != 3 {
		t.Errorf("went back to %d, want 3, which the store has reached", back)
	}
	for zone := range Zone(4) {
		if s := f.state(zone); s.Token == "" || !s.Recovering {
			t.Errorf("zone %d: %+v, want a token, recovering", zone, s)
		}
	}
	// What was flushed before the loss is noted no more; the end of the topic, as it was, ends the recovery.
	f.group.finish(99)
	f.await("99 is released", func() bool { released, _, _ := f.group.get(); return released == 99 })
	if !f.state(1).Recovering {
		t.Error("the zone is well although 100 has not been passed")
	}
	f.group.finish(100)
	f.await("the zones are well", func() bool { return f.state(0).Well() && f.state(3).Well() })
	f.deliver(12, 1)
	if got := fmt.Sprint(f.logged(1)); got != "[12]" {
		t.Errorf("the log holds %s", got)
	}
}

func TestWriterWaitsForRedis(t *testing.T) {
	f := newFixture(t, nil)
	f.mini.SetError("LOADING not yet")
	done := f.add(t.Context(), 11, 1)
	f.await("the writer says why", func() bool { return f.writer.Err() != nil })
	select {
	case err := <-done:
		t.Fatalf("flushed without Redis: %v", err)
	default:
	}
	f.mini.SetError("")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.await("the writer is well", func() bool { return f.writer.Err() == nil })
	if got := fmt.Sprint(f.logged(1)); got != "[11]" {
		t.Errorf("the log holds %s", got)
	}
	if _, _, backs := f.group.get(); backs != 0 {
		t.Error("went back although nothing was lost")
	}
}

// A session that ends while Redis is away must not wait for Redis.
func TestWriterLetsEndedSessionsGo(t *testing.T) {
	f := newFixture(t, nil)
	f.mini.SetError("LOADING not yet")
	session, end := context.WithCancel(t.Context())
	done := f.add(session, 11, 1)
	barrier := make(chan error, 1)
	f.writer.Barrier(session, func(err error) { barrier <- err })
	end()
	for _, c := range []<-chan error{done, barrier} {
		if err := <-c; !errors.Is(err, ErrStopped) {
			t.Errorf("let go with %v, want ErrStopped", err)
		}
	}
	f.mini.SetError("")
}

func TestWriterBoundsWhatWaits(t *testing.T) {
	// No notes: the first failure has to be that of a flush, which has taken the first batch.
	f := newFixture(t, func(c *WriterConfig) { c.MaxEntries, c.NoteEvery = 3, time.Hour })
	f.mini.SetError("LOADING not yet")
	first := f.add(t.Context(), 11, 1, 2, 3)
	f.await("the first flush is tried", func() bool { return f.writer.Err() != nil })
	second := f.add(t.Context(), 12, 1, 2, 3) // fills the next batch
	waiting := make(chan (<-chan error))
	go func() { waiting <- f.add(t.Context(), 13, 1) }()
	select {
	case <-waiting:
		t.Fatal("a third delivery did not wait, though 6 entries are waiting and 3 may")
	case <-time.After(50 * time.Millisecond):
	}
	f.mini.SetError("")
	for _, done := range []<-chan error{first, second, <-waiting} {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriterBarrier(t *testing.T) {
	f := newFixture(t, nil)
	idle := make(chan error, 1)
	f.writer.Barrier(t.Context(), func(err error) { idle <- err })
	if err := <-idle; err != nil {
		t.Fatal(err)
	}
	f.mini.SetError("LOADING not yet")
	f.add(t.Context(), 11, 1)
	passed := make(chan error, 1)
	f.writer.Barrier(t.Context(), func(err error) { passed <- err })
	f.await("the flush is tried", func() bool { return f.writer.Err() != nil })
	select {
	case err := <-passed:
		t.Fatalf("the barrier let pass before the delivery was flushed: %v", err)
	default:
	}
	f.mini.SetError("")
	if err := <-passed; err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.logged(1)); got != "[11]" {
		t.Errorf("the barrier let pass, and the log holds %s", got)
	}
}

func TestWriterCompactsAndTrims(t *testing.T) {
	f := newFixture(t, func(c *WriterConfig) { c.LogLimit = 20 * entrySize })
	read := &ReadBlock{Block: 0, Slot: AllSlots}
	if err := f.conn.Do(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	warm := &SwapFeed{
		Slot: 1, Token: read.State.Token, Next: "g", Value: Feed{Header: Header{Read: DayOf(time.Now())}}.Encode(),
	}
	if err := f.conn.Do(t.Context(), warm); err != nil || !warm.OK {
		t.Fatal(warm.OK, err)
	}
	for post := range freshet.PostID(60) {
		f.deliver(post+1, 1, 2)
	}
	f.await("the log is short and the outbox trimmed", func() bool {
		outbox := &ReadOutbox{Author: 7}
		if err := f.conn.Do(t.Context(), read, outbox); err != nil {
			t.Fatal(err)
		}
		return len(read.Log) <= 22*entrySize && len(outbox.Value) <= 11*idSize
	})
	feed, logged, err := read.Feed(1)
	if err != nil || len(feed.IDs) != 5 {
		t.Fatalf("the feed holds %v, %v", feed.IDs, err)
	}
	if got := Newest(append(feed.IDs, logged...), 5); fmt.Sprint(got) != "[60 59 58 57 56]" {
		t.Errorf("feed and log together hold %v", got)
	}
	if _, warm := read.Feeds[2]; warm {
		t.Error("a cold account became warm")
	}
}

func TestRestartedRedisIsTaughtAgain(t *testing.T) {
	f := newFixture(t, nil)
	if err := f.conn.client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	f.deliver(11, 1)
	if got := fmt.Sprint(f.logged(1)); got != "[11]" {
		t.Errorf("the log holds %s", got)
	}
}
