package feeds

import (
	"fmt"
	"strconv"

	"freshet"
)

// Zone is a share of the keys in Redis: every key begins with its zone's hash tag, so that a zone lies in one slot of a
// Redis Cluster, moves as a whole, and a script may touch all of it.
type Zone int

// Layout says where in Redis each thing lies. It is fixed for the life of a deployment.
type Layout struct {
	// Zones is how many zones there are.
	Zones int
	// FeedLength is how many posts a cached feed or outbox holds at most. What is older is read from the post store. A
	// deployment that changes it has to empty Redis.
	FeedLength int
}

// DefaultZones is enough to spread over any cluster of Redis: a Redis Cluster has 16,384 slots, rarely over 100 nodes.
const DefaultZones = 1024

// DefaultFeedLength is forty pages of twenty: few readers scroll farther, and those who do read the post store.
const DefaultFeedLength = 800

// Validate refuses a layout that cannot work.
func (l Layout) Validate() error {
	if l.Zones < 1 || l.Zones > 16384 {
		return fmt.Errorf("the number of zones must be from 1 to 16384, not %d", l.Zones)
	}
	if l.FeedLength < 1 || l.FeedLength > 100_000 {
		return fmt.Errorf("the length of a feed must be from 1 to 100000, not %d", l.FeedLength)
	}
	return nil
}

// OfBlock is the zone of a block's log and feeds.
func (l Layout) OfBlock(block uint64) Zone { return l.of(block) }

// OfAuthor is the zone of an author's outbox.
func (l Layout) OfAuthor(author freshet.Number) Zone {
	return l.of(uint64(author) ^ 0xa5a5a5a5a5a5a5a5)
}

// OfPost is the zone of a post's body.
func (l Layout) OfPost(post freshet.PostID) Zone { return l.of(uint64(post) ^ 0x5a5a5a5a5a5a5a5a) }

// of spreads neighbouring numbers with the finaliser of MurmurHash3 (Appleby, public domain).
func (l Layout) of(n uint64) Zone {
	n ^= n >> 33
	n *= 0xff51afd7ed558ccd
	n ^= n >> 33
	n *= 0xc4ceb9fe1a85ec53
	n ^= n >> 33
	return Zone(n % uint64(l.Zones))
}

func (z Zone) key(kind string) string { return "{z" + strconv.Itoa(int(z)) + "}:" + kind }

func (z Zone) tokenKey() string               { return z.key("token") }
func (z Zone) marksKey() string               { return z.key("marks") }
func (z Zone) recoveringKey() string          { return z.key("recovering") }
func (z Zone) writerKey(writer string) string { return z.key("writer:" + writer) }

// stagedKey is where a part of a change waits for the script that makes it, which knows it by name.
func (z Zone) stagedKey(part, name string) string { return z.key("staged:" + part + ":" + name) }

func (z Zone) numbered(kind string, n uint64) string {
	return string(z.appendNumbered(make([]byte, 0, 40), kind, n))
}

func (z Zone) appendNumbered(b []byte, kind string, n uint64) []byte {
	b = append(b, "{z"...)
	b = strconv.AppendInt(b, int64(z), 10)
	b = append(b, "}:"...)
	b = append(b, kind...)
	b = append(b, ':')
	return strconv.AppendUint(b, n, 10)
}

func (z Zone) logKey(block uint64) string             { return z.numbered("log", block) }
func (z Zone) feedsKey(block uint64) string           { return z.numbered("feeds", block) }
func (z Zone) outboxKey(author freshet.Number) string { return z.numbered("outbox", uint64(author)) }
func (z Zone) postKey(post freshet.PostID) string     { return z.numbered("post", uint64(post)) }

// Input is a partition of a topic whose messages write to Redis.
type Input struct {
	Topic     string // "posts", "replays" or "loop"
	Partition int32
}

// The topics of an Input.
const (
	InputPosts   = "posts"
	InputReplays = "replays"
	InputLoop    = "loop"
)

// field is the input's name in the hashes of a zone.
func (i Input) field() string { return i.Topic + ":" + strconv.Itoa(int(i.Partition)) }

func parseInput(field string) (Input, bool) {
	for at := len(field) - 1; at > 0; at-- {
		if field[at] == ':' {
			p, err := strconv.ParseInt(field[at+1:], 10, 32)
			return Input{Topic: field[:at], Partition: int32(p)}, err == nil
		}
	}
	return Input{}, false
}
