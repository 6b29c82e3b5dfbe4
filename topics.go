package freshet

import (
	"hash/fnv"
	"strconv"
	"time"
)

// Topic is a Kafka topic without the deployment's prefix.
type Topic string

// The topics: what the key is, and what a record says. Accounts are keyed by number but where it says id.
const (
	// Registrations, by account id: a new account; nothing else, so that offsets stay dense.
	Registrations Topic = "registrations"
	// Profiles, by account id: name, closed.
	Profiles Topic = "profiles"
	// Follows, by follower: follow, unfollow, mute, unmute, block, unblock.
	Follows Topic = "follows"
	// Followers, by followee: "f follows A: yes or no, version v". Written by following.
	Followers Topic = "followers"
	// Applied, by follower: "the tree of A holds f: yes or no, version v". Written by fanout.
	Applied Topic = "applied"
	// Posts, by author: created, edited, deleted.
	Posts Topic = "posts"
	// Replays, by author: copies of posts records to be processed again by one group.
	Replays Topic = "replays"
	// ReplayStates, by group: how far the group's replay is, latest. It has one partition, which orders what is written.
	ReplayStates Topic = "replay-states"
	// Tiers, by author: the author became pull-tier, or ceased to be.
	Tiers Topic = "tiers"
	// Stats, by author: followers and posts of the author, latest.
	Stats Topic = "stats"
	// DeadLetters, under the key it came with: what could not be decoded or processed, with origin and cause.
	DeadLetters Topic = "dead-letters"
	// NodeStarts, by host: one record for each start of an API process. It has one partition.
	NodeStarts Topic = "nodes"
)

// Group is a goka group without the deployment's prefix.
type Group string

// The groups.
const (
	DirectoryGroup Group = "directory"
	FollowingGroup Group = "following"
	FanoutGroup    Group = "fanout"
	ArchiveGroup   Group = "archive"
)

// DefaultPrefix begins the name of every topic and group.
const DefaultPrefix = "freshet."

// Names turns topics and groups into their names in Kafka.
type Names struct {
	Prefix string
}

// Topic is the topic's name in Kafka.
func (n Names) Topic(t Topic) string { return n.Prefix + string(t) }

// Group is the group's name in Kafka.
func (n Names) Group(g Group) string { return n.Prefix + string(g) }

// Table is the topic of the group's table, by goka's convention.
func (n Names) Table(g Group) string { return n.Group(g) + "-table" }

// Loop is the topic of the group's messages to itself, by goka's convention.
func (n Names) Loop(g Group) string { return n.Group(g) + "-loop" }

// Forever is a retention without a limit.
const Forever time.Duration = -1

// MinCompactionLag is how long brokers leave the records of a compacted topic alone: long enough for the owner of a
// table to notice a record that a process wrote which had lost the table, and to write its own row again.
const MinCompactionLag = 24 * time.Hour

// TopicSpec is what a topic must be like in Kafka.
type TopicSpec struct {
	Name       string
	Partitions int32
	Compacted  bool
	Retention  time.Duration // Forever or a positive time; of a compacted topic always Forever
}

// Retention of the topics that are not kept forever.
const (
	WeekRetention       = 7 * 24 * time.Hour
	DeadLetterRetention = 30 * 24 * time.Hour
)

// TopicSpecs lists every topic of a deployment. Keyed topics have the same number of partitions, a power of two, for
// the life of the deployment: account numbers and goka's tables depend on it. postsRetention is Forever or a time.
func (n Names) TopicSpecs(partitions int32, postsRetention time.Duration) []TopicSpec {
	stream := func(name string, retention time.Duration) TopicSpec {
		return TopicSpec{Name: name, Partitions: partitions, Retention: retention}
	}
	compacted := func(name string) TopicSpec {
		return TopicSpec{Name: name, Partitions: partitions, Compacted: true, Retention: Forever}
	}
	nodes := stream(n.Topic(NodeStarts), Forever)
	nodes.Partitions = 1
	replayStates := compacted(n.Topic(ReplayStates))
	replayStates.Partitions = 1
	return []TopicSpec{
		stream(n.Topic(Registrations), Forever),
		compacted(n.Topic(Profiles)),
		stream(n.Topic(Follows), Forever),
		stream(n.Topic(Followers), WeekRetention),
		stream(n.Topic(Applied), WeekRetention),
		stream(n.Topic(Posts), postsRetention),
		stream(n.Topic(Replays), WeekRetention),
		replayStates,
		compacted(n.Topic(Tiers)),
		compacted(n.Topic(Stats)),
		stream(n.Topic(DeadLetters), DeadLetterRetention),
		nodes,
		stream(n.Loop(DirectoryGroup), WeekRetention),
		compacted(n.Table(DirectoryGroup)),
		stream(n.Loop(FollowingGroup), WeekRetention),
		compacted(n.Table(FollowingGroup)),
		stream(n.Loop(FanoutGroup), WeekRetention),
		compacted(n.Table(FanoutGroup)),
	}
}

// NumberKeyPrefix begins the keys of the directory's rows that tell the id of a number. No account id contains it.
const NumberKeyPrefix = "#"

// NumberKey is the directory's key of the row that tells the id of a number.
func NumberKey(n Number) string { return NumberKeyPrefix + n.Key() }

// NodeKey is fanout's key of a node of an author's follower tree: "A" for the root, "A/3/5" for a node below it.
func NodeKey(author Number, path []byte) string {
	key := author.Key()
	for _, branch := range path {
		key += "/" + strconv.Itoa(int(branch))
	}
	return key
}

// PartitionOf is the partition of a key: the absolute value of FNV-1a's 32 bits read as a signed number, modulo the
// number of partitions, which is a power of two. goka's views and sarama's hash partitioner compute the same.
func PartitionOf(key string, partitions int32) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // a hash's Write never fails
	p := int32(h.Sum32()) % partitions
	if p < 0 {
		p = -p
	}
	return p
}
