package offsets

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Member is a member of a group.
type Member struct {
	ID string `json:"id"`
	// Name is that of a static member, which keeps its partitions over a quick restart; empty if it has none.
	Name   string `json:"name,omitempty"`
	Client string `json:"client"`
	Host   string `json:"host"`
	// Reads is what it was assigned. Nothing: it waits as a spare.
	Reads []Partitions `json:"reads"`
}

// Partitions are some of a topic's.
type Partitions struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
}

func (m Member) String() string {
	return fmt.Sprintf("%s (client %s, host %s)", m.ID, m.Client, m.Host)
}

func memberOf(described kadm.DescribedGroupMember) Member {
	m := Member{
		ID: described.MemberID, Client: described.ClientID, Host: described.ClientHost, Reads: []Partitions{},
	}
	if described.InstanceID != nil {
		m.Name = *described.InstanceID
	}
	if assigned, ok := described.Assigned.AsConsumer(); ok {
		for _, topic := range assigned.Topics {
			if len(topic.Partitions) > 0 {
				slices.Sort(topic.Partitions)
				m.Reads = append(m.Reads, Partitions{topic.Topic, topic.Partitions})
			}
		}
	}
	slices.SortFunc(m.Reads, func(a, b Partitions) int { return strings.Compare(a.Topic, b.Topic) })
	return m
}

// reader is the member that reads a partition, the zero one if none does.
func (g Group) reader(topic string, partition int32) Member {
	for _, m := range g.Members {
		for _, reads := range m.Reads {
			if reads.Topic == topic && slices.Contains(reads.Partitions, partition) {
				return m
			}
		}
	}
	return Member{}
}

// changed says who has come to a group, and who has gone, since it had other members; nothing if it is the same.
func changed(before, after []Member) string {
	var changes []string
	in := func(list []Member, m Member) bool {
		return slices.ContainsFunc(list, func(o Member) bool { return o.ID == m.ID })
	}
	for _, m := range after {
		if !in(before, m) {
			changes = append(changes, m.String()+" has joined")
		}
	}
	for _, m := range before {
		if !in(after, m) {
			changes = append(changes, m.String()+" has left")
		}
	}
	return strings.Join(changes, ", ")
}
