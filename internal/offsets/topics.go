package offsets

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"freshet/internal/topology"
)

// TopicState is a topic as it is in Kafka.
type TopicState struct {
	topology.Topic
	Missing    bool `json:"missing,omitempty"`
	Partitions int  `json:"partitions"`
	Replicas   int  `json:"replicas"`
	// Kept is for how long, in words: a duration, "for ever", or "the last of each key".
	Kept string `json:"kept"`
	// Records is how many offsets are kept; of a compacted topic, how many records at most.
	Records int64 `json:"records"`
}

// Topics tells of all topics of the deployment.
func (c *Cluster) Topics(ctx context.Context) ([]TopicState, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	known := topology.Topics(c.names)
	names := make([]string, len(known))
	for i, t := range known {
		names[i] = t.Name
	}
	details, err := c.adm.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("list the topics: %w", err)
	}
	states := make([]TopicState, len(known))
	var there []string
	for i, t := range known {
		d, ok := details[t.Name]
		states[i] = TopicState{Topic: t, Missing: !ok || d.Err != nil}
		if states[i].Missing {
			continue
		}
		there = append(there, t.Name)
		states[i].Partitions = len(d.Partitions)
		for _, p := range d.Partitions {
			states[i].Replicas = max(states[i].Replicas, len(p.Replicas))
		}
	}
	if len(there) == 0 {
		return states, nil
	}
	configs, err := c.adm.DescribeTopicConfigs(ctx, there...)
	if err != nil {
		return nil, fmt.Errorf("describe the topics: %w", err)
	}
	starts, err := listed(c.adm.ListStartOffsets(ctx, there...))
	if err != nil {
		return nil, fmt.Errorf("look up the starts of the topics: %w", err)
	}
	ends, err := listed(c.adm.ListEndOffsets(ctx, there...))
	if err != nil {
		return nil, fmt.Errorf("look up the ends of the topics: %w", err)
	}
	for i := range states {
		s := &states[i]
		if s.Missing {
			continue
		}
		config, err := configs.On(s.Name, nil)
		if err == nil {
			err = config.Err
		}
		if err != nil {
			return nil, fmt.Errorf("describe topic %s: %w", s.Name, err)
		}
		s.Kept = kept(config)
		for partition, end := range ends[s.Name] {
			start, _ := starts.Lookup(s.Name, partition)
			s.Records += end.Offset - start.Offset
		}
	}
	return states, nil
}

func kept(config kadm.ResourceConfig) string {
	words := "for ever"
	for _, setting := range config.Configs {
		value := setting.MaybeValue()
		switch setting.Key {
		case "cleanup.policy":
			if value == "compact" {
				return "the last of each key"
			}
		case "retention.ms":
			if ms, err := strconv.ParseInt(value, 10, 64); err == nil && ms >= 0 {
				words = (time.Duration(ms) * time.Millisecond).String()
			}
		}
	}
	return words
}
