package topology_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/emitters"
	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
	"freshet/internal/topology"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

const patience = 60 * time.Second

var names = freshet.Names{Prefix: "test."}

// world is a Kafka and a Redis on which one role runs at a time, so that whatever is written is that role's.
type world struct {
	t   *testing.T
	cfg config.Config
	adm *kadm.Client
	cl  *kgo.Client
}

func open(t *testing.T) *world {
	cfg := apptest.Servers(t, t.TempDir())
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	cfg.Prefix, cfg.Partitions, cfg.Zones = names.Prefix, 2, 4
	cfg.PageSize, cfg.PullAbove = 4, 2 // the author of six followers has a tree with children, and is pulled
	cfg.DataDir = t.TempDir()
	err = kafka.EnsureTopics(t.Context(), cfg.Kafka, names.TopicSpecs(cfg.Partitions, freshet.WeekRetention),
		kafka.TopicPolicy{Replication: 1, MinInSync: 1})
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, cfg, kadm.NewClient(cl), cl}
}

func (w *world) ends() map[string]int64 {
	w.t.Helper()
	var topics []string
	for _, spec := range names.TopicSpecs(1, freshet.Forever) {
		topics = append(topics, spec.Name)
	}
	listed, err := w.adm.ListEndOffsets(w.t.Context(), topics...)
	if err != nil {
		w.t.Fatal(err)
	}
	ends := map[string]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Topic] += o.Offset })
	return ends
}

// reads is what the members of a group were assigned.
func (w *world) reads(group string) []string {
	described, err := w.adm.DescribeGroups(w.t.Context(), group)
	if err != nil {
		return nil
	}
	topics := map[string]bool{}
	for _, m := range described[group].Members {
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range assigned.Topics {
				topics[t.Topic] = len(t.Partitions) > 0
			}
		}
	}
	return slices.Sorted(maps.Keys(topics))
}

// behind says whether the group has something to process in its inputs and loop.
func (w *world) behind(g topology.Group) bool {
	committed, err := w.adm.FetchOffsets(w.t.Context(), g.Name)
	if err != nil {
		return true
	}
	at := map[string]int64{}
	committed.Each(func(o kadm.OffsetResponse) { at[o.Topic] += o.At })
	ends := w.ends()
	for _, topic := range append(slices.Clone(g.Inputs), g.Loop) {
		if topic != "" && at[topic] < ends[topic] {
			return true
		}
	}
	return false
}

// run runs the role until its group has nothing to do and done says so, and tells what it has read, and written.
func (w *world) run(g topology.Group, done func(wrote []string) bool) (read, wrote []string) {
	w.t.Helper()
	cfg := w.cfg
	cfg.Roles = []config.Role{config.Role(strings.TrimPrefix(g.Name, names.Prefix))}
	before := w.ends()
	grown := func() []string {
		var list []string
		for topic, end := range w.ends() {
			if end > before[topic] {
				list = append(list, topic)
			}
		}
		slices.Sort(list)
		return list
	}
	a, stop := apptest.Run(w.t, cfg)
	deadline := time.Now().Add(patience)
	for {
		if r := w.reads(g.Name); len(r) > 0 {
			read = r
		}
		if len(read) > 0 && done(grown()) && !w.behind(g) {
			break
		}
		if time.Now().After(deadline) {
			w.t.Errorf("%s after %s: reads %v, wrote %v, missing %v", g.Name, patience, read, grown(), a.Missing())
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-w.t.Context().Done():
			w.t.FailNow()
		}
	}
	stop()
	return read, grown()
}

// publish writes an account that six follow, its post, and a record that nobody can read in each input.
func (w *world) publish() {
	e, err := emitters.New(w.cfg.Kafka, names, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	must := func(_ emitters.Position, err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	now := time.Now()
	must(e.Register(ctx, "ada", now, nil))
	author := freshet.Number(1)
	for follower := freshet.Number(2); follower < 8; follower++ {
		must(e.Relate(ctx, follower, events.FollowEvent_FOLLOW, now, author))
	}
	must(e.Post(ctx, freshet.PostEvent{Kind: freshet.PostCreated, Post: freshet.Post{
		ID: 1, Author: author, Text: "a", Visibility: freshet.Public, CreatedAt: now,
	}}))
	if err := e.Close(); err != nil {
		w.t.Fatal(err)
	}
	for _, topic := range []freshet.Topic{
		freshet.Registrations, freshet.Follows, freshet.Followers, freshet.Posts,
	} {
		r := &kgo.Record{Topic: names.Topic(topic), Key: []byte("9"), Value: []byte{0xff}}
		if err := w.cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestWhatIsDeclaredIsWhatHappens runs each role alone on a log with events for it, until it has written everything
// that the topology says, and compares: what it reads, and that it writes nothing else.
func TestWhatIsDeclaredIsWhatHappens(t *testing.T) {
	w := open(t)
	w.publish()
	for _, g := range topology.Groups(names) {
		want := slices.Clone(g.Writes)
		if g.Table != "" {
			want = append(want, g.Table)
		}
		if g.Loop != "" && g.Name != names.Group(freshet.FollowingGroup) {
			// following writes to its loop when its rows have their turn, which takes a day; its sweep has a test.
			want = append(want, g.Loop)
		}
		slices.Sort(want)
		read, wrote := w.run(g, func(wrote []string) bool {
			return !slices.ContainsFunc(want, func(topic string) bool { return !slices.Contains(wrote, topic) })
		})
		if !slices.Equal(wrote, want) {
			t.Errorf("%s writes %v, and the topology says %v", g.Name, wrote, want)
		}
		want = slices.Clone(g.Inputs)
		if g.Loop != "" {
			want = append(want, g.Loop)
		}
		slices.Sort(want)
		if !slices.Equal(read, want) {
			t.Errorf("%s reads %v, and the topology says %v", g.Name, read, want)
		}
	}
}

// Every topic of the deployment is in the topology, and somebody writes it.
func TestEveryTopicHasAWriter(t *testing.T) {
	topics := topology.Topics(names)
	if len(topics) != len(names.TopicSpecs(1, freshet.Forever)) {
		t.Errorf("%d topics", len(topics))
	}
	for _, topic := range topics {
		if len(topic.Writers) == 0 {
			t.Errorf("nobody writes %s", topic.Name)
		}
	}
	for _, g := range topology.Groups(names) {
		if g.Again == "" || g.Ahead == "" || len(g.Inputs) == 0 || !strings.HasPrefix(g.Name, names.Prefix) {
			t.Errorf("%+v", g)
		}
		for _, topic := range slices.Concat(g.Inputs, g.Writes) {
			if !slices.ContainsFunc(topics, func(o topology.Topic) bool { return o.Name == topic }) {
				t.Errorf("%s has a topic that the deployment does not: %s", g.Name, topic)
			}
		}
	}
}

func TestDot(t *testing.T) {
	var b strings.Builder
	if err := topology.Dot(&b, topology.Groups(names), topology.Published(names)); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`"test.posts" -> "test.fanout";`, `"test.fanout" -> "test.tiers";`, `"api" -> "test.posts";`,
		`"test.fanout" -> "test.fanout-loop" [dir=both, style=dashed];`, `"test.archive" -> "the post store";`,
	} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("it lacks %s:\n%s", line, b.String())
		}
	}
}
