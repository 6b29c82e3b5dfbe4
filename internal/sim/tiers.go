package sim

import (
	"time"

	"freshet"
	"freshet/processors/fanout"
	"freshet/views"
)

// tiering is what a deployment needs to pull big authors.
type tiering struct {
	log    *topic
	on     bool // authors are pulled in this run
	slack  time.Duration
	stated map[freshet.Number]bool // authors of whom a tier was ever stated
}

// pulling makes authors big who have a few followers.
func (w *world) pulling() {
	w.tiers.on = true
	w.tiers.slack = time.Duration(2+w.rng.IntN(4)) * time.Second
}

// setLimit is what an operator does; 0 is no limit.
func (w *world) setLimit() {
	w.tree.PullAbove = w.rng.Uint64N(4)
	w.tracef("authors are pulled above %d followers !", w.tree.PullAbove)
}

// announcements are those of a fan-out process that starts.
func (w *world) announcements() *fanout.Announcements {
	if w.tiers.on && w.scene == nil {
		w.setLimit()
	}
	slack := w.tiers.slack
	if w.mutated("no slack before authors are pulled") {
		slack = 0
	}
	return fanout.NewAnnouncements(slack, w.clock)
}

// judged counts what became of an author at a post.
func (w *world) judged(author freshet.Number, before, after *fanout.Node, out fanout.Outcome) {
	if after == nil || out.Tier == nil {
		return
	}
	was := before != nil && before.Tier.Pull
	switch is := after.Tier; {
	case is.Pull && !was:
		w.count("tier: an author is pulled")
	case !is.Pull && was:
		w.count("tier: an author is delivered again")
	case is.Pull && is.Merged:
		w.count("tier: a post is not delivered")
		if w.scene == nil && w.chance(4) {
			w.after(w.rng.IntN(600), w.setLimit)
		}
	case is.Pull:
		w.count("tier: a post is delivered because readers may not know")
	}
	w.tracef("the tier of %v is %+v, with %d followers", author, after.Tier, after.Total())
}

// announce states a tier as a message's follow-up.
func (p *part) announce(m *message, tier *freshet.Tier) {
	if tier == nil {
		return
	}
	h, w := p.s.h, p.s.h.w
	pulled := h.pulled
	if w.mutated("slack from before the acknowledgement") {
		pulled.Acknowledged(tier.Author)
	}
	send := func(ack func()) {
		first := !w.tiers.stated[tier.Author]
		w.tiers.stated[tier.Author] = true
		w.spawn(h.proc, "announcer", func(c *coro) {
			if first {
				w.unlucky(c, tier.Author)
			}
			h.producer.send(w.tiers.log, tier.Author.Key(), *tier, func(error) {
				w.tracef("%s has stated: %v is pulled: %t", h.name, tier.Author, tier.Pull)
				pulled.Acknowledged(tier.Author)
				ack()
			})
		})
	}
	m.in.tracker.Follow(m.offset)
	m.in.followUps = append(m.in.followUps, followUp{m.offset, send})
}

// unlucky makes the first statement of an author come late now and then, or come to views that stand still, while the
// author posts and its followers read: by chance that is rare, and an author is stated for the first time only once.
func (w *world) unlucky(c *coro, author freshet.Number) {
	if w.quiet || w.scene != nil || w.chance(4) {
		return
	}
	anAPI := func() *api { return w.apis[w.rng.IntN(len(w.apis))] }
	for range 6 {
		w.after(w.rng.IntN(2000), func() { anAPI().publish(author) })
	}
	for range 30 {
		w.after(w.rng.IntN(3000), func() { anAPI().read(w.someone(), 0, 8) })
	}
	if w.chance(2) {
		for _, a := range w.apis {
			a.tiers.stallTo = w.step + w.rng.IntN(3000)
		}
		return
	}
	until := w.step + w.rng.IntN(2000)
	c.until(func() bool { return w.step >= until || w.quiet })
}

