package offsets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/kafka"
)

const (
	// answerTimeout is how long a request is tried.
	answerTimeout = 8 * time.Second
	// workTimeout bounds a listing, a plan or a commit.
	workTimeout = 60 * time.Second
)

// Cluster is Kafka as operators see it. It is safe for concurrent use.
type Cluster struct {
	names   freshet.Names
	brokers []string
	opts    []kgo.Opt
	adm     *kadm.Client
}

// Open connects. If no broker answers, the error names the addresses. opts are those of kafka.ClientOptions.
func Open(ctx context.Context, brokers []string, names freshet.Names, opts ...kgo.Opt) (*Cluster, error) {
	if _, err := kafka.Reach(ctx, brokers, opts...); err != nil {
		return nil, err
	}
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ClientID("freshet-offsets"),
		kgo.DialTimeout(3 * time.Second), kgo.RetryTimeout(answerTimeout),
	}, opts...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka at %s: %w", strings.Join(brokers, ","), err)
	}
	return &Cluster{names: names, brokers: brokers, opts: opts, adm: kadm.NewClient(client)}, nil
}

// Close closes the connections.
func (c *Cluster) Close() { c.adm.Close() }

// Group is a group and where it stands.
type Group struct {
	Name    string   `json:"group"`
	State   string   `json:"state"`
	Members []Member `json:"members"`
	Topics  []Topic  `json:"topics"`
}

// Topic is where a group stands in a topic.
type Topic struct {
	Name string
	// Replay: what is in it is processed for the second time, by an operator's wish. Its lag is told apart.
	Replay     bool
	Partitions []Standing
}

// Lag is how many records the group has not processed, of those that are new and of those that are replayed.
func (g Group) Lag() (live, replay int64) {
	for _, t := range g.Topics {
		for _, s := range t.Partitions {
			if t.Replay {
				replay += s.Lag()
			} else {
				live += s.Lag()
			}
		}
	}
	return live, replay
}

// Groups lists one group, or for an empty name all of the deployment: those that freshet knows and whatever else begins
// with the prefix. The name may lack the prefix. The error wraps ErrUnknown for a group that does not exist.
func (c *Cluster) Groups(ctx context.Context, name string) ([]Group, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	found, err := c.find(ctx, name)
	if err != nil {
		return nil, err
	}
	groups := make([]Group, 0, len(found))
	for _, one := range found {
		g, err := c.group(ctx, one)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// find is the names in Kafka of the groups that are meant by a name; of all, by an empty one.
func (c *Cluster) find(ctx context.Context, name string) ([]string, error) {
	listed, err := c.adm.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the groups: %w", err)
	}
	there := slices.DeleteFunc(listed.Groups(), func(group string) bool {
		return !strings.HasPrefix(group, c.names.Prefix)
	})
	slices.Sort(there)
	switch {
	case name == "":
		return there, nil
	case slices.Contains(there, name):
		return []string{name}, nil
	case slices.Contains(there, c.names.Prefix+name):
		return []string{c.names.Prefix + name}, nil
	}
	return nil, fmt.Errorf("%w group %s: Kafka has %s%s", ErrUnknown, name, orNone(there), meant(c.names, name, there))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none with this prefix"
	}
	return strings.Join(names, ", ")
}

func (c *Cluster) group(ctx context.Context, name string) (Group, error) {
	g, err := c.describe(ctx, name)
	if err != nil {
		return g, err
	}
	committed, err := c.adm.FetchOffsets(ctx, name)
	if err == nil {
		err = committed.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return g, fmt.Errorf("fetch the offsets of group %s: %w", name, err)
	}
	topics := map[string]bool{}
	for topic := range committed {
		topics[topic] = true
	}
	if known, ok := consumerOf(c.names, name); ok {
		for _, topic := range known.topicNames(true) {
			topics[topic] = true
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		standings, err := c.standings(ctx, name, topic)
		if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, errNoTopic) {
			continue // nobody has made it yet, or somebody has removed it
		}
		if err != nil {
			return g, err
		}
		for i, s := range standings {
			standings[i].Member = g.reader(topic, s.Partition)
		}
		g.Topics = append(g.Topics, Topic{topic, topic == c.names.Topic(freshet.Replays), standings})
	}
	return g, nil
}

// describe tells a group's state and members. A group that nobody ever joined is dead and has none.
func (c *Cluster) describe(ctx context.Context, name string) (Group, error) {
	g := Group{Name: name, Members: []Member{}, Topics: []Topic{}}
	described, err := c.adm.DescribeGroups(ctx, name)
	if err == nil {
		err = described.Error()
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		g.State = "Dead"
		return g, nil
	}
	if err != nil {
		return g, fmt.Errorf("describe group %s: %w", name, err)
	}
	g.State = described[name].State
	for _, m := range described[name].Members {
		g.Members = append(g.Members, memberOf(m))
	}
	slices.SortFunc(g.Members, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return g, nil
}

// standings are sorted by partition.
func (c *Cluster) standings(ctx context.Context, group, topic string) ([]Standing, error) {
	failed := func(err error) error {
		return fmt.Errorf("look up the offsets of group %s in %s at %s: %w", group, topic, strings.Join(c.brokers, ","), err)
	}
	starts, err := listed(c.adm.ListStartOffsets(ctx, topic))
	if err != nil {
		return nil, failed(err)
	}
	// The ends last, so that no commit is above the end that is listed.
	commits, err := c.adm.FetchOffsetsForTopics(ctx, group, topic)
	if err == nil {
		err = commits.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, failed(err)
	}
	ends, err := listed(c.adm.ListEndOffsets(ctx, topic))
	if err != nil {
		return nil, failed(err)
	}
	var standings []Standing
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, end.Partition)
		s := Standing{Partition: end.Partition, Start: start.Offset, End: end.Offset, Committed: Nothing}
		if commit, ok := commits.Lookup(topic, end.Partition); ok {
			s.Committed = commit.At
		}
		standings = append(standings, s)
	})
	slices.SortFunc(standings, func(a, b Standing) int { return cmp.Compare(a.Partition, b.Partition) })
	return standings, nil
}

var errNoTopic = errors.New("the topic does not exist; is the prefix right?")

func listed(offsets kadm.ListedOffsets, err error) (kadm.ListedOffsets, error) {
	if err == nil {
		err = offsets.Error()
	}
	if err == nil && len(offsets) == 0 {
		err = errNoTopic
	}
	return offsets, err
}
