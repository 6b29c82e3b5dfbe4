// Package graph brings a follower graph, an edge list in a file, into freshet: accounts and follows are written to
// Kafka like those of the API.
//
// An import may be repeated. What is there already is left out, so a second run writes nothing, and one that was
// interrupted is completed by running it again.
//
//	graph.go     the graph in memory
//	read.go      the edge list: text or gzip in, graph and bad lines out
//	import.go    the import: register, follow, wait
//	register.go  accounts and their numbers
//	progress.go  what it waits for: writes, and rows of tables
//	tables.go    the views that tell what is there already, and what has arrived
package graph

import (
	"iter"
	"slices"

	"freshet"
)

// Graph is who follows whom: eight bytes for each follow, and each account's id once.
type Graph struct {
	// Accounts are in the order in which the file names them first.
	Accounts []freshet.AccountID
	// Repeated is how many lines said again what an earlier line had said.
	Repeated int
	edges    []edge // sorted, each once
}

// edge names accounts by their places in Graph.Accounts.
type edge struct{ follower, followee uint32 }

func compareEdges(a, b edge) int {
	switch {
	case a.follower != b.follower && a.follower < b.follower, a.follower == b.follower && a.followee < b.followee:
		return -1
	case a == b:
		return 0
	}
	return 1
}

// Follows is how many follows there are.
func (g *Graph) Follows() int { return len(g.edges) }

// Edges yields each follow: the places of follower and followee in Accounts.
func (g *Graph) Edges() iter.Seq2[int, int] {
	return func(yield func(follower, followee int) bool) {
		for _, e := range g.edges {
			if !yield(int(e.follower), int(e.followee)) {
				return
			}
		}
	}
}

// followers yields each account that follows others, with these follows.
func (g *Graph) followers() iter.Seq2[uint32, []edge] {
	return func(yield func(uint32, []edge) bool) {
		for rest := g.edges; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].follower == rest[0].follower {
				n++
			}
			if !yield(rest[0].follower, rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// builder makes a Graph of lines.
type builder struct {
	graph  Graph
	places map[freshet.AccountID]uint32
}

func newBuilder() *builder { return &builder{places: map[freshet.AccountID]uint32{}} }

func (b *builder) add(follower, followee freshet.AccountID) {
	b.graph.edges = append(b.graph.edges, edge{b.place(follower), b.place(followee)})
}

func (b *builder) place(id freshet.AccountID) uint32 {
	place, ok := b.places[id]
	if !ok {
		place = uint32(len(b.graph.Accounts))
		b.places[id] = place
		b.graph.Accounts = append(b.graph.Accounts, id)
	}
	return place
}

func (b *builder) build() *Graph {
	g := b.graph
	lines := len(g.edges)
	slices.SortFunc(g.edges, compareEdges)
	g.edges = slices.Compact(g.edges)
	g.Repeated = lines - len(g.edges)
	return &g
}
