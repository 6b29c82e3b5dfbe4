package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	reachDial = 3 * time.Second
	// reachAnswer is how long a broker may take to say anything at all.
	reachAnswer = 8 * time.Second
)

// Reach asks the brokers, one after another until one answers, for the metadata of their cluster: its id, and the
// addresses that its brokers want to be called by. It tries each once and gives it 8 seconds. opts are those of
// ClientOptions.
func Reach(ctx context.Context, brokers []string, opts ...kgo.Opt) (kadm.Metadata, error) {
	var errs []error
	for _, address := range brokers {
		m, err := reach(ctx, address, opts)
		if err == nil {
			return m, nil
		}
		errs = append(errs, fmt.Errorf("kafka at %s does not answer: %w", address, err))
		if ctx.Err() != nil {
			break
		}
	}
	return kadm.Metadata{}, errors.Join(errs...)
}

// reach asks one broker. What it waits for may end only with the client.
func reach(ctx context.Context, address string, opts []kgo.Opt) (kadm.Metadata, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address), kgo.DialTimeout(reachDial),
		kgo.RequestRetries(0)}, opts...)...)
	if err != nil {
		return kadm.Metadata{}, fmt.Errorf("make a client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, reachAnswer)
	defer cancel()
	var found kadm.Metadata
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		found, err = kadm.NewClient(client).BrokerMetadata(ctx)
	}()
	select {
	case <-answered:
		client.Close()
	case <-ctx.Done():
		client.Close()
		<-answered
		err = context.Cause(ctx)
	}
	return found, err
}
