package bench

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"

	"freshet"
	"freshet/internal/graph"
	"freshet/processors/fanout"
)

// network is who follows whom. Accounts are 0 to count-1; their numbers are those of as many registrations, spread over
// the partitions.
type network struct {
	count      int
	partitions int32
	authors    []author
	placed     bool // its rows are in the tables
}

type author struct {
	number    freshet.Number
	followers []freshet.Number
}

// number is the number of the account at a place.
func (n *network) number(place int) freshet.Number {
	return freshet.NumberAt(int32(place)%n.partitions, int64(place/int(n.partitions)))
}

// id is the name of the account at a place.
func (n *network) id(place int) freshet.AccountID {
	return freshet.AccountID(fmt.Sprintf("bench-%d", place))
}

// place is the inverse of number.
func (n *network) place(number freshet.Number) int {
	const offsetBits = 40
	return int(uint64(number)&(1<<offsetBits-1))*int(n.partitions) + int(number>>offsetBits)
}

// without is the authors but for one.
func (n *network) without(number freshet.Number) []author {
	return slices.DeleteFunc(slices.Clone(n.authors), func(a author) bool { return a.number == number })
}

// edges is how many follows there are.
func (n *network) edges() int {
	edges := 0
	for _, a := range n.authors {
		edges += len(a.followers)
	}
	return edges
}

func (c Config) random() *rand.Rand { return rand.New(rand.NewPCG(c.Seed, 7)) }

// makeNetwork draws a network, or reads it; an edge list says how many accounts and authors there are.
func (b *bench) makeNetwork() (*network, error) {
	if b.Distribution != Uniform && b.Distribution != PowerLaw {
		return b.readNetwork()
	}
	n := &network{count: b.Accounts, partitions: b.Partitions}
	rng := b.random()
	for i, count := range b.audiences() {
		// Authors are spread over the accounts, so that their outboxes are.
		a := author{number: n.number(int(int64(i) * int64(b.Accounts) / int64(b.Authors)))}
		a.followers = n.draw(rng, count, a.number)
		n.authors = append(n.authors, a)
	}
	return n, nil
}

// audiences is how many followers each author has. With a power law the author of rank r has about r^-0.8 times as many
// as the first, as in the follower graphs of public networks, and Followers on average.
func (b *bench) audiences() []int {
	counts := make([]int, b.Authors)
	sum := 0.0
	for i := range counts {
		sum += math.Pow(float64(i+1), -0.8)
	}
	for i := range counts {
		counts[i] = b.Followers
		if b.Distribution == PowerLaw {
			share := math.Pow(float64(i+1), -0.8) / sum
			counts[i] = min(max(1, int(share*float64(b.Followers)*float64(b.Authors))), b.Accounts-1)
		}
	}
	return counts
}

// draw picks that many different accounts, not the author.
func (n *network) draw(rng *rand.Rand, count int, not freshet.Number) []freshet.Number {
	if count >= n.count/2 { // picking at random would take long to find the last ones
		all := make([]freshet.Number, 0, n.count)
		for _, place := range rng.Perm(n.count) {
			if number := n.number(place); number != not && len(all) < count {
				all = append(all, number)
			}
		}
		return all
	}
	seen := make(map[freshet.Number]bool, count)
	followers := make([]freshet.Number, 0, count)
	for len(followers) < count {
		number := n.number(rng.IntN(n.count))
		if number != not && !seen[number] {
			seen[number] = true
			followers = append(followers, number)
		}
	}
	return followers
}

func (b *bench) readNetwork() (*network, error) {
	file, err := os.Open(b.Distribution)
	if err != nil {
		return nil, fmt.Errorf("--distribution: want %s, %s or a file with an edge list: %w", Uniform, PowerLaw, err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	g, _, err := graph.Read(file)
	if err != nil {
		return nil, fmt.Errorf("--distribution %s: %w", b.Distribution, err)
	}
	n := &network{count: len(g.Accounts), partitions: b.Partitions}
	followers := map[int][]freshet.Number{}
	for follower, followee := range g.Edges() {
		followers[followee] = append(followers[followee], n.number(follower))
	}
	for place, list := range followers {
		n.authors = append(n.authors, author{n.number(place), list})
	}
	slices.SortFunc(n.authors, func(a, b author) int { return cmp.Compare(a.number, b.number) })
	b.Accounts, b.Authors = n.count, len(n.authors)
	b.Followers = n.edges() / max(1, len(n.authors))
	return n, nil
}

// tree is the rows of an author's followers: what the rules of package fanout make of followers that come one after
// another. A page takes the first that come, and each later one goes to the child on its path.
func tree(at fanout.Address, followers []freshet.Number, each func(fanout.Address, *fanout.Node)) uint64 {
	node := &fanout.Node{Followers: slices.Clone(followers[:min(len(followers), fanout.DefaultPageSize)])}
	slices.Sort(node.Followers)
	var children [fanout.Children][]freshet.Number
	for _, follower := range followers[len(node.Followers):] {
		child, _ := at.Branch(follower)
		children[child] = append(children[child], follower)
	}
	for child, list := range children {
		if len(list) > 0 {
			node.Open |= 1 << child
			node.Subtotals[child] = tree(at.Child(byte(child)), list, each)
		}
	}
	if !at.Root() {
		node.Reported = node.Total()
	}
	each(at, node)
	return node.Total()
}
