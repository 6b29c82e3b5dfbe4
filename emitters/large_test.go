package emitters

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"freshet"
	"freshet/processors/processortest"
)

// While Kafka is slow and batches have all the places that they may have, there are places for others.
func TestLargeBatchesLeavePlaces(t *testing.T) {
	c := processortest.Start(t, 4)
	e, err := New(c.Brokers, c.Names, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan struct{})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	c.Fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.Fake.KeepControl()
		c.Fake.SleepControl(func() { <-released })
		return nil, nil, false
	})
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	const batches, each = 3, 2 * largeInFlight
	outcomes := make(chan []Outcome, batches)
	post := freshet.Post{ID: 1, Author: 1, Text: "x", Visibility: freshet.Public, CreatedAt: time.Unix(1, 0)}
	for range batches {
		posts := make([]freshet.Post, each)
		for i := range posts {
			posts[i] = post
		}
		go func() { outcomes <- e.Posts(ctx, posts, false) }()
	}
	s := e.streams[freshet.Posts]
	c.Until("the batches have their places", func() bool { return len(s.large) == cap(s.large) })
	few := make(chan []Outcome, 1)
	go func() { few <- e.Posts(ctx, []freshet.Post{post, post}, false) }()
	c.Until("a small batch has places as well", func() bool { return len(s.slots) == cap(s.large)+2 })
	close(released)
	all := <-few
	for range batches {
		all = append(all, <-outcomes...)
	}
	if len(all) != batches*each+2 {
		t.Errorf("%d outcomes", len(all))
	}
	for _, o := range all {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	if len(s.large) != 0 || len(s.slots) != 0 {
		t.Errorf("%d and %d places are not given back", len(s.large), len(s.slots))
	}
}
