package posts

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flaky is a store of which only the progress is asked.
type flaky struct {
	Store
	offset atomic.Int64
	away   atomic.Bool
	asked  atomic.Int64
}

var errAway = errors.New("away")

func (f *flaky) Progress(context.Context) (map[int32]Progress, error) {
	f.asked.Add(1)
	if f.away.Load() {
		return nil, errAway
	}
	return map[int32]Progress{3: {Offset: f.offset.Load()}}, nil
}

func TestWatchedKeepsWhatTheStoreSaidLast(t *testing.T) {
	store := &flaky{}
	store.away.Store(true)
	w := Watch(store, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if _, err := w.Progress(t.Context()); !errors.Is(err, errAway) {
		t.Errorf("before the store has said anything: %v, want its error", err)
	}
	store.away.Store(false)
	store.offset.Store(7)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	says := func(want int64) func() bool {
		return func() bool {
			got, err := w.Progress(t.Context())
			return err == nil && got[3].Offset == want && w.watcher.Last() != nil
		}
	}
	await(t, "the store's answer is known", says(7))
	store.offset.Store(9)
	await(t, "the store's next answer is known", says(9))
	store.away.Store(true)
	from := store.asked.Load()
	await(t, "the store has been asked in vain", func() bool { return store.asked.Load() >= from+2 })
	if !says(9)() {
		t.Error("with the store away, what it said last is gone")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 15 s: %s", what)
		}
	}
}
