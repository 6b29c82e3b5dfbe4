package views_test

import (
	"errors"
	"testing"
	"time"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/tables"
	"freshet/processors/processortest"
	"freshet/views"
)

// TestTiersKnowWhoWasEverPulled: from the topic while it recovers, from its own disk after a restart, and as it goes
// on; and it is known as of when.
func TestTiersKnowWhoWasEverPulled(t *testing.T) {
	c := processortest.Start(t, partitions)
	topic := c.Names.Topic(freshet.Tiers)
	disk, err := tables.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	settings := c.ViewSettings("tiers")
	settings.Storage = disk.View("test").Builder
	settings.Update = disk.View("test").Update
	open := func() (*views.Tiers, func()) {
		tiers, err := views.NewTiers(c.Brokers, c.Names, settings)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tiers.Pulled(); !errors.Is(err, views.ErrNotReady) || tiers.Err() == nil {
			t.Errorf("before it runs: %v, want ErrNotReady", err)
		}
		stop := c.Run("tiers", tiers.Run)
		c.Await("tiers are ready", tiers.Ready())
		return tiers, stop
	}
	state := func(author freshet.Number, pull bool) {
		put(t, c, topic, author.Key(), &events.Tier{Pull: pull, Ever: true})
	}
	// has waits until everything that was stated before is known, and then wants these authors, and no other.
	has := func(tiers *views.Tiers, authors ...freshet.Number) {
		t.Helper()
		stated := time.Now()
		var pulled views.Pulled
		c.Until("the view has come past now", func() bool {
			var err error
			if pulled, err = tiers.Pulled(); err != nil {
				t.Fatal(err)
			}
			return pulled.AsOf.After(stated)
		})
		want := map[freshet.Number]bool{}
		for _, author := range authors {
			want[author] = true
		}
		for author := range freshet.Number(30) {
			if pulled.Has(author) != want[author] {
				t.Errorf("author %d: pulled %v, want %v", author, pulled.Has(author), want[author])
			}
		}
		if err := tiers.Err(); err != nil {
			t.Error(err)
		}
	}

	state(1, true)
	state(2, true)
	state(2, false)
	put(t, c, topic, "no number", &events.Tier{Ever: true})
	put(t, c, topic, "3", &events.Tier{}) // of no author that is or was pulled
	tiers, stop := open()
	has(tiers, 1, 2)
	state(4, true)
	has(tiers, 1, 2, 4)
	stop()
	if _, err := tiers.Pulled(); !errors.Is(err, views.ErrNotReady) {
		t.Errorf("after its end: %v, want ErrNotReady", err)
	}
	state(5, false) // while nobody looks
	tiers, stop = open()
	has(tiers, 1, 2, 4, 5)
	for author := freshet.Number(6); author < 20; author++ {
		state(author, author%2 == 0)
		state(author, author%2 == 1)
	}
	has(tiers, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
	c.Fake.Close() // it does not know what is stated from now on
	stop()
}

// TestHorizon: what was in the topic when somebody looked is there once it is applied in every partition, however late.
func TestHorizon(t *testing.T) {
	var h views.Horizon
	applied := map[int32]int64{}
	reached := func() bool { return h.Reached(func(p int32) int64 { return applied[p] }) }
	if !reached() || !h.AsOf().IsZero() {
		t.Error("nothing was asked, and nothing is known")
	}
	at := time.Now()
	h.Asked(at, map[int32]int64{0: 0, 1: 7, 2: 3})
	applied = map[int32]int64{1: 7, 2: 2}
	if reached() || !h.AsOf().IsZero() {
		t.Error("reached, though partition 2 is behind")
	}
	applied[2] = 9
	if !reached() || !h.AsOf().Equal(at) {
		t.Errorf("as of %s, want %s", h.AsOf(), at)
	}
	if h.Asked(at.Add(time.Second), map[int32]int64{0: 1}); reached() || !h.AsOf().Equal(at) {
		t.Error("a later look is reached before its records")
	}
	if applied[0] = 1; !reached() || !h.AsOf().Equal(at.Add(time.Second)) {
		t.Error("a later look is not reached")
	}
}
