// Package topology tells which group reads and writes which topics, and what it means to have a group read a topic
// again. Who reads and writes what comes from the declarations that the processors themselves run by.
package topology

import (
	"slices"

	"github.com/lovoo/goka"

	"freshet"
	"freshet/emitters"
	"freshet/processors/archive"
	"freshet/processors/directory"
	"freshet/processors/fanout"
	"freshet/processors/following"
)

// Group is a consumer group. Names are those in Kafka.
type Group struct {
	Name string `json:"group"`
	// Inputs can be read again, by moving the group back in them.
	Inputs []string `json:"inputs"`
	// Loop is where it sends messages to itself, Table where it keeps its rows; empty if it has none. Neither is moved by
	// a reset: the loop is written again when the inputs are read again, and rows stay as they are.
	Loop  string `json:"loop,omitempty"`
	Table string `json:"table,omitempty"`
	// Writes are other topics that it writes, sorted.
	Writes []string `json:"writes"`
	// Effect is what it writes that is not in Kafka; empty if there is nothing.
	Effect string `json:"effect,omitempty"`
	// Again says what reading the inputs again means, and Ahead why none of their records may be passed over.
	Again string `json:"again"`
	Ahead string `json:"ahead"`
}

// Groups are all groups of a deployment.
func Groups(names freshet.Names) []Group {
	return []Group{
		of(directory.Graph(names), nil, Group{
			Again: "accounts are registered and named again: events only state again what is so",
			Ahead: "the directory would lack the accounts and names in the records passed over",
		}),
		of(following.Graph(names), nil, Group{
			Again: "events only state again what is so: each row knows how far it has come",
			Ahead: "the table would lack the follows, mutes and blocks in the records passed over",
		}),
		of(fanout.Graph(names), fanout.Emits(names), Group{
			Effect: "feeds in Redis",
			Again:  "posts are delivered again, to those who follow now; doubles do no harm",
			Ahead: "feeds would lack the posts passed over, and the group would go back anyway to what is known to be in " +
				"Redis",
		}),
		of(archive.Graph(names), nil, Group{
			Effect: "the post store",
			Again:  "posts and follower lists are stored again, as they were; older pages may be incomplete until it is done",
			Ahead:  "the post store would lack the records passed over",
		}),
	}
}

// Published are the topics into which the API writes, sorted: where everything begins.
func Published(names freshet.Names) []string {
	var list []string
	for _, topic := range emitters.Topics() {
		list = append(list, names.Topic(topic))
	}
	return list
}

func of(graph *goka.GroupGraph, emits []string, g Group) Group {
	g.Name, g.Writes = string(graph.Group()), slices.Clone(emits)
	for _, edge := range graph.InputStreams() {
		g.Inputs = append(g.Inputs, edge.Topic())
	}
	if loop := graph.LoopStream(); loop != nil {
		g.Loop = loop.Topic()
	}
	if table := graph.GroupTable(); table != nil {
		g.Table = table.Topic()
	}
	for _, edge := range graph.OutputStreams() {
		if edge.Topic() != g.Loop {
			g.Writes = append(g.Writes, edge.Topic())
		}
	}
	slices.Sort(g.Writes)
	return g
}

// Topic is a topic and who uses it.
type Topic struct {
	Name string `json:"topic"`
	// Kind is input, loop, table, or output, which only processes read that are in no group.
	Kind string `json:"kind"`
	// Writers and Readers are groups; the API is "api", the operators' tool "freshet replay".
	Writers []string `json:"writers"`
	Readers []string `json:"readers"`
}

// API stands for the processes that take requests, and Replay for the operators' tool, which are in no group.
const (
	API    = "api"
	Replay = "freshet replay"
)

// Topics are all topics that a group or the API uses, in the order of the deployment's list.
func Topics(names freshet.Names) []Topic {
	groups, published := Groups(names), Published(names)
	var list []Topic
	for _, spec := range names.TopicSpecs(1, freshet.Forever) {
		t := Topic{Name: spec.Name, Kind: "output", Writers: []string{}, Readers: []string{}}
		if slices.Contains(published, t.Name) {
			t.Writers = append(t.Writers, API)
		}
		switch t.Name {
		case names.Topic(freshet.Replays):
			t.Writers = append(t.Writers, Replay)
		case names.Topic(freshet.ReplayStates):
			t.Writers, t.Readers = append(t.Writers, Replay), append(t.Readers, Replay)
		}
		for _, g := range groups {
			own := t.Name == g.Loop || t.Name == g.Table
			if own || slices.Contains(g.Writes, t.Name) {
				t.Writers = append(t.Writers, g.Name)
			}
			if own || slices.Contains(g.Inputs, t.Name) {
				t.Readers = append(t.Readers, g.Name)
			}
			switch t.Name {
			case g.Loop:
				t.Kind = "loop"
			case g.Table:
				t.Kind = "table"
			default:
				if slices.Contains(g.Inputs, t.Name) {
					t.Kind = "input"
				}
			}
		}
		list = append(list, t)
	}
	return list
}
