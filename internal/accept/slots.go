package accept

import (
	"context"
	"sync"
	"time"

	"freshet"
	"freshet/internal/posts"
)

// Who saves a post and who sweeps have to agree on where a sweep looks, with clocks that may be hours apart. So no
// clock of one is compared with that of another. Slots are what ids say. A sweep notes in the store that it is going to
// look through the slots up to some one, waits for closeWait, and only then looks. Who saves a post knows which slots
// are closed, as of trustFor ago at most by its own clock: if its post, once it is saved, is in none of them, the post
// was there before the sweep looks. If it is in one, because the id is old or a clock is far ahead, no sweep need find
// it, and nobody is told that it will be published.
const (
	// lookEvery is how often a process asks which slots are closed.
	lookEvery = time.Second
	// trustFor is for how long it believes what it was told.
	trustFor = 5 * time.Second
	// closeWait is more than that: it began before, and the clocks of two machines may run a little differently.
	closeWait = 2 * trustFor
)

// slots is what a process knows of where posts can be saved.
type slots struct {
	mu     sync.Mutex
	sweeps posts.Sweeps
	asked  time.Time // before the store was asked for sweeps; zero: it has never answered
}

// covered says of posts that are saved now whether a sweep is sure to find them.
func (s *slots) covered(all []freshet.Post) []bool {
	s.mu.Lock()
	sweeps, asked := s.sweeps, s.asked
	s.mu.Unlock()
	current := !asked.IsZero() && time.Since(asked) <= trustFor
	covered := make([]bool, len(all))
	for i := range all {
		slot := posts.SlotOf(all[i].ID)
		covered[i] = current && sweeps.First != 0 && slot >= sweeps.First &&
			slot > max(sweeps.Closed, sweeps.Swept) && slot <= sweeps.Opened
	}
	return covered
}

// open asks the store, and notes there that posts are going to be saved in the slot of now and the next one.
func (s *slots) open(ctx context.Context, store posts.Marks, now time.Time) error {
	slot := posts.SlotAt(now)
	for {
		asked := time.Now()
		sweeps, err := store.Sweeps(ctx)
		if err != nil {
			return err
		}
		if sweeps.First != 0 && sweeps.Opened > slot {
			s.mu.Lock()
			s.sweeps, s.asked = sweeps, asked
			s.mu.Unlock()
			return nil
		}
		note := posts.Sweeps{Opened: slot + 1}
		if sweeps.First == 0 {
			note.First = slot
		}
		if err := store.NoteSweeps(ctx, note); err != nil {
			return err
		}
	}
}
