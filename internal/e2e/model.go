// Package e2e holds the program against the definition of a feed, from outside: tests start the real binary as a child
// process, work on it over HTTP from several clients at once, break it, and compare what every account reads with a
// model.
//
//	model.go             the definition: who reads what, in a few dozen lines
//	ledger_test.go       what clients have been told so far, and so what no page may show any more
//	process_test.go      the child process: start, kill, stop
//	api_test.go          requests and lists
//	run_test.go          the phases of a random test
//	clients_test.go      clients, several at once
//	operations_test.go   what clients do
//	readers_test.go      reads that go on while everything else happens
//	compare_test.go      quiet points: every list of every account against the model
//	faults_test.go       what is broken on purpose, each with the proof that it was
//	lost_test.go         operations whose answer a killed process took with it
//	dense_test.go        a few accounts that do everything to each other, under every fault
//	powerlaw_test.go     thousands of accounts, one that all follow and one that follows hundreds
//	tiers_test.go        an author that is pulled, and not, and pulled again
//	losses_test.go       deletes that Redis has forgotten
//	abuse_test.go        what a caller may send, and not send, and the memory that it takes
//	command_test.go      what somebody who types the command sees
//	poison_test.go       records that nobody can read
//	deployment_real_test.go   every role as a process of its own, on real servers (build tag real)
//	faults_real_test.go       processes, brokers, Redis and Cassandra that are killed, stand still, or refuse
//	crashes_real_test.go      processes that kill themselves where it hurts most
//	moved_real_test.go        a fourth broker, and partitions that move to it
//	cluster_real_test.go      a Redis cluster: zones that move, a node that fails over without its last writes
//	backlog_real_test.go      no fan-out for a while; many posts at once
//	network_real_test.go      networks that are slow, silent or cut; proxy_real_test.go is what does it
//	secured_real_test.go      TLS and passwords
//	removed_test.go           records that Kafka removes before they were processed; removed_real_test.go, too
//	misdelivered_test.go      a fan-out that delivers wrongly: found, and repaired while everything goes on
//	counts_test.go            counts, and where wrong ones come from
//
// Variables of the environment: FRESHET_E2E_SEED repeats the operations of a run (their order among clients stays the
// scheduler's), FRESHET_E2E_ROUNDS is how often the random tests go through their faults, FRESHET_E2E_WORK how many
// times as much TestDense does in each, and how many times as large the network of TestPowerLaw is, FRESHET_E2E_RACE=1
// builds the child with the race detector; on real servers FRESHET_E2E_STOP is for how many seconds fan-out is
// stopped, FRESHET_E2E_RATE how many posts a second come meanwhile, and FRESHET_E2E_SPIKE how many posts come at once.
package e2e

import (
	"cmp"
	"slices"
)

// Account is an account from its registration to its end. Who registers the id of a closed account gets another
// Account.
type Account struct {
	ID     string
	Closed bool
}

// Post is a post that was acknowledged.
type Post struct {
	ID      uint64
	Author  *Account
	Text    string
	Deleted bool
}

// Relation is what an account has to another.
type Relation int

// The relations.
const (
	Follows Relation = iota
	Mutes
	Blocks
	relations
)

// Pair is two accounts, in this direction.
type Pair struct{ Who, Whom *Account }

// World is the state of the service as the definition of a feed sees it.
type World struct {
	Accounts []*Account
	Posts    []*Post
	related  [relations]map[Pair]bool
}

// Set says whether who has the relation to whom.
func (w *World) Set(r Relation, who, whom *Account, on bool) {
	if w.related[r] == nil {
		w.related[r] = map[Pair]bool{}
	}
	if on {
		w.related[r][Pair{who, whom}] = true
	} else {
		delete(w.related[r], Pair{who, whom})
	}
}

// Has says whether who has the relation to whom.
func (w *World) Has(r Relation, who, whom *Account) bool { return w.related[r][Pair{who, whom}] }

// Feed is the reader's home feed: its own posts and those of the accounts that it follows, newest first, without what
// is deleted, and without authors that it mutes or blocks, that block it, or that have closed their accounts.
func (w *World) Feed(reader *Account) []uint64 {
	return w.list(func(p *Post) bool {
		a := p.Author
		return a == reader || w.Has(Follows, reader, a) && !w.Has(Mutes, reader, a) &&
			!w.Has(Blocks, reader, a) && !w.Has(Blocks, a, reader)
	})
}

// Profile is the posts of an account, newest first.
func (w *World) Profile(author *Account) []uint64 {
	return w.list(func(p *Post) bool { return p.Author == author })
}

func (w *World) list(in func(*Post) bool) []uint64 {
	var ids []uint64
	for _, p := range w.Posts {
		if !p.Deleted && !p.Author.Closed && in(p) {
			ids = append(ids, p.ID)
		}
	}
	slices.SortFunc(ids, func(a, b uint64) int { return cmp.Compare(b, a) })
	return ids
}

// Lists is, for every account, the open accounts to which it has the relation, and those that have it to the account,
// sorted by id.
func (w *World) Lists(r Relation) (of, to map[*Account][]string) {
	of, to = map[*Account][]string{}, map[*Account][]string{}
	for pair := range w.related[r] {
		if !pair.Whom.Closed {
			of[pair.Who] = append(of[pair.Who], pair.Whom.ID)
		}
		if !pair.Who.Closed {
			to[pair.Whom] = append(to[pair.Whom], pair.Who.ID)
		}
	}
	for _, lists := range []map[*Account][]string{of, to} {
		for _, list := range lists {
			slices.Sort(list)
		}
	}
	return of, to
}

// Counts is how many accounts each account follows, and how many follow it. Unlike in the lists, closed accounts count:
// nobody has ended their follows.
func (w *World) Counts() (following, followers map[*Account]int) {
	following, followers = map[*Account]int{}, map[*Account]int{}
	for pair := range w.related[Follows] {
		following[pair.Who]++
		followers[pair.Whom]++
	}
	return following, followers
}
