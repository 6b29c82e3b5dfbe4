package fanout

import (
	"math/rand/v2"
	"slices"

	"pgregory.net/rapid"

	"freshet"
)

// The logs that a node reads. Only the root reads those of follows and posts.
const (
	fromFollows = iota
	fromPosts
	fromLoop
	logs
)

// input is a log that a node reads in order.
type input struct {
	messages  []message
	pos       int // read up to here
	committed int // a restart may go back to here, not further
}

type message struct {
	LoopMessage
	kind   freshet.PostEventKind // of a message in posts
	offset int
}

// pending is an effect that a crash would lose. What caused it isn't committed before it got out.
type pending struct {
	from, offset int // the message of the input that caused it
	to           string
	message      message
	delivery     *Delivery
}

// row is a state of a node that may be what a crash leaves, and how far each input had been read then.
type row struct {
	node *Node
	at   [logs]int
}

type site struct {
	node    *Node
	inputs  [logs]input
	rows    []row
	pending []pending
	hold    int // follows up to here come before everything else, since the last restart
}

// network is the tree of one author: nodes with logs, messages from one node to another in order, all else as it comes.
type network struct {
	rapid.TB
	random  *rand.Rand
	tree    Tree
	keys    []string // in the order of creation, for drawing
	sites   map[string]*site
	decided map[freshet.PostID][]freshet.Number // whom each post was for when the root last decided on it
	got     map[freshet.PostID]map[freshet.Number]int
}

func newNetwork(t rapid.TB, pageSize int, seed uint64) *network {
	n := &network{
		TB: t, random: rand.New(rand.NewPCG(seed, 0)), tree: Tree{PageSize: pageSize}, sites: map[string]*site{},
		decided: map[freshet.PostID][]freshet.Number{}, got: map[freshet.PostID]map[freshet.Number]int{},
	}
	n.site(root.Key())
	return n
}

// pick draws evenly from low to high; rapid's own draws prefer small numbers.
func (n *network) pick(low, high int) int { return low + n.random.IntN(high-low+1) }

func (n *network) site(key string) *site {
	if s, ok := n.sites[key]; ok {
		return s
	}
	s := &site{rows: []row{{}}}
	n.sites[key] = s
	n.keys = append(n.keys, key)
	return s
}

// follow and post write to the root's inputs.
func (n *network) follow(s State) {
	in := &n.site(root.Key()).inputs[fromFollows]
	in.messages = append(in.messages, message{LoopMessage: LoopMessage{To: root, Kind: LoopFollower, State: s}})
}

func (n *network) post(id freshet.PostID) {
	in := &n.site(root.Key()).inputs[fromPosts]
	in.messages = append(in.messages, message{
		LoopMessage: LoopMessage{To: root, Kind: LoopDeliver, Post: id}, kind: freshet.PostCreated, offset: len(in.messages),
	})
}

// following is who follows after the first count messages of follows.
func (n *network) following(count int) []freshet.Number {
	var set []freshet.Number
	for _, m := range n.sites[root.Key()].inputs[fromFollows].messages[:count] {
		i, ok := slices.BinarySearch(set, m.State.Follower)
		switch {
		case m.State.Follows && !ok:
			set = slices.Insert(set, i, m.State.Follower)
		case !m.State.Follows && ok:
			set = slices.Delete(set, i, i+1)
		}
	}
	return set
}

// step handles the next message of an input, and says whether there was one to handle.
func (n *network) step(key string, from int) bool {
	s := n.sites[key]
	in := &s.inputs[from]
	if in.pos == len(in.messages) || from != fromFollows && s.inputs[fromFollows].pos < s.hold {
		return false
	}
	m := in.messages[in.pos]
	var all []Effects
	before, copied := s.node, s.node.clone()
	if from == fromPosts {
		n.decided[m.Post] = n.following(s.inputs[fromFollows].pos)
		var e Effects
		s.node, e = n.tree.Post(author, s.node, event(m.kind, m.Post), int64(m.offset))
		all = append(all, e)
	}
	next, e := n.tree.Loop(s.node, m.LoopMessage)
	s.node = next
	all = append(all, e)
	if before != nil && (!slices.Equal(before.Followers, copied.Followers) || before.Open != copied.Open ||
		before.Subtotals != copied.Subtotals || before.Reported != copied.Reported) {
		n.Fatalf("%s: a rule changed the node that it was given", key)
	}
	for _, e := range all {
		for _, l := range e.Loop {
			s.pending = append(s.pending, pending{from: from, offset: in.pos, to: l.To.Key(), message: message{LoopMessage: l}})
		}
		if e.Deliver != nil {
			s.pending = append(s.pending, pending{from: from, offset: in.pos, delivery: e.Deliver})
		}
	}
	in.pos++
	at := row{node: s.node}
	for i := range s.inputs {
		at.at[i] = s.inputs[i].pos
	}
	s.rows = append(s.rows, at)
	return true
}

