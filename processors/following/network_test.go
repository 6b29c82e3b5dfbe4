package following_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"freshet"
	"freshet/processors/fanout"
	"freshet/processors/following"
)

const (
	accounts    = 5   // that follow each other
	settleLimit = 100 // messages handled for each that was under way
)

// The inputs of a site: a row reads events and reports, a root statements and its loop, other nodes their loop.
const (
	first = iota
	second
	inputs
)

// site is a row or a node, with logs that it reads in order, each on its own.
type site struct {
	logs     [inputs][]any
	pos      [inputs]int
	row      *freshet.Following
	node     *fanout.Node
	at       fanout.Address // of a node
	account  freshet.Number // of a row
	isRow    bool
	earlier  []*freshet.Following // rows before each step since the last crash
	earlierA [][inputs]int        // and how far the logs had been read
}

// world is rows and trees that send each other messages. Logs are read at any pace, so messages to different keys
// overtake each other.
type world struct {
	*rapid.T
	random *rand.Rand
	tree   fanout.Tree
	sites  map[string]*site
	keys   []string // in the order of creation, for drawing
	wants  map[[2]freshet.Number]bool
	under  int // messages in logs that are not read
}

func newWorld(t *rapid.T) *world {
	w := &world{
		T: t, random: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)),
		tree:  fanout.Tree{PageSize: rapid.IntRange(1, 2).Draw(t, "page size")},
		sites: map[string]*site{}, wants: map[[2]freshet.Number]bool{},
	}
	for account := range freshet.Number(accounts) {
		w.add("row "+account.Key(), &site{isRow: true, account: account})
		w.nodeSite(fanout.Address{Author: account})
	}
	return w
}

func (w *world) add(key string, s *site) *site {
	w.sites[key], w.keys = s, append(w.keys, key)
	return s
}

func (w *world) nodeSite(at fanout.Address) *site {
	if s, ok := w.sites[at.Key()]; ok {
		return s
	}
	return w.add(at.Key(), &site{at: at})
}

func (w *world) rowSite(account freshet.Number) *site { return w.sites["row "+account.Key()] }

func (w *world) send(s *site, input int, m any) {
	s.logs[input] = append(s.logs[input], m)
	w.under++
}

func (w *world) act(offset int64) {
	follower := freshet.Number(w.random.IntN(accounts))
	e := following.Event{Kind: following.Follow, Follower: follower, Offset: offset}
	if w.random.IntN(3) == 0 {
		e.Kind = following.Unfollow
	}
	for range 1 + w.random.IntN(2) {
		target := freshet.Number(w.random.IntN(accounts))
		e.Targets = append(e.Targets, target)
		if target != follower {
			w.wants[[2]freshet.Number{follower, target}] = e.Kind == following.Follow
		}
	}
	w.send(w.rowSite(follower), first, e)
}

func (w *world) step(s *site, input int) bool {
	if s.pos[input] == len(s.logs[input]) {
		return false
	}
	m := s.logs[input][s.pos[input]]
	if s.isRow {
		s.earlier, s.earlierA = append(s.earlier, s.row), append(s.earlierA, s.pos)
	}
	s.pos[input]++
	w.under--
	switch m := m.(type) {
	case following.Event:
		var statements []following.Statement
		s.row, statements = following.Apply(s.row, m)
		w.state(statements)
	case following.AppliedReport:
		var statements []following.Statement
		s.row, statements = following.Report(s.row, m)
		w.state(statements)
	case following.Statement:
		state := fanout.State{Follower: m.Follower, Follows: m.Follows, Version: m.Version}
		var e fanout.Effects
		s.node, e = w.tree.Follower(s.at, s.node, state)
		w.carry(e)
	case fanout.LoopMessage:
		var e fanout.Effects
		s.node, e = w.tree.Loop(s.node, m)
		w.carry(e)
	}
	return true
}

func (w *world) state(statements []following.Statement) {
	for _, statement := range statements {
		w.send(w.nodeSite(fanout.Address{Author: statement.Followee}), first, statement)
	}
}

func (w *world) carry(e fanout.Effects) {
	for _, m := range e.Loop {
		w.send(w.nodeSite(m.To), second, m)
	}
	if r := e.Report; r != nil {
		w.send(w.rowSite(r.Follower), second, following.AppliedReport{
			Follower: r.Follower, Followee: r.Followee, Held: r.Held, Version: r.Version,
		})
	}
}

