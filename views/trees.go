package views

import (
	"fmt"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/processors/fanout"
)

// Trees is a copy of the follower trees of all authors, for whoever compares them with the rows of Following. No reader
// needs it. It is safe for concurrent use.
type Trees struct{ *table }

// NewTrees opens the view; the caller runs it.
func NewTrees(brokers []string, names freshet.Names, settings kafka.ViewSettings) (*Trees, error) {
	t, err := openTable(brokers, names.Table(freshet.FanoutGroup), kafka.Codec[events.TreeNode, *events.TreeNode]{}, nil,
		settings)
	if err != nil {
		return nil, err
	}
	return &Trees{t}, nil
}

// All goes over the nodes of all trees, in no order that means anything, until visit returns an error, which it then
// returns.
func (t *Trees) All(visit func(fanout.Address, *fanout.Node) error) error {
	return t.each(func(key string, row any) error {
		at, err := fanout.ParseAddress(key)
		if err != nil {
			return err
		}
		node, err := decodeNode(key, row)
		if err != nil {
			return err
		}
		return visit(at, node)
	})
}

// Node is the node at an address, nil if there is none.
func (t *Trees) Node(at fanout.Address) (*fanout.Node, error) {
	row, err := t.row(at.Key())
	if row == nil || err != nil {
		return nil, err
	}
	return decodeNode(at.Key(), row)
}

// Holds says whether the author's tree holds the follower, on any page of the follower's path.
func (t *Trees) Holds(author, follower freshet.Number) (bool, error) {
	at := fanout.Address{Author: author}
	for {
		node, err := t.Node(at)
		if node == nil || err != nil {
			return false, err
		}
		if node.Holds(follower) {
			return true, nil
		}
		child, deeper := at.Branch(follower)
		if !deeper || !node.Opened(child) {
			return false, nil
		}
		at = at.Child(child)
	}
}

// Followers is everyone whom the author's tree holds, page after page; one that is on two pages comes twice.
func (t *Trees) Followers(author freshet.Number) ([]freshet.Number, error) {
	var all []freshet.Number
	for rest := []fanout.Address{{Author: author}}; len(rest) > 0; {
		at := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		node, err := t.Node(at)
		if err != nil {
			return nil, err
		}
		if node == nil {
			continue
		}
		all = append(all, node.Followers...)
		for child := byte(0); child < fanout.Children && len(at.Path) < fanout.MaxDepth; child++ {
			if node.Opened(child) {
				rest = append(rest, at.Child(child))
			}
		}
	}
	return all, nil
}

func decodeNode(key string, row any) (*fanout.Node, error) {
	message, ok := row.(*events.TreeNode)
	if !ok {
		return nil, fmt.Errorf("the row %q of the trees: the codec made a %T", key, row)
	}
	node, err := fanout.DecodeNode(message)
	if err != nil {
		return nil, fmt.Errorf("the row %q of the trees: %w", key, err)
	}
	return node, nil
}
