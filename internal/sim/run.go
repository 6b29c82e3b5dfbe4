package sim

import (
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/processors/following"
	"freshet/views"
)

// Kinds are the kinds of action that a run may do without; a violation is easier to read with fewer of them.
var Kinds = []string{
	"follow", "unfollow", "mute", "block", "edit", "delete", "crash", "zombie", "rebalance", "lose",
	"lose much", "flushall", "away", "slow",
	"cut", "disk", "stall", "days", "reset", "replay", "cold", "corrupt", "compaction", "close", "clock",
}

// onlyInFocus are the kinds that do not happen unless a focus asks for them.
var onlyInFocus = []string{"close", "clock"}

// Result is what a run came to.
type Result struct {
	Steps     int
	Counts    map[string]int64
	Violation *Violation
}

// Run runs one deployment: disturbs it for so many steps, lets it come to rest, and compares it with the definition.
func Run(cfg Config) Result {
	w := newWorld(cfg)
	defer func() {
		for _, c := range w.coros {
			c.kill()
		}
	}()
	for w.step = 1; w.step <= cfg.Steps && w.violated == nil; w.step++ {
		w.advance()
	}
	if w.violated == nil {
		w.rest()
	}
	return Result{Steps: w.done, Counts: w.counts, Violation: w.violated}
}

// advance is one step of somebody; a try at which nobody could do anything is none.
func (w *world) advance() {
	if w.rng.IntN(3) == 0 {
		w.now = w.now.Add(time.Duration(w.rng.IntN(30)) * time.Millisecond)
	}
	w.doLater()
	for try := range 4 {
		r := w.rng.IntN(100)
		if try == 3 {
			r = w.rng.IntN(45)
		}
		switch {
		case r < 45:
			if w.stepCoro() {
				w.done++
				return
			}
		case r < 62:
			if w.procs[w.rng.IntN(len(w.procs))].producer.step() {
				w.done++
				return
			}
		case r < 82:
			if w.stepHosts() {
				w.done++
				return
			}
		case r < 86:
			if w.stepCommits() {
				return
			}
		case r < 91:
			a := w.apis[w.rng.IntN(len(w.apis))]
			if a.runs() && a.accounts.behind() && (w.quiet || w.chance(w.pace.view)) {
				a.accounts.step()
				w.done++
				return
			}
			if a.runs() && a.stepViews() {
				w.done++
				return
			}
		case r < 98:
			if !w.quiet && w.scene == nil {
				w.client()
				return
			}
		default:
			if !w.quiet && w.scene == nil && w.chance(w.pace.fault) {
				w.fault()
				return
			}
		}
		w.rebalances()
	}
}

func (w *world) stepHosts() bool {
	g := w.following
	if w.chance(2) {
		g = w.fanout
	}
	return g.hosts[w.rng.IntN(len(g.hosts))].stepHost()
}

func (w *world) stepCommits() bool {
	g := w.following
	if w.chance(2) {
		g = w.fanout
	}
	h := g.hosts[w.rng.IntN(len(g.hosts))]
	if !h.runs() {
		return false
	}
	if len(h.commits) > 0 && w.chance(2) {
		return h.landCommits(1)
	}
	if len(h.commits) < 3 && w.chance(w.pace.commit) {
		h.sess.commit()
	}
	return true
}

func (w *world) rebalances() {
	for _, g := range []*group{w.following, w.fanout} {
		if g.due > 0 && w.step >= g.due {
			g.rebalance()
		}
	}
	for _, p := range w.procs {
		if !p.alive && w.scene == nil && (w.quiet || w.chance(60)) {
			p.start()
		}
	}
}

const mostRequests = 5

// client starts a request.
func (w *world) client() {
	a := w.apis[w.rng.IntN(len(w.apis))]
	if !a.runs() || a.busy >= mostRequests {
		return
	}
	n, other := w.someone(), w.someone()
	if w.rates["close"] > 0 && w.chance(80) {
		a.close(n)
		return
	}
	kinds := [...]string{"follow", "unfollow", "mute", "block", "delete", "edit"}
	switch r := w.rng.IntN(100); {
	case r < 40:
		before := freshet.PostID(0)
		if posts := w.truth.order; len(posts) > 0 && w.chance(3) {
			before = posts[w.rng.IntN(len(posts))].id
		}
		a.read(n, before, 1+w.rng.IntN(8))
	case r < 60:
		if len(w.truth.order) < 250 {
			a.publish(n)
		}
	default:
		kind := kinds[[...]int{0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 5}[w.rng.IntN(12)]]
		if w.rng.IntN(10) >= w.rates[kind] && kind != "follow" {
			return
		}
		w.request(a, kind, n, other)
	}
}