// fail makes messages come again: from a log that is read again, from a row that is an earlier one, or from a process
// that wakes up and sends what it had in hand long ago.
func (w *world) fail(s *site) {
	input := w.random.IntN(inputs)
	switch what := w.random.IntN(3); {
	case what == 0:
		back := w.random.IntN(s.pos[input] + 1)
		w.under += s.pos[input] - back
		s.pos[input] = back
	case what == 1 && len(s.earlier) > 0:
		i := w.random.IntN(len(s.earlier))
		s.row = s.earlier[i]
		for input := range inputs {
			back := w.random.IntN(min(s.earlierA[i][input], s.pos[input]) + 1)
			w.under += s.pos[input] - back
			s.pos[input] = back
		}
		s.earlier, s.earlierA = nil, nil
	case what == 2 && len(s.logs[input]) > 0:
		if m := s.logs[input][w.random.IntN(len(s.logs[input]))]; !isEvent(m) { // the truth has no such author
			w.send(s, input, m)
		}
	}
}

func isEvent(m any) bool {
	_, ok := m.(following.Event)
	return ok
}

// settle handles messages until there are none, at a random pace.
func (w *world) settle() {
	for left := settleLimit * (w.under + 1); w.under > 0; left-- {
		if left == 0 {
			w.Fatalf("%d messages still under way", w.under)
		}
		for {
			if w.step(w.sites[w.keys[w.random.IntN(len(w.keys))]], w.random.IntN(inputs)) {
				break
			}
		}
	}
}

// places counts the pages on which each follower of the tree is.
func (w *world) places(at fanout.Address, counts map[freshet.Number]int) {
	s, ok := w.sites[at.Key()]
	if !ok || s.node == nil {
		return
	}
	for _, f := range s.node.Followers {
		counts[f]++
	}
	for child := byte(0); child < fanout.Children; child++ {
		if s.node.Opened(child) {
			w.places(at.Child(child), counts)
		}
	}
}

func (w *world) check() {
	for author := range freshet.Number(accounts) {
		held, want := map[freshet.Number]int{}, map[freshet.Number]int{}
		w.places(fanout.Address{Author: author}, held)
		for follower := range freshet.Number(accounts) {
			relation, known := w.rowSite(follower).row.Relation(author)
			follows := w.wants[[2]freshet.Number{follower, author}]
			if follows {
				want[follower] = 1
			}
			if known != follows || known && (!relation.Follows || !relation.Applied) {
				w.Fatalf("%d follows %d: %v; its row says %+v (%v)", follower, author, follows, relation, known)
			}
		}
		if !maps.Equal(held, want) {
			w.Fatalf("the tree of %d holds %v, want %v", author, held, want)
		}
	}
}

func TestRowsAndTreesComeToAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		events, moves := rapid.IntRange(1, 200).Draw(t, "events"), rapid.IntRange(0, 40).Draw(t, "moves between")
		for offset := range int64(events) {
			w.act(offset)
			for range moves {
				s := w.sites[w.keys[w.random.IntN(len(w.keys))]]
				if w.random.IntN(12) == 0 {
					w.fail(s)
				} else {
					w.step(s, w.random.IntN(inputs))
				}
			}
		}
		w.settle()
		w.check()

		// The pass in the background: nodes, from below, put totals right that an old message left wrong; rows say what
		// everyone knows, and nothing comes of it.
		nodes := slices.DeleteFunc(slices.Clone(w.keys), func(key string) bool { return w.sites[key].isRow })
		slices.SortFunc(nodes, func(a, b string) int { return len(b) - len(a) })
		for _, key := range nodes {
			s := w.sites[key]
			var e fanout.Effects
			s.node, e = w.tree.Restate(s.at, s.node, false)
			w.carry(e)
			w.settle()
		}
		for account := range freshet.Number(accounts) {
			s := w.rowSite(account)
			before := s.row
			w.state(following.Restate(account, s.row))
			w.settle()
			if s.row != before {
				t.Fatalf("said again, row %d changed from %+v to %+v", account, before, s.row)
			}
		}
		w.check()
		for author := range freshet.Number(accounts) {
			held := map[freshet.Number]int{}
			w.places(fanout.Address{Author: author}, held)
			if total := w.nodeSite(fanout.Address{Author: author}).node.Total(); total != uint64(len(held)) {
				t.Fatalf("author %d has %d followers, the root counts %d", author, len(held), total)
			}
		}
	})
}