// send lets the first effects of a node that go to one place out, at most limit, in their order.
func (n *network) send(key, to string, limit int) {
	s := n.sites[key]
	var kept []pending
	for _, p := range s.pending {
		if p.to != to || limit == 0 {
			kept = append(kept, p)
			continue
		}
		limit--
		if p.delivery == nil {
			in := &n.site(p.to).inputs[fromLoop]
			in.messages = append(in.messages, p.message)
			continue
		}
		if n.got[p.delivery.Post] == nil {
			n.got[p.delivery.Post] = map[freshet.Number]int{}
		}
		for _, f := range p.delivery.Followers {
			n.got[p.delivery.Post][f]++
		}
	}
	s.pending = kept
}

// again goes back in the inputs, but no further than to what is committed, with the state and all effects kept.
func (n *network) again(key string) {
	s := n.sites[key]
	for i := range s.inputs {
		in := &s.inputs[i]
		in.pos = n.pick(in.committed, in.pos)
	}
	s.restarted()
}

// crash loses the effects that did not get out and goes back to an earlier row, and in the inputs to anywhere before
// that row and before the first effect lost.
func (n *network) crash(key string) {
	s := n.sites[key]
	r := s.rows[n.pick(0, len(s.rows)-1)]
	s.node = r.node
	for i := range s.inputs {
		in := &s.inputs[i]
		limit := r.at[i]
		for _, p := range s.pending {
			if p.from == i {
				limit = min(limit, p.offset)
			}
		}
		in.committed = n.pick(in.committed, max(limit, in.committed))
		in.pos = in.committed
	}
	s.pending = nil
	s.rows = []row{{node: s.node}}
	for i := range s.inputs {
		s.rows[0].at[i] = s.inputs[i].pos
	}
	s.restarted()
}

func (s *site) restarted() { s.hold = len(s.inputs[fromFollows].messages) }

// move makes one thing happen.
func (n *network) move(failures ...func(key string)) {
	key := n.keys[n.pick(0, len(n.keys)-1)]
	s := n.sites[key]
	what := n.pick(0, 19)
	switch {
	case what < 8:
		n.step(key, n.pick(0, logs-1))
	case what < 19 && len(s.pending) > 0:
		to := s.pending[n.pick(0, len(s.pending)-1)].to
		n.send(key, to, n.pick(1, 3))
	case what == 19 && len(failures) > 0:
		failures[n.pick(0, len(failures)-1)](key)
	}
}

// settle lets everything happen until nothing is left to do.
func (n *network) settle() {
	for busy, rounds := true, 0; busy; rounds++ {
		if rounds > 10_000 {
			n.Fatalf("not settled after %d rounds", rounds)
		}
		busy = false
		for i := 0; i < len(n.keys); i++ { // keys are added meanwhile
			for from := range logs {
				busy = n.step(n.keys[i], from) || busy
			}
			for s := n.sites[n.keys[i]]; len(s.pending) > 0; {
				n.send(n.keys[i], s.pending[0].to, -1)
			}
		}
	}
}

// reachable lists the followers of the subtree, one entry for each page that holds one, and checks that all are on
// their paths and that totals are right.
func (n *network) reachable(at Address) []freshet.Number {
	s, ok := n.sites[at.Key()]
	if !ok || s.node == nil {
		return nil
	}
	found := slices.Clone(s.node.Followers)
	for child := byte(0); child < Children; child++ {
		if !s.node.Opened(child) {
			continue
		}
		below := n.reachable(at.Child(child))
		for _, f := range below {
			if branch, _ := at.Branch(f); branch != child {
				n.Fatalf("%s: %d is below child %d, its path goes by %d", at.Key(), f, child, branch)
			}
		}
		found = append(found, below...)
	}
	if s.node.Total() != uint64(len(found)) {
		n.Fatalf("%s: total %d, holds %d: %+v", at.Key(), s.node.Total(), len(found), s.node)
	}
	slices.Sort(found)
	return found
}
