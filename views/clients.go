package views

import (
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"freshet/internal/kafka"
)

// clients are the connections that a goka view opens and never closes.
type clients struct {
	mu   sync.Mutex
	open []interface{ Close() error }
}

// options are those of the settings, with builders that note what they build.
func (c *clients) options(s kafka.ViewSettings) []goka.ViewOption {
	config := func() *sarama.Config {
		if s.Config == nil {
			return kafka.Config(s.ClientID)
		}
		return s.Config(s.ClientID)
	}
	return append(kafka.ViewOptions(s),
		goka.WithViewConsumerSaramaBuilder(func(brokers []string, _ string) (sarama.Consumer, error) {
			consumer, err := sarama.NewConsumer(brokers, config())
			if err == nil {
				c.add(consumer)
			}
			return consumer, err
		}),
		goka.WithViewTopicManagerBuilder(func(brokers []string) (goka.TopicManager, error) {
			policy := goka.NewTopicManagerConfig()
			policy.NoCreate = true
			manager, err := goka.NewTopicManager(brokers, config(), policy)
			if err == nil {
				c.add(manager)
			}
			return manager, err
		}))
}

func (c *clients) add(client interface{ Close() error }) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, client)
}

// close closes what is still open; goka does close one of the topic managers.
func (c *clients) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, client := range c.open {
		if err := client.Close(); err != nil && !errors.Is(err, sarama.ErrClosedClient) {
			errs = append(errs, fmt.Errorf("close a view's connection: %w", err))
		}
	}
	c.open = nil
	return errors.Join(errs...)
}
