package feeds

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"freshet"
)

// echo is a connection on which every command is answered with 1.
type echo struct{ net.Conn }

func (echo) Write(b []byte) (int, error)      { return len(b), nil }
func (echo) SetReadDeadline(time.Time) error  { return nil }
func (echo) SetWriteDeadline(time.Time) error { return nil }
func (echo) Read(b []byte) (int, error) {
	n := 0
	for ; n+4 <= len(b); n += 4 {
		copy(b[n:], ":1\r\n")
	}
	return n, nil
}

// From the batch to the connection and back, nothing is allocated for a command, and so for an entry.
func TestWireAllocatesNothingForACommand(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	allocations := func(followers int) (commands int, allocations float64) {
		l := allAtOnce()
		d := Delivery{Kind: freshet.PostCreated, Author: 7, Post: 9, Followers: drawFollowers(rng, followers)}
		l.Add(t.Context(), d, noted)
		_, b := l.Take()
		ops := b.second()
		w := &wire{layout: Layout{Zones: 64, FeedLength: 800}, conn: echo{}, in: bufio.NewReader(echo{})}
		return len(ops), testing.AllocsPerRun(10, func() {
			if refused, err := w.run(ops); err != nil || refused != nil {
				t.Fatal(refused, err)
			}
		})
	}
	few, once := allocations(200)
	many, often := allocations(10_000)
	// One for each command would be 8,000 more; what other goroutines allocate meanwhile is counted too.
	if many < 10*few || often > once+float64(many)/50 {
		t.Errorf("%.0f allocations for %d commands, %.0f for %d", once, few, often, many)
	}
}

func flushOf(posts int) []Op {
	var ops []Op
	for i := range posts {
		ops = append(ops, &AppendLog{Block: uint64(i), Entries: AppendEntry(nil, 1, 9)})
	}
	return ops
}

// What Redis refuses is an error, and the answers after it are still those of their commands.
func TestWireGoesOnAfterARefusal(t *testing.T) {
	mini := miniredis.RunT(t)
	layout := Layout{Zones: 2, FeedLength: 5}
	conn, err := connectMini(t, mini, layout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is written
	recovers := []Op{&Recover{Zone: 0, Writer: "w", New: "1-t"}, &Recover{Zone: 1, Writer: "w", New: "1-t"}}
	if err := conn.Do(t.Context(), recovers...); err != nil {
		t.Fatal(err)
	}
	step := &Advance{Writer: "w", Token: "1-t", Counter: 1}
	ops := append(flushOf(gatherRequest), step)
	if !onWire(ops) {
		t.Fatal("a flush that does not go by the wire")
	}
	mini.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	if err := conn.Do(t.Context(), ops...); !errors.Is(err, ErrAway) {
		t.Errorf("a full redis: %v, want ErrAway", err)
	}
	mini.SetError("")
	if err := conn.client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Do(t.Context(), ops...); !errors.Is(err, ErrAway) || step.OK {
		t.Errorf("a redis that has forgotten the scripts: %v, step %t; want ErrAway", err, step.OK)
	}
	if err := conn.Do(t.Context(), ops...); err != nil || !step.OK {
		t.Errorf("a redis that was taught the scripts: %v, step %t", err, step.OK)
	}
	if last, _ := ops[gatherRequest-1].(*AppendLog); last.Length != 2*entrySize {
		t.Errorf("the last log has %d bytes, want two entries", last.Length)
	}
	mini.Close()
	if err := conn.Do(t.Context(), ops...); !errors.Is(err, ErrAway) {
		t.Errorf("a redis that has gone: %v, want ErrAway", err)
	}
	if err := mini.Start(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Do(t.Context(), flushOf(gatherRequest+1)...); err != nil {
		t.Errorf("a redis that has come back: %v", err)
	}
}

// A Redis that takes commands and answers nothing holds nobody longer than it wants to wait.
func TestWireDoesNotWaitForASilentRedis(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn := newRedis(Layout{Zones: 2, FeedLength: 5}, []string{silent.Addr().String()})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- conn.Do(ctx, flushOf(gatherRequest+1)...) }()
	taken, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-failed:
		if !errors.Is(err, ErrAway) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want ErrAway for the sake of the context", err)
		}
	case <-time.After(wireTimeout / 2):
		t.Error("still waiting")
	}
	if err := errors.Join(taken.Close(), conn.Close(), silent.Close()); err != nil {
		t.Error(err)
	}
}
