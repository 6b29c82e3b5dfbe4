package kafka

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"freshet"
)

// A broker hears of a topic some time after its creation, which may have been another process's.
func TestEnsureTopicsWaitsUntilTheyAreVisible(t *testing.T) {
	t.Parallel()
	for name, existing := range map[string][]string{"created here": nil, "created elsewhere": {"t.posts"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 8, existing...)
			specs := []freshet.TopicSpec{{Name: "t.posts", Partitions: 8, Retention: freshet.Forever}}
			policy := TopicPolicy{Replication: 1, MinInSync: 1}
			const answers = 4 // the first look, and three after the creation
			hidden := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "t.posts",
				Err: kerr.UnknownTopicOrPartition, Count: answers})
			err := EnsureTopics(context.Background(), c.brokers, specs, policy)
			var wrong *TopicsError
			if existing == nil && err != nil || existing != nil && !errors.As(err, &wrong) {
				t.Errorf("got %v, want nothing, or what differs in a topic that was there", err)
			}
			if hidden.Hits() != answers {
				t.Errorf("asked %d times, want %d", hidden.Hits(), answers)
			}
		})
	}
}
