package kafka

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet"
)

func TestEnsureTopics(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	ctx := context.Background()
	policy := TopicPolicy{Replication: 1, MinInSync: 1}
	specs := testNames.TopicSpecs(4, freshet.WeekRetention)
	for range 2 { // the second time they exist and are as wanted
		if err := EnsureTopics(ctx, c.brokers, specs, policy); err != nil {
			t.Fatal(err)
		}
	}
	got := c.settings(testNames.Topic(freshet.Posts))
	if got["retention.ms"] != "604800000" || got["cleanup.policy"] != "delete" {
		t.Errorf("posts: %v", got)
	}
	got = c.settings(testNames.Table(freshet.FanoutGroup))
	if got["retention.ms"] != "-1" || got["cleanup.policy"] != "compact" {
		t.Errorf("fanout-table: %v", got)
	}
}

func TestEnsureTopicsKeepsForever(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	policy := TopicPolicy{Replication: 1, MinInSync: 1, KeepForever: true}
	specs := testNames.TopicSpecs(1, freshet.WeekRetention)
	if err := EnsureTopics(context.Background(), c.brokers, specs, policy); err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs {
		if got := c.settings(spec.Name)["retention.ms"]; got != "-1" {
			t.Errorf("%s: retention.ms %s", spec.Name, got)
		}
	}
}

func TestEnsureTopicsListsWhatDiffers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	ctx := context.Background()
	value := func(s string) *string { return &s }
	if _, err := c.adm.CreateTopic(ctx, 3, 1, map[string]*string{
		"retention.ms": value("3600000"), "cleanup.policy": value("compact"), "min.insync.replicas": value("1"),
		"unclean.leader.election.enable": value("true"),
	}, "t.posts"); err != nil {
		t.Fatal(err)
	}
	specs := []freshet.TopicSpec{
		{Name: "t.posts", Partitions: 8, Retention: freshet.WeekRetention},
		{Name: "t.stats", Partitions: 8, Retention: freshet.Forever, Compacted: true},
	}
	err := EnsureTopics(ctx, c.brokers, specs[:1], TopicPolicy{Replication: 3, MinInSync: 2})
	var wrong *TopicsError
	if !errors.As(err, &wrong) {
		t.Fatalf("error %v", err)
	}
	var settings []string
	for _, m := range wrong.Mismatches {
		settings = append(settings, m.Setting)
		if m.Topic != "t.posts" || m.Remedy == "" || m.Wanted == m.Found || !strings.Contains(err.Error(), m.Remedy) {
			t.Errorf("mismatch %+v", m)
		}
	}
	want := []string{"partitions", "replication factor", "cleanup.policy", "min.insync.replicas", "retention.ms",
		"unclean.leader.election.enable"}
	if !slices.Equal(settings, want) {
		t.Errorf("settings %q, want %q\n%v", settings, want, err)
	}
	// What is missing is made although something else is wrong.
	if err := EnsureTopics(ctx, c.brokers, specs, TopicPolicy{Replication: 1, MinInSync: 1}); !errors.As(err, &wrong) {
		t.Fatalf("error %v", err)
	}
	if c.settings("t.stats")["cleanup.policy"] != "compact" {
		t.Error("t.stats was not made")
	}
	if err := EnsureTopics(ctx, c.brokers, specs, TopicPolicy{Replication: 1, MinInSync: 2}); err == nil {
		t.Error("a policy that cannot be met is accepted")
	}
	ended, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	<-ended.Done()
	if err := EnsureTopics(ended, c.brokers, specs, TopicPolicy{Replication: 1, MinInSync: 1}); !errors.Is(err,
		context.DeadlineExceeded) {
		t.Errorf("after the context's end: %v", err)
	}
}

func (c *cluster) settings(topic string) map[string]string {
	c.t.Helper()
	configs, err := c.adm.DescribeTopicConfigs(context.Background(), topic)
	if err != nil {
		c.t.Fatal(err)
	}
	found := map[string]string{}
	for _, config := range configs {
		for _, entry := range config.Configs {
			found[entry.Key] = entry.MaybeValue()
		}
	}
	return found
}
