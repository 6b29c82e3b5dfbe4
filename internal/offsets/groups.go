// Package offsets shows where consumer groups stand in their topics, and moves them back.
//
// Moving a group back makes it process records again, nothing else: tables, feeds and stored posts stay as they are and
// take the records a second time. So a reset is planned first, from what Kafka says, and the plan is refused as a whole
// when a part of it cannot be done as asked: no offset is moved into a partition's range, and no record is passed over,
// unless the operator allows just that.
//
//	groups.go   which group and which topic is meant
//	scope.go    which topics and partitions of a group
//	target.go   where to: earliest, latest, a time, an offset, so many records further
//	file.go     offsets in files, as Kafka's own tool writes and reads them
//	plan.go     the plan: a pure function of where the group stands and where it is to go
//	cluster.go  what Kafka says of groups and topics; member.go, times.go: of who reads what, and of when records are
//	lookup.go   planning from that
//	execute.go  moving, after the plan was checked again: a stopped group directly
//	live.go     a running one through its processes
//	delete.go   forgetting what a group has committed
//	print.go    tables for people
//	nearest.go  what somebody meant who has mistyped a name
package offsets

import (
	"errors"
	"slices"

	"freshet"
	"freshet/internal/topology"
)

var (
	// ErrUnknown is wrapped by the errors for a group or topic that does not exist.
	ErrUnknown = errors.New("unknown")
	// ErrNotInput is wrapped by the errors for a topic that the group does not read from outside.
	ErrNotInput = errors.New("not an input of the group")
)

// consumer is a group of which the program knows what it reads.
type consumer struct{ topology.Group }

// How goka ends the names of what a group keeps in Kafka.
const (
	tableSuffix = "-table"
	loopSuffix  = "-loop"
)

func consumerOf(names freshet.Names, group string) (consumer, bool) {
	for _, g := range topology.Groups(names) {
		if group == g.Name || names.Prefix+group == g.Name {
			return consumer{g}, true
		}
	}
	return consumer{}, false
}

func known(names freshet.Names, topic string) bool {
	return slices.ContainsFunc(names.TopicSpecs(1, freshet.Forever), func(s freshet.TopicSpec) bool {
		return s.Name == topic
	})
}

func groupNames(names freshet.Names) []string {
	var list []string
	for _, g := range topology.Groups(names) {
		list = append(list, g.Name)
	}
	return list
}

// topicNames are the group's inputs, and its loop if that is wanted, too.
func (c consumer) topicNames(loop bool) []string {
	list := slices.Clone(c.Inputs)
	if loop && c.Loop != "" {
		list = append(list, c.Loop)
	}
	return list
}