// someone is an account, half of the time one of three: so some have many followers and many readers at once.
func (w *world) someone() freshet.Number {
	if w.chance(2) {
		return w.accounts[w.rng.IntN(3)]
	}
	return w.accounts[w.rng.IntN(len(w.accounts))]
}

func (w *world) request(a *api, kind string, n, other freshet.Number) {
	switch kind {
	case "follow":
		targets := []freshet.Number{other}
		for w.chance(4) {
			targets = append(targets, w.accounts[w.rng.IntN(len(w.accounts))])
		}
		a.relate(following.Follow, n, targets...)
	case "unfollow":
		a.relate(following.Unfollow, n, other)
	case "mute":
		a.relate(following.Mute+following.Kind(w.rng.IntN(2)), n, other)
	case "block":
		a.relate(following.Block+following.Kind(w.rng.IntN(2)), n, other)
	case "delete", "edit":
		// A client can only name a post that it has seen, so it is in the log.
		posts := w.truth.order
		if len(posts) == 0 {
			return
		}
		p := posts[len(posts)-1-w.rng.IntN(min(len(posts), 12))]
		switch {
		case !p.logged:
		case kind == "delete":
			a.remove(p)
		case !p.deleted:
			a.edit(p)
		}
	}
}

// rest lets everything come to an end, and compares.
func (w *world) rest() {
	w.quiet = true
	for _, p := range w.procs {
		p.setBack = 0 // clocks are set right
	}
	w.tracef("nothing more happens !")
	most := 1_000_000
	if w.cfg.story != nil {
		most = 100_000
	}
	for limit := w.step + most; w.step < limit && w.violated == nil; w.step++ {
		w.advance()
		if w.step%50 == 0 && w.still() {
			break
		}
	}
	if w.violated == nil && !w.still() {
		w.violate("does not come to rest", nil, "%s", w.unrest())
	}
	if w.violated != nil {
		return
	}
	w.now = w.now.Add(20 * time.Second) // past every lease of a build
	w.findCorrupt()
	for limit := w.step + most; w.step < limit && w.violated == nil && !(w.stored() && w.still()); w.step++ {
		w.advance()
	}
	for _, c := range w.coros {
		c.kill() // nobody notes or compacts any more
	}
	w.forgetCoros()
	w.checkAtRest()
}

// findCorrupt reads every outbox, so that no corrupt one is found when nobody can mend it any more.
func (w *world) findCorrupt() {
	for _, n := range w.accounts {
		_, _ = w.apis[0].readNow(func() (views.Page, error) { return w.apis[0].feeds.ByAuthor(background, n, 0, 1) })
	}
}

// stored says that the archive has passed the newest post by the time that a post may take.
func (w *world) stored() bool {
	for p := range w.partitions {
		if w.store.progress[int32(p)].Through.Before(w.now.Add(-produceTimeout)) {
			return false
		}
	}
	return true
}

func (w *world) still() bool { return w.unrest() == "" }

// unrest says what is still to be done.
func (w *world) unrest() string {
	for _, p := range w.procs {
		if !p.alive || !p.producer.empty() {
			return p.name + " is not done"
		}
	}
	for _, g := range []*group{w.following, w.fanout} {
		if g.due > 0 {
			return g.name + " rebalances"
		}
		for _, h := range g.hosts {
			if h.zombieTo > 0 || h.sess == nil || h.sess.over || !h.sess.ready || h.writer != nil && !h.writer.idle() {
				return h.name + " is not in order"
			}
			for _, p := range h.sess.parts {
				for _, in := range p.inputs {
					if in.tracker.Released() < in.topic.end(p.number) || len(in.followUps) > 0 {
						return h.name + " has not done with " + in.topic.name
					}
				}
			}
		}
	}
	for _, a := range w.apis {
		if a.busy > 0 {
			return a.name + " is busy"
		}
		if a.accounts.behind() {
			return a.name + " has not heard of all closings"
		}
		if a.tiers.behind() {
			return a.name + " has a view of tiers that is behind"
		}
		for p, at := range a.view.at {
			if at < w.followingTable.end(p) {
				return a.name + " has a view that is behind"
			}
		}
	}
	for p := range w.partitions {
		if w.store.progress[int32(p)].Offset < w.posts.end(p) || w.truth.listed[p] < w.followers.end(p) {
			return "the archive is behind"
		}
	}
	for zone := range feeds.Zone(w.layout.Zones) {
		if !w.redis.model.Well(zone) {
			return "a zone is not well"
		}
	}
	if len(w.truth.losses) > 0 {
		return "a loss is not noticed"
	}
	return ""
}
