package fanout

import (
	"fmt"
	"slices"
	"strings"

	"freshet"
)

const (
	// Children is how many children a node can have.
	Children = 8
	// MaxDepth is the length of the longest path. A path takes three bits a level of a 64-bit hash, so a node at this
	// depth has no children and takes every follower that reaches it. The hash is a bijection: no more than two numbers
	// can share all 63 bits of a path, so such a node stays tiny.
	MaxDepth = 21

	branchBits = 3
)

// Address names a node: the author whose followers the tree holds, and the branches taken from the root, each below
// Children. An empty path is the root. A Path that is shared is not changed.
type Address struct {
	Author freshet.Number
	Path   []byte
}

// ParseAddress reads what Key wrote and nothing else: an author's number and at most MaxDepth branches.
func ParseAddress(key string) (Address, error) {
	head, rest, below := strings.Cut(key, "/")
	author, err := freshet.ParseNumber(head)
	if err != nil {
		return Address{}, fmt.Errorf("node key %q: %w", key, err)
	}
	if !below {
		return Address{Author: author}, nil
	}
	// Branches are one digit each, so a path of n branches is 2n-1 bytes long.
	if len(rest)%2 == 0 || len(rest)/2+1 > MaxDepth {
		return Address{}, fmt.Errorf("node key %q: want an author's number and up to %d branches", key, MaxDepth)
	}
	path := make([]byte, 0, len(rest)/2+1)
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		switch {
		case i%2 == 1 && c == '/':
		case i%2 == 0 && c >= '0' && c < '0'+Children:
			path = append(path, c-'0')
		default:
			return Address{}, fmt.Errorf("node key %q: want branches from 0 to %d, got %q", key, Children-1, c)
		}
	}
	return Address{Author: author, Path: path}, nil
}

// Key is the node's key in the group's table and loop.
func (a Address) Key() string { return freshet.NodeKey(a.Author, a.Path) }

// Root says whether the node has no parent.
func (a Address) Root() bool { return len(a.Path) == 0 }

// Child is the address one branch further down.
func (a Address) Child(branch byte) Address {
	path := make([]byte, len(a.Path)+1)
	copy(path, a.Path)
	path[len(a.Path)] = branch
	return Address{Author: a.Author, Path: path}
}

// Parent is the address one branch up, and the branch that leads back. The root has no parent.
func (a Address) Parent() (parent Address, branch byte, ok bool) {
	if a.Root() {
		return Address{}, 0, false
	}
	last := len(a.Path) - 1
	return Address{Author: a.Author, Path: slices.Clone(a.Path[:last])}, a.Path[last], true
}

// Branch is the child of this node on the follower's path; false at MaxDepth, where there are no children.
func (a Address) Branch(follower freshet.Number) (branch byte, ok bool) {
	depth := len(a.Path)
	if depth >= MaxDepth {
		return 0, false
	}
	return byte(mix(uint64(follower))>>(branchBits*depth)) % Children, true
}

// mix spreads neighbouring numbers over the whole range (the finalizer of SplitMix64, one to one). Where a follower is
// kept depends on it, so it never changes.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
