package kafka

import (
	"fmt"
	"slices"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

// topicManager tells goka which partitions a topic has and where they end. It creates nothing, because goka would keep
// a loop topic for an hour; EnsureTopics has made the topics before, and compared their settings. goka's own manager
// leaves its client open when the broker goes away while it is made, as often as a processor is started again.
type topicManager struct{ sarama.Client }

func topicManagerBuilder(config func(string) *sarama.Config, clientID string) goka.TopicManagerBuilder {
	return func(brokers []string) (goka.TopicManager, error) {
		client, err := sarama.NewClient(brokers, ConfigFor(config, clientID))
		if err != nil {
			return nil, fmt.Errorf("ask %v for topics: %w", brokers, err)
		}
		return topicManager{client}, nil
	}
}

// Partitions implements goka.TopicManager.
func (m topicManager) Partitions(topic string) ([]int32, error) {
	// Of all topics: asked for one by name, a broker may create it.
	if err := m.RefreshMetadata(); err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	topics, err := m.Topics()
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	if !slices.Contains(topics, topic) {
		return nil, fmt.Errorf("topic %s: %w", topic, sarama.ErrUnknownTopicOrPartition)
	}
	return m.Client.Partitions(topic)
}

// EnsureTopicExists implements goka.TopicManager.
func (m topicManager) EnsureTopicExists(topic string, _, _ int, _ map[string]string) error {
	_, err := m.Partitions(topic)
	return err
}

// EnsureStreamExists implements goka.TopicManager.
func (m topicManager) EnsureStreamExists(topic string, _ int) error {
	return m.EnsureTopicExists(topic, 0, 0, nil)
}

// EnsureTableExists implements goka.TopicManager.
func (m topicManager) EnsureTableExists(topic string, _ int) error {
	return m.EnsureTopicExists(topic, 0, 0, nil)
}
