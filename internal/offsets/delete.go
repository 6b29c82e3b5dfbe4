package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Deletion is what is forgotten of a group.
type Deletion struct {
	Group string `json:"group"`
	// Whole: the group is removed. Else it stays, without what it has committed in these partitions.
	Whole   bool     `json:"whole"`
	Meaning string   `json:"meaning"`
	Members []Member `json:"members"`
	// Offsets are what is committed, which is forgotten.
	Offsets []Row `json:"offsets"`
}

var errMembers = errors.New("it has members, and only a group that has none can be deleted; stop its processes")

// PlanDelete looks up what would be forgotten. Without a scope it is the whole group, one that freshet does not know as
// well: the error wraps ErrUnknown if there is none of that name.
func (c *Cluster) PlanDelete(ctx context.Context, name string, scope *Scope) (Deletion, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	if scope != nil {
		name = scope.Group()
	}
	found, err := c.find(ctx, name)
	if err != nil {
		return Deletion{}, err
	}
	g, err := c.group(ctx, found[0])
	if err != nil {
		return Deletion{}, err
	}
	d := Deletion{Group: g.Name, Whole: scope == nil, Members: g.Members, Offsets: []Row{},
		Meaning: "whatever it is, it will not know where it was"}
	if known, ok := consumerOf(c.names, g.Name); ok {
		d.Meaning = "when it is started it begins with the first record that is kept: " + known.Again
	}
	for _, t := range g.Topics {
		for _, s := range t.Partitions {
			if s.Committed != Nothing && (scope == nil || scope.holds(t.Name, s.Partition)) {
				d.Offsets = append(d.Offsets, Row{g.Name, t.Name, s.Partition, s.Committed})
			}
		}
	}
	return d, nil
}

func (s Scope) holds(topic string, partition int32) bool {
	return slices.ContainsFunc(s.parts, func(p part) bool {
		return p.topic == topic && (len(p.partitions) == 0 || slices.Contains(p.partitions, partition))
	})
}

// ExecuteDelete carries a deletion out, after undo was given what is forgotten, and reads back that it is. The error is
// a *LiveError for a group with members and a *ChangedError for one that stands elsewhere by now; nothing was deleted
// then.
func (c *Cluster) ExecuteDelete(ctx context.Context, d Deletion, undo func(before []Row) error) error {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	g, err := c.group(ctx, d.Group)
	if err != nil {
		return err
	}
	if len(g.Members) > 0 {
		return &LiveError{Group: d.Group, Members: g.Members, Reason: errMembers}
	}
	for _, row := range d.Offsets {
		if at := g.committed(row.Topic, row.Partition); at != row.Offset {
			return &ChangedError{d.Group, fmt.Sprintf("it stood at %d in %s/%d, and now at %s", row.Offset, row.Topic,
				row.Partition, orDash(at))}
		}
	}
	if err := undo(d.Offsets); err != nil {
		return fmt.Errorf("nothing was deleted, because there would be no way back: %w", err)
	}
	if d.Whole {
		if _, err := c.adm.DeleteGroup(ctx, d.Group); err != nil {
			return fmt.Errorf("delete group %s: %w", d.Group, err)
		}
	} else if err := c.forget(ctx, d); err != nil {
		return err
	}
	if g, err = c.group(ctx, d.Group); err != nil {
		return fmt.Errorf("deleted, but not read back: %w", err)
	}
	for _, row := range d.Offsets {
		if at := g.committed(row.Topic, row.Partition); at != Nothing {
			return fmt.Errorf("group %s: its offset in %s/%d was deleted, and it is at %d now: has it been started meanwhile?",
				d.Group, row.Topic, row.Partition, at)
		}
	}
	return nil
}

func (c *Cluster) forget(ctx context.Context, d Deletion) error {
	set := kadm.TopicsSet{}
	for _, row := range d.Offsets {
		set.Add(row.Topic, row.Partition)
	}
	answers, err := c.adm.DeleteOffsets(ctx, d.Group, set)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		return fmt.Errorf("delete offsets of group %s: %w", d.Group, err)
	}
	return nil
}

func (g Group) committed(topic string, partition int32) int64 {
	for _, t := range g.Topics {
		for _, s := range t.Partitions {
			if t.Name == topic && s.Partition == partition {
				return s.Committed
			}
		}
	}
	return Nothing
}
