// Package offsets shows where consumer groups stand in their topics, and moves them back.
//
// Moving a group back makes it process records again, nothing else: tables, feeds and stored posts stay as they are and
// take the records a second time. So a reset is planned first, from what Kafka says, and the plan is refused as a whole
// when a part of it cannot be done as asked: no offset is ever moved into a partition's range, and no record is passed
// over.
//
//	groups.go   what each group reads, and what reading it again means
//	target.go   where to: earliest, latest, a time, an offset
//	plan.go     the plan: a pure function of where the group stands and where it is to go
//	cluster.go  what Kafka says of groups and topics
//	lookup.go   planning from that
//	execute.go  moving: a stopped group directly, a running one through its process
//	print.go    tables for people
package offsets

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"freshet"
)

// consumer is what a reset has to know of a group.
type consumer struct {
	group freshet.Group
	// inputs are the topics that it can read again.
	inputs []freshet.Topic
	// again says what reading records again means.
	again string
	// ahead says why it must not pass over records.
	ahead string
}

var consumers = []consumer{
	{
		group:  freshet.DirectoryGroup,
		inputs: []freshet.Topic{freshet.Registrations, freshet.Profiles},
		again:  "accounts are registered and named again: events only state again what is so",
		ahead:  "the directory would lack the accounts and names in the records passed over",
	},
	{
		group:  freshet.FollowingGroup,
		inputs: []freshet.Topic{freshet.Follows, freshet.Applied},
		again:  "events only state again what is so: each row knows how far it has come",
		ahead:  "the table would lack the follows, mutes and blocks in the records passed over",
	},
	{
		group:  freshet.FanoutGroup,
		inputs: []freshet.Topic{freshet.Posts, freshet.Replays, freshet.Followers},
		again:  "posts are delivered again, to those who follow now; doubles do no harm",
		ahead: "feeds would lack the posts passed over, and the group would go back anyway to what is known to be in " +
			"Redis",
	},
	{
		group:  freshet.ArchiveGroup,
		inputs: []freshet.Topic{freshet.Posts, freshet.Followers},
		again:  "posts and follower lists are stored again, as they were; older pages may be incomplete until it is done",
		ahead:  "the post store would lack the records passed over",
	},
}

var (
	// ErrUnknown is wrapped by the errors for a group or topic that does not exist.
	ErrUnknown = errors.New("unknown")
	// ErrNotInput is wrapped by the errors for a topic that the group does not read from outside.
	ErrNotInput = errors.New("not an input of the group")
)

// Input is a topic of a group that can be read again.
type Input struct {
	names    freshet.Names
	consumer consumer
	topic    freshet.Topic
}

// Group is the group's name in Kafka.
func (i Input) Group() string { return i.names.Group(i.consumer.group) }

// Topic is the topic's name in Kafka.
func (i Input) Topic() string { return i.names.Topic(i.topic) }

// ParseInput finds a topic of a group; both may be given with or without the deployment's prefix. The error wraps
// ErrUnknown or ErrNotInput and names what could be meant.
func ParseInput(names freshet.Names, group, topic string) (Input, error) {
	c, ok := consumerOf(names, group)
	if !ok {
		return Input{}, fmt.Errorf("%w group %s: the groups are %s", ErrUnknown, group, listGroups(names))
	}
	name := strings.TrimPrefix(topic, names.Prefix)
	if slices.Contains(c.inputs, freshet.Topic(name)) {
		return Input{names, c, freshet.Topic(name)}, nil
	}
	inputs := fmt.Sprintf("group %s reads %s", names.Group(c.group), listTopics(names, c.inputs))
	switch full := names.Prefix + name; {
	case strings.HasSuffix(name, tableSuffix):
		return Input{}, fmt.Errorf("%s: %w: it holds a group's table, and a table is not rewound by a reset: the rows stay, "+
			"and what is read again is applied to them; %s", full, ErrNotInput, inputs)
	case strings.HasSuffix(name, loopSuffix):
		return Input{}, fmt.Errorf("%s: %w: it holds messages of a group to itself, which are written again when the inputs "+
			"are read again; %s", full, ErrNotInput, inputs)
	case !known(names, full):
		return Input{}, fmt.Errorf("%w topic %s: %s", ErrUnknown, topic, inputs)
	default:
		return Input{}, fmt.Errorf("%s: %w: %s", full, ErrNotInput, inputs)
	}
}

// How goka ends the names of what a group keeps in Kafka.
const (
	tableSuffix = "-table"
	loopSuffix  = "-loop"
)

func consumerOf(names freshet.Names, group string) (consumer, bool) {
	i := slices.IndexFunc(consumers, func(c consumer) bool {
		return group == string(c.group) || group == names.Group(c.group)
	})
	if i < 0 {
		return consumer{}, false
	}
	return consumers[i], true
}

func known(names freshet.Names, topic string) bool {
	return slices.ContainsFunc(names.TopicSpecs(1, freshet.Forever), func(s freshet.TopicSpec) bool {
		return s.Name == topic
	})
}

func listGroups(names freshet.Names) string {
	list := make([]string, len(consumers))
	for i, c := range consumers {
		list[i] = names.Group(c.group)
	}
	return strings.Join(list, ", ")
}

func listTopics(names freshet.Names, topics []freshet.Topic) string {
	list := make([]string, len(topics))
	for i, topic := range topics {
		list[i] = names.Topic(topic)
	}
	return strings.Join(list, ", ")
}
