package accept

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"freshet"
	"freshet/internal/posts"
)

// heldMarks answers a save when it is told to.
type heldMarks struct {
	posts.Marks
	saves chan []freshet.Post
	ends  chan error
}

func (h *heldMarks) Save(_ context.Context, all []freshet.Post) error {
	h.saves <- slices.Clone(all)
	return <-h.ends
}

// What comes while as many saves are under way as there may be goes together in the next, and fails together; nobody is
// told before its own posts are saved.
func TestSavesGoTogether(t *testing.T) {
	store := &heldMarks{saves: make(chan []freshet.Post), ends: make(chan error)}
	var s saver
	var wg sync.WaitGroup
	outcomes := make(chan error, 100)
	begin := func(ids ...freshet.PostID) {
		all := make([]freshet.Post, len(ids))
		for i, id := range ids {
			all[i].ID = id
		}
		wg.Go(func() { outcomes <- s.save(t.Context(), store, all) })
	}
	for i := range savesAtOnce {
		begin(freshet.PostID(i + 1))
		if got := <-store.saves; len(got) != 1 || got[0].ID != freshet.PostID(i+1) {
			t.Fatalf("save %d is of %v", i, got)
		}
	}
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.filling == nil {
			return 0
		}
		return len(s.filling.posts)
	}
	for n, ids := range [][]freshet.PostID{{11, 12}, {13}, {14}} {
		begin(ids...)
		for deadline := time.Now().Add(10 * time.Second); waiting() != n+2; runtime.Gosched() {
			if len(outcomes) > 0 || time.Now().After(deadline) {
				t.Fatalf("%d posts wait, %d are answered", waiting(), len(outcomes))
			}
		}
	}
	store.ends <- nil
	if err := <-outcomes; err != nil {
		t.Error(err)
	}
	if got := <-store.saves; len(got) != 4 {
		t.Errorf("the next save is of %v", got)
	}
	away := errors.New("away")
	for range savesAtOnce - 1 {
		store.ends <- nil
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	store.ends <- away
	wg.Wait()
	for range 3 {
		if err := <-outcomes; !errors.Is(err, away) {
			t.Errorf("got %v", err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.save(ended, store, []freshet.Post{{ID: 1}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
