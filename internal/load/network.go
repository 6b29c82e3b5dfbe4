package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"freshet/internal/graph"
)

// Network is the accounts that a load uses, by their ids.
type Network struct {
	Accounts []string
	// Authors are places in Accounts of those that post, and Followers the places of each one's followers.
	Authors   []int
	Followers map[int][]int
	// made: the accounts have to be registered and the follows made before.
	made bool
}

// Imported is the network of an edge list that has been imported before.
func Imported(g *graph.Graph) *Network {
	n := &Network{Followers: map[int][]int{}}
	for _, id := range g.Accounts {
		n.Accounts = append(n.Accounts, string(id))
	}
	for follower, followee := range g.Edges() {
		n.follow(follower, followee)
	}
	return n
}

func (n *Network) follow(follower, followee int) {
	if len(n.Followers[followee]) == 0 {
		n.Authors = append(n.Authors, followee)
	}
	n.Followers[followee] = append(n.Followers[followee], follower)
}

// Made is a network of so many accounts that follow so many others each. Some are followed by many, most by few (a
// power law). Run registers it.
func Made(accounts, follows int, seed uint64) *Network {
	n := &Network{Followers: map[int][]int{}, made: true}
	for i := range accounts {
		n.Accounts = append(n.Accounts, "load-"+strconv.Itoa(i))
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	popular := rand.NewZipf(rng, 1.2, 10, uint64(accounts-1))
	for follower := range accounts {
		seen := map[int]bool{follower: true}
		for range follows {
			if followee := int(popular.Uint64()); !seen[followee] {
				seen[followee] = true
				n.follow(follower, followee)
			}
		}
	}
	return n
}

func (n *Network) anyone(rng *rand.Rand) string { return n.Accounts[rng.IntN(len(n.Accounts))] }

// put registers a network that was made. What is there already stays.
func (n *Network) put(ctx context.Context, c Config) error {
	if !n.made {
		return nil
	}
	err := each(ctx, c, "register accounts", len(n.Accounts), func(conn *Conn, i int) error {
		_, err := do(ctx, conn, http.MethodPut, "/v1/accounts/"+n.Accounts[i], struct{}{})
		return err
	})
	if err != nil {
		return err
	}
	var pairs [][2]int
	for _, followee := range n.Authors {
		for _, follower := range n.Followers[followee] {
			pairs = append(pairs, [2]int{follower, followee})
		}
	}
	return each(ctx, c, "follow", len(pairs), func(conn *Conn, i int) error {
		path := "/v1/accounts/" + n.Accounts[pairs[i][0]] + "/following/" + n.Accounts[pairs[i][1]]
		_, err := do(ctx, conn, http.MethodPut, path, nil)
		return err
	})
}

// each does something for every number below count, several at a time, until one fails.
func each(ctx context.Context, c Config, stage string, count int, do func(conn *Conn, i int) error) error {
	var next, done atomic.Int64
	g, going := errgroup.WithContext(ctx)
	for range min(c.Workers, 64) {
		g.Go(func() error {
			conn, err := NewConn(c.API)
			if err != nil {
				return err
			}
			defer conn.Close()
			for i := int(next.Add(1) - 1); i < count && going.Err() == nil; i = int(next.Add(1) - 1) {
				if err := do(conn, i); err != nil {
					return fmt.Errorf("%s: %w", stage, err)
				}
				c.Progress(stage, int(done.Add(1)), count)
			}
			return nil
		})
	}
	return errors.Join(g.Wait(), ctx.Err())
}
