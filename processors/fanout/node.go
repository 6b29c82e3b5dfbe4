package fanout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"freshet"
	"freshet/internal/events"
)

// Node is a page of an author's followers and what its children have told it. The rules never change a Node that they
// are given; they return a new one. A nil *Node is a page on which nothing has happened yet.
type Node struct {
	// Followers is the page, sorted.
	Followers []freshet.Number
	// Open has one bit for each child that has been opened. Children are never closed.
	Open byte
	// Subtotals is how many followers each child last said that its subtree holds.
	Subtotals [Children]uint64
	// Reported is what this node last told its parent; 0 at the root.
	Reported uint64
	// Posts counts the author's posts, and NextPost is the offset in the posts topic below which they are counted. Both
	// are kept at the root only.
	Posts    uint64
	NextPost int64
	// Deleted is the posts whose deletes were counted last, at most rememberedDeletes, the latest at the end; kept at the
	// root only. It is never changed in place.
	Deleted []freshet.PostID
	Tier    Tier // kept at the root only
}

// Total is how many followers the subtree holds, as far as the node has been told.
func (n *Node) Total() uint64 {
	if n == nil {
		return 0
	}
	total := uint64(len(n.Followers))
	for _, subtotal := range n.Subtotals {
		total += subtotal
	}
	return total
}

// Holds says whether the follower is on this page.
func (n *Node) Holds(follower freshet.Number) bool {
	if n == nil {
		return false
	}
	_, ok := slices.BinarySearch(n.Followers, follower)
	return ok
}

// Opened says whether the child has been opened.
func (n *Node) Opened(child byte) bool { return n != nil && n.Open>>child&1 == 1 }

func (n *Node) size() int {
	if n == nil {
		return 0
	}
	return len(n.Followers)
}

// clone is a copy that shares nothing; that of nil is an empty node. The page gets room for one follower more.
func (n *Node) clone() *Node {
	if n == nil {
		return &Node{}
	}
	c := *n
	c.Followers = append(make([]freshet.Number, 0, len(n.Followers)+1), n.Followers...)
	return &c
}

func (n *Node) with(follower freshet.Number) *Node {
	c := n.clone()
	i, ok := slices.BinarySearch(c.Followers, follower)
	if !ok {
		c.Followers = slices.Insert(c.Followers, i, follower)
	}
	return c
}

func (n *Node) without(follower freshet.Number) *Node {
	c := n.clone()
	if i, ok := slices.BinarySearch(c.Followers, follower); ok {
		c.Followers = slices.Delete(c.Followers, i, i+1)
	}
	return c
}

func (n *Node) opening(child byte) *Node {
	c := n.clone()
	c.Open |= 1 << child
	return c
}

// ErrNode is wrapped by the errors of DecodeNode.
var ErrNode = errors.New("not a node of a follower tree")

// EncodeNode is the node as its table row: one to three bytes for a follower whose neighbour on the page is near.
func EncodeNode(n *Node) *events.TreeNode {
	if n == nil {
		return &events.TreeNode{}
	}
	row := &events.TreeNode{
		Open: uint32(n.Open), Reported: n.Reported, Posts: n.Posts, NextPost: n.NextPost,
		Pull: n.Tier.Pull, EverPull: n.Tier.Ever, Merged: n.Tier.Merged,
	}
	if n.Subtotals != [Children]uint64{} {
		row.Subtotals = slices.Clone(n.Subtotals[:])
	}
	for _, post := range n.Deleted {
		row.Deleted = append(row.Deleted, uint64(post))
	}
	if len(n.Followers) > 0 {
		page := make([]byte, 0, 3*len(n.Followers)+binary.MaxVarintLen64)
		last := freshet.Number(0)
		for _, follower := range n.Followers {
			page = binary.AppendUvarint(page, uint64(follower-last))
			last = follower
		}
		row.Followers = page
	}
	return row
}

// DecodeNode reads what EncodeNode wrote. Anything that no node can be is refused: followers that are not sorted, twice
// the same one, numbers past 2^63-1, more than eight children.
func DecodeNode(row *events.TreeNode) (*Node, error) {
	n := &Node{
		Reported: row.GetReported(), Posts: row.GetPosts(), NextPost: row.GetNextPost(),
		Tier: Tier{Pull: row.GetPull(), Ever: row.GetEverPull(), Merged: row.GetMerged()},
	}
	if row.GetOpen() > math.MaxUint8 {
		return nil, fmt.Errorf("%w: open children %#x: want %d bits", ErrNode, row.GetOpen(), Children)
	}
	n.Open = byte(row.GetOpen())
	switch len(row.GetSubtotals()) {
	case 0:
	case Children:
		copy(n.Subtotals[:], row.GetSubtotals())
	default:
		return nil, fmt.Errorf("%w: %d subtotals: want none or %d", ErrNode, len(row.GetSubtotals()), Children)
	}
	if n.NextPost < 0 {
		return nil, fmt.Errorf("%w: next post %d: want an offset", ErrNode, n.NextPost)
	}
	for _, post := range row.GetDeleted() {
		n.Deleted = append(n.Deleted, freshet.PostID(post))
	}
	var err error
	if n.Followers, err = decodePage(row.GetFollowers()); err != nil {
		return nil, err
	}
	return n, nil
}

func decodePage(page []byte) ([]freshet.Number, error) {
	if len(page) == 0 {
		return nil, nil
	}
	count := 0
	for _, b := range page {
		if b < 0x80 { // the last byte of a varint
			count++
		}
	}
	followers := make([]freshet.Number, 0, count)
	last := uint64(0)
	for rest := page; len(rest) > 0; {
		difference, size := binary.Uvarint(rest)
		if size <= 0 {
			return nil, fmt.Errorf("%w: follower %d: a broken varint", ErrNode, len(followers))
		}
		if difference == 0 && len(followers) > 0 {
			return nil, fmt.Errorf("%w: follower %d is on the page twice", ErrNode, last)
		}
		if difference > math.MaxInt64-last {
			return nil, fmt.Errorf("%w: follower %d: a number past 2^63-1", ErrNode, len(followers))
		}
		last += difference
		followers = append(followers, freshet.Number(last))
		rest = rest[size:]
	}
	return followers, nil
}
