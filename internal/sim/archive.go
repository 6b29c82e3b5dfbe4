package sim

import (
	"time"

	"freshet"
	"freshet/internal/posts"
	"freshet/processors/following"
)

// archive is a process of the group that fills the post store. Each of several consumes on its own, as if the
// others were zombies for ever: the store has to bear that, and they share the committed offsets.
type archive struct {
	*proc
	stallTo int
}

func newArchive(w *world, i int) {
	a := &archive{proc: w.newProc("archive" + string(rune('0'+i)))}
	a.onStart = func() {
		for p := range w.partitions {
			w.spawn(a.proc, "archive", func(c *coro) { a.posts(c, p) })
			w.spawn(a.proc, "archive", func(c *coro) { a.followers(c, p) })
		}
	}
	w.archives = append(w.archives, a)
	a.start()
}

func (a *archive) goes() bool {
	return a.w.quiet || a.w.step >= a.stallTo && a.w.chance(a.w.pace.store)
}

// posts consumes a partition of posts: apply, then note the progress; the committed offset follows later.
func (a *archive) posts(c *coro, partition int) {
	w := a.w
	at := w.truth.archived[partition]
	for {
		c.until(a.goes)
		if reset := w.truth.archiveReset[partition]; reset >= 0 && reset < at {
			at, w.truth.archiveReset[partition] = reset, -1
		}
		log := w.posts.parts[partition]
		fetched := a.now() // before the end is looked at: a record that comes later is later
		n := min(int64(1+w.rng.IntN(4)), int64(len(log))-at)
		if n == 0 && w.chance(4) {
			c.pass()
			_ = w.store.SetProgress(background, int32(partition), posts.Progress{Offset: at, Through: fetched})
			continue
		}
		if n == 0 {
			continue
		}
		var events []posts.Event
		var through time.Time
		for _, r := range log[at : at+n] {
			event, _ := r.value.(freshet.PostEvent)
			events = append(events, posts.Event{PostEvent: event, Offset: r.offset})
			through = r.at
		}
		_ = w.store.Apply(background, events)
		at += n
		c.pass()
		_ = w.store.SetProgress(background, int32(partition), posts.Progress{Offset: at, Through: through})
		c.pass()
		if w.chance(2) {
			w.truth.archived[partition] = max(w.truth.archived[partition], at)
		}
	}
}

func (a *archive) followers(c *coro, partition int) {
	w := a.w
	at := int64(0)
	for {
		c.until(func() bool { return at < w.followers.end(partition) && a.goes() })
		s, _ := w.followers.parts[partition][at].value.(following.Statement)
		_ = w.store.ApplyFollowers(background, []posts.FollowerChange{{
			Followee: s.Followee, Follower: s.Follower, Follows: s.Follows, Version: s.Version,
		}})
		at++
		w.truth.listed[partition] = max(w.truth.listed[partition], at)
	}
}
