package sim

import (
	"maps"
	"slices"
	"strings"
)

// Focuses turn the random choices of a run towards one part of the deployment.
var Focuses = map[string]func(w *world){
	"redis": func(w *world) {
		w.rate(8, "lose", "flushall", "cut", "away", "crash", "rebalance", "compaction", "zombie", "cold")
		w.rate(2, "edit", "mute", "block", "stall")
	},
	"bodies": func(w *world) {
		w.rate(9, "delete", "edit", "lose", "flushall", "stall", "zombie")
		w.rate(6, "days", "reset", "replay", "crash")
	},
	"hosts": func(w *world) { w.rate(9, "crash", "rebalance", "disk", "unfollow") },
	"zombies": func(w *world) {
		w.small(5)
		w.calm()
		w.rate(10, "zombie", "unfollow")
		w.rate(2, "rebalance", "crash", "compaction")
		w.pace.fault = 1 + w.rng.IntN(6)
		w.shape.following, w.shape.fanout = 2, 2
	},
	"followers": func(w *world) { w.rate(10, "unfollow", "crash", "rebalance", "reset", "disk") },
	// Few accounts and processes, so that the same things are done at once: reads and compactions of the same feeds.
	"feeds": func(w *world) {
		w.small(4)
		w.calm()
		w.rate(10, "compaction", "unfollow")
		w.rate(w.rng.IntN(10), "cold")
		w.rate(1, "rebalance")
	},
	// The same, and Redis loses something now and then.
	"losses": func(w *world) {
		w.small(4)
		w.calm()
		w.rate(w.rng.IntN(10), "flushall")
		w.rate(w.rng.IntN(10), "lose")
		w.rate(w.rng.IntN(3), "lose much", "cut", "crash", "away", "cold")
		w.rate(w.rng.IntN(11), "compaction")
		w.pace.store = 2 + w.rng.IntN(20)
	},
	// Deletes and edits under losses, with an archive that is late.
	"deletes": func(w *world) {
		w.small(5)
		w.calm()
		w.rate(10, "delete")
		w.rate(4, "edit", "lose", "flushall", "stall", "replay", "days")
		w.rate(1, "reset", "crash", "zombie")
	},
	// Deep trees, slow Redis, follows that come and go.
	"trees": func(w *world) {
		w.small(12)
		w.calm()
		w.tree.PageSize = 1 + w.rng.IntN(2)
		w.rate(10, "unfollow", "slow", "compaction")
		w.rate(3, "crash", "rebalance", "away")
	},
	// Follows that come and go, and hosts that die before they have committed.
	"toggles": func(w *world) {
		w.small(3 + w.rng.IntN(8))
		w.calm()
		if w.chance(2) {
			w.tree.PageSize = 1
		}
		w.pace.commit, w.pace.view = 1+w.rng.IntN(80), 1+w.rng.IntN(80)
		w.rate(10, "unfollow", "crash")
		w.rate(w.rng.IntN(5), "rebalance", "zombie", "compaction")
		w.shape.fanout = 1 + w.rng.IntN(2)
	},
	// Something happens before one kind of operation, again and again.
	"aimed": func(w *world) {
		w.small(3 + w.rng.IntN(6))
		if w.chance(2) {
			w.tree.PageSize = 1
		}
		w.calm()
		w.pace.victim = ""
		w.takeAim()
		w.rate(w.rng.IntN(10), "delete", "unfollow")
		w.rate(w.rng.IntN(4), "cold", "edit")
		w.rate(w.rng.IntN(2), "lose", "crash", "rebalance", "stall", "reset", "flushall")
		w.rate(w.rng.IntN(11), "compaction")
		w.shape.fanout = 1 + w.rng.IntN(2)
	},
	// Accounts that are closed.
	"accounts": func(w *world) {
		w.rate(5, "close", "block", "delete", "stall", "crash")
		w.shape.apis = 2
	},
	// Clocks that step back.
	"clocks": func(w *world) {
		w.rate(8, "clock")
		w.rate(3, "crash", "flushall", "lose", "delete", "edit", "cold")
	},
	// Big authors, and limits so low that they come and go; views that stand still.
	"tiers": func(w *world) {
		w.small(3 + w.rng.IntN(8))
		w.calm()
		w.pulling()
		w.pace.fault, w.pace.view = 4<<w.rng.IntN(6), 1+w.rng.IntN(2)
		w.shape.apis, w.shape.fanout = 1+w.rng.IntN(2), 1+w.rng.IntN(2)
		w.pace.commit = 1 + w.rng.IntN(20)
		w.rate(10, "unfollow")
		w.rate(w.rng.IntN(11), "stall")
		w.rate(1+w.rng.IntN(4), "crash")
		w.rate(w.rng.IntN(4), "rebalance", "zombie", "slow", "compaction", "cold")
		w.rate(w.rng.IntN(3), "lose", "flushall", "reset", "replay", "disk", "delete", "days", "block")
	},
	// Several writers that die and lose at once.
	"writers": func(w *world) {
		w.small(5)
		w.calm()
		w.shape.fanout = 2
		w.rate(8, "lose", "crash", "cut", "away")
		w.rate(3, "delete", "zombie", "rebalance")
	},
}

// AllFocuses lists the focuses by name, with "" for runs without one.
func AllFocuses() []string { return append([]string{""}, slices.Sorted(maps.Keys(Focuses))...) }

// small makes a deployment of so many accounts and few processes, in which nothing is served from below a floor.
func (w *world) small(accounts int) {
	w.accounts = w.accounts[:min(accounts, len(w.accounts))]
	w.partitions = 1 + w.rng.IntN(2)
	w.layout.Zones = 2 + w.rng.IntN(2)
	w.layout.FeedLength = 100
	w.shape = shape{1, 1, 1, 1 + w.rng.IntN(2), 1 + w.rng.IntN(2)}
	w.pace.stick = 30 << w.rng.IntN(5)
}

// calm leaves out everything that is not asked for.
func (w *world) calm() {
	clear(w.rates)
	w.pace.fault = 8 << w.rng.IntN(6)
}

func (w *world) rate(rate int, kinds ...string) {
	for _, kind := range kinds {
		if !w.off[kind] {
			w.rates[kind] = rate
		}
	}
}

func focus(w *world) {
	if w.cfg.story != nil {
		w.stage(w.cfg.story)
	}
	if f := Focuses[w.cfg.Focus]; f != nil {
		f(w)
	}
	// "aim <kind of operation>: <what happens>" is a run of "aimed" that is not left to chance.
	if at, found := strings.CutPrefix(w.cfg.Focus, "aim "); found {
		Focuses["aimed"](w)
		w.aim.at, w.aim.act, _ = strings.Cut(at, ": ")
		w.aim.chance = 1 + w.rng.IntN(4)
		switch w.aim.act {
		case "cold, read":
			w.pace.store, w.shape.nodes = 100+w.rng.IntN(300), 2
			w.rate(3, "lose much", "flushall", "lose")
		case "lose, away":
			w.shape.nodes = 2
		}
	}
}