// tiersView is a lagging copy of the tiers topic on an API process.
type tiersView struct {
	w       *world
	at      []int64
	until   []int64 // what it has to reach before it answers
	latest  map[freshet.Number]freshet.Tier
	pulled  views.Pulled
	horizon views.Horizon
	stallTo int
}

// startTiers gives a process that starts its view, with what lies on its disk or without.
func (a *api) startTiers() {
	w := a.w
	if a.tiers == nil || w.tiers.on && w.chance(2) {
		a.tiers = &tiersView{w: w, at: make([]int64, w.partitions), latest: map[freshet.Number]freshet.Tier{}}
	}
	v := a.tiers
	v.until, v.horizon, v.pulled.AsOf = nil, views.Horizon{}, time.Time{}
	for p := range w.partitions {
		v.until = append(v.until, w.tiers.log.end(p))
	}
}

// stepViews lets one of the process's views move.
func (a *api) stepViews() bool {
	w := a.w
	if w.tiers.on && w.chance(2) && a.tiers.step() {
		return true
	}
	return a.view.step()
}

// stall lets one of the process's views stand still.
func (a *api) stall(until int) {
	if a.w.tiers.on && a.w.chance(2) {
		a.tiers.stallTo = until
		return
	}
	a.view.stallTo = until
}

func (v *tiersView) ready() bool {
	for p, at := range v.at {
		if at < v.until[p] {
			return false
		}
	}
	return true
}

func (v *tiersView) behind() bool {
	for p, at := range v.at {
		if at < v.w.tiers.log.end(p) {
			return true
		}
	}
	return false
}

func (v *tiersView) step() bool {
	w := v.w
	defer v.look()
	stands := w.step < v.stallTo && v.ready()
	if !w.quiet && (stands || !w.chance(w.pace.view)) {
		return false
	}
	start := w.rng.IntN(w.partitions)
	for i := range w.partitions {
		p := (start + i) % w.partitions
		if v.at[p] < w.tiers.log.end(p) {
			tier, _ := w.tiers.log.parts[p][v.at[p]].value.(freshet.Tier)
			v.at[p]++
			v.apply(tier)
			return true
		}
	}
	return false
}

func (v *tiersView) apply(tier freshet.Tier) {
	v.latest[tier.Author] = tier
	v.pulled = v.pulled.With(tier)
	if !tier.Pull && v.w.mutated("authors who left pull are forgotten") {
		v.pulled = views.Pulled{AsOf: v.pulled.AsOf}
		for _, other := range v.latest {
			if other.Pull {
				v.pulled = v.pulled.With(other)
			}
		}
	}
}

// look compares the view with its topic; the answer to a question comes with the next look.
func (v *tiersView) look() {
	if v.horizon.Reached(func(p int32) int64 { return v.at[p] }) {
		ends := map[int32]int64{}
		for p := range v.w.partitions {
			ends[int32(p)] = v.w.tiers.log.end(p)
		}
		v.horizon.Asked(v.w.now, ends)
	}
	v.pulled.AsOf = v.horizon.AsOf()
}

// Pulled implements views.PulledAuthors.
func (v *tiersView) Pulled() (views.Pulled, error) {
	w := v.w
	if !v.ready() {
		return views.Pulled{}, views.ErrNotReady
	}
	pulled := v.pulled
	switch {
	case !w.tiers.on, w.quiet && !v.behind(), w.mutated("complete though the view of tiers is behind"):
		pulled.AsOf = w.now
	case w.now.Sub(pulled.AsOf) >= w.tiers.slack:
		w.count("read: the view of tiers is too old")
	}
	return pulled, nil
}

// mayBeKept says that a page may lack a post and be complete, because the process has kept the author's outbox.
func (r *pageRead) mayBeKept(p *postTruth) bool {
	return r.a.tiers.pulled.Has(p.author) && p.dueTime.After(r.at.Add(-views.KeptFor))
}
