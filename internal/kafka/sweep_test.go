package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lovoo/goka"
)

// Every row has its turn once a round, a slice at a time, and a round goes on when a turn cannot be sent.
func TestSweeperGivesEveryRowItsTurn(t *testing.T) {
	t.Parallel()
	const rows, rounds = 1000, 3
	var mu sync.Mutex
	turns, sent, failures := map[string]int{}, 0, 0
	reached := make(chan struct{})
	s := &Sweeper{
		Every: time.Millisecond, Slices: 4, Logger: testLogger(t),
		Keys: func(visit func(string) error) error {
			for i := range rows {
				if err := visit(fmt.Sprint("row", i)); err != nil {
					return err
				}
			}
			return nil
		},
		Send: func(key string) (*goka.Promise, error) {
			mu.Lock()
			defer mu.Unlock()
			if key == "row7" && failures < 2 {
				failures++
				return nil, errors.New("no broker")
			}
			turns[key]++
			if sent++; sent == rounds*rows {
				close(reached)
			}
			promise, finish := goka.NewPromiseWithFinisher()
			go finish(nil, nil) // acknowledgements come from elsewhere
			return promise, nil
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	<-reached
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// What comes in the slice behind the row that failed waits for the next round, twice.
	for i := range rows {
		if n := turns[fmt.Sprint("row", i)]; n < 1 {
			t.Errorf("row %d had no turn", i)
		}
	}
	if failures != 2 {
		t.Errorf("%d turns failed, want 2", failures)
	}
}
