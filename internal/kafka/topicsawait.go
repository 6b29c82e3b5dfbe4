package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// visibleWithin bounds how long brokers may take to learn of a topic that the controller has created. It is
	// milliseconds on a healthy cluster, and a while on one that is just starting.
	visibleWithin = time.Minute
	visiblePause  = 20 * time.Millisecond
)

// awaitVisible waits until every broker knows the topics and a leader of each partition. The controller answers a
// creation, also somebody else's, before the brokers have heard of it, and to ask one of them then gets an error.
func awaitVisible(ctx context.Context, client *kgo.Client, adm *kadm.Client, topics []string) error {
	ctx, cancel := context.WithTimeout(ctx, visibleWithin)
	defer cancel()
	brokers, err := adm.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("ensure topics: list the brokers: %w", err)
	}
	tick := time.NewTicker(visiblePause)
	defer tick.Stop()
	for _, id := range brokers.NodeIDs() {
		for {
			err := visible(ctx, client.Broker(int(id)), topics)
			if err == nil {
				break
			}
			if !errors.Is(err, kerr.UnknownTopicOrPartition) && !errors.Is(err, kerr.LeaderNotAvailable) {
				return fmt.Errorf("ensure topics: look them up on broker %d: %w", id, err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("ensure topics: wait for broker %d to know them: %w: %w", id, ctx.Err(), err)
			case <-tick.C:
			}
		}
	}
	return nil
}

func visible(ctx context.Context, broker *kgo.Broker, topics []string) error {
	request := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		request.Topics = append(request.Topics, topic)
	}
	response, err := broker.RetriableRequest(ctx, request)
	if err != nil {
		return err
	}
	for _, topic := range response.(*kmsg.MetadataResponse).Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			return err
		}
		for _, partition := range topic.Partitions {
			if errors.Is(kerr.ErrorForCode(partition.ErrorCode), kerr.LeaderNotAvailable) {
				return kerr.LeaderNotAvailable
			}
		}
	}
	return nil
}
