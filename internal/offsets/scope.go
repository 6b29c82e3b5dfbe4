package offsets

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"freshet"
)

// Scope is the topics and partitions of a group that are to be moved. ParseScope and FileScope make one.
type Scope struct {
	consumer consumer
	parts    []part
}

// part is a topic; without partitions all of it.
type part struct {
	topic      string // its name in Kafka
	partitions []int32
}

// Group is the group's name in Kafka.
func (s Scope) Group() string { return s.consumer.Name }

// Topics are the names in Kafka, in the order given.
func (s Scope) Topics() []string {
	topics := make([]string, len(s.parts))
	for i, p := range s.parts {
		topics[i] = p.topic
	}
	return topics
}

// ParseScope finds topics of a group. Each is a name, or a name and partitions: posts:0,3. No topics at all are all of
// the group's inputs. Names may lack the deployment's prefix. Errors wrap ErrUnknown or ErrNotInput and say what could
// be meant.
func ParseScope(names freshet.Names, group string, topics ...string) (Scope, error) {
	c, ok := consumerOf(names, group)
	if !ok {
		return Scope{}, fmt.Errorf("%w group %s: the groups are %s%s", ErrUnknown, group,
			strings.Join(groupNames(names), ", "), meant(names, group, groupNames(names)))
	}
	s := Scope{consumer: c}
	if len(topics) == 0 {
		for _, topic := range c.topicNames(false) {
			s.parts = append(s.parts, part{topic: topic})
		}
		return s, nil
	}
	for _, given := range topics {
		topic, list, _ := strings.Cut(given, ":")
		name, err := c.input(names, topic, false)
		if err != nil {
			return Scope{}, err
		}
		if slices.ContainsFunc(s.parts, func(p part) bool { return p.topic == name }) {
			return Scope{}, fmt.Errorf("%w: topic %s is given twice", ErrUnknown, name)
		}
		p := part{topic: name}
		if strings.Contains(given, ":") {
			for number := range strings.SplitSeq(list, ",") {
				partition, err := strconv.ParseInt(number, 10, 32)
				if err != nil || partition < 0 {
					return Scope{}, fmt.Errorf("%w partition %q of %s: want numbers, as in %s:0,3", ErrUnknown, number, name, topic)
				}
				p.partitions = append(p.partitions, int32(partition))
			}
		}
		s.parts = append(s.parts, p)
	}
	return s, nil
}

// FileScope is what the rows of a file, of one group, name. Where the group stands in its own loop may be among them.
func FileScope(names freshet.Names, group string, rows []Row) (Scope, error) {
	s, err := ParseScope(names, group)
	if err != nil {
		return s, err
	}
	s.parts = nil
	for _, row := range rows {
		name, err := s.consumer.input(names, row.Topic, true)
		if err != nil {
			return s, err
		}
		i := slices.IndexFunc(s.parts, func(p part) bool { return p.topic == name })
		if i < 0 {
			i = len(s.parts)
			s.parts = append(s.parts, part{topic: name})
		}
		s.parts[i].partitions = append(s.parts[i].partitions, row.Partition)
	}
	return s, nil
}

// input is the name in Kafka of a topic that the group reads.
func (c consumer) input(names freshet.Names, topic string, loop bool) (string, error) {
	name := strings.TrimPrefix(topic, names.Prefix)
	full := names.Prefix + name
	inputs := c.topicNames(loop)
	if slices.Contains(inputs, full) {
		return full, nil
	}
	reads := fmt.Sprintf("group %s reads %s", c.Name, strings.Join(c.topicNames(false), ", "))
	switch {
	case strings.HasSuffix(name, tableSuffix):
		return "", fmt.Errorf("%s: %w: it holds a group's table, and a table is not rewound by a reset: the rows stay, and "+
			"what is read again is applied to them; %s", full, ErrNotInput, reads)
	case strings.HasSuffix(name, loopSuffix):
		return "", fmt.Errorf("%s: %w: it holds messages of a group to itself, which are written again when the inputs are "+
			"read again; %s", full, ErrNotInput, reads)
	case !known(names, full):
		return "", fmt.Errorf("%w topic %s: %s%s", ErrUnknown, topic, reads, meant(names, topic, inputs))
	default:
		return "", fmt.Errorf("%s: %w: %s", full, ErrNotInput, reads)
	}
}
