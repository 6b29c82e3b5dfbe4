package kafka

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"sync"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"
)

// partitionChannel is how many messages wait in front of a partition's one goroutine: enough that it does not run dry
// between two messages of a claim.
const partitionChannel = 256

// ProcessorSettings are what ProcessorOptions needs.
type ProcessorSettings struct {
	// ClientID names the processor's clients; empty means the group's name.
	ClientID string
	// Config makes a configuration for each client; nil means Config(clientID).
	Config func(clientID string) *sarama.Config
	// Group is the consumer group of the processor.
	Group *Group
	// Storage keeps the tables; nil is for a processor without any.
	Storage storage.Builder
	// Update, unless nil, wraps the callback that is told of the records that are read back from the table's changelog.
	Update func(goka.UpdateCallback) goka.UpdateCallback
	// WrapProducer, unless nil, is given the processor's producer and returns the one that goka uses.
	WrapProducer func(goka.Producer) goka.Producer
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// ProcessorOptions are the options of every processor: own clients, Group's consumer group, no topic ever created, and
// nil messages given to the callback. Options that a caller appends win.
func ProcessorOptions(s ProcessorSettings) []goka.ProcessorOption {
	clientID := s.ClientID
	if clientID == "" {
		clientID = s.Group.cfg.Name
	}
	opts := []goka.ProcessorOption{
		goka.WithClientID(clientID),
		goka.WithLogger(gokaLogger{orDefaultLogger(s.Logger).With("processor", s.Group.cfg.Name)}),
		goka.WithConsumerGroupBuilder(s.Group.Builder()),
		goka.WithConsumerSaramaBuilder(consumerBuilder(s.Config)),
		goka.WithProducerBuilder(producerBuilder(s.Config, s.WrapProducer)),
		goka.WithTopicManagerBuilder(topicManagerBuilder(s.Config, clientID)),
		goka.WithPartitionChannelSize(partitionChannel),
		// goka would commit and drop them.
		goka.WithNilHandling(goka.NilProcess),
	}
	if s.Storage != nil {
		opts = append(opts, goka.WithStorageBuilder(s.Storage))
	}
	if s.Update != nil {
		opts = append(opts, goka.WithUpdateCallback(s.Update(goka.DefaultUpdate)))
	}
	return opts
}

// ViewSettings are what ViewOptions needs.
type ViewSettings struct {
	// ClientID names the view's clients.
	ClientID string
	// Config makes a configuration for each client; nil means Config(clientID).
	Config func(clientID string) *sarama.Config
	// Storage keeps the table; two views of a table on a host need different places.
	Storage storage.Builder
	// Update, unless nil, wraps the callback that is told of the table's records.
	Update func(goka.UpdateCallback) goka.UpdateCallback
	// Clients, unless nil, collects the view's clients, to be closed after its Run.
	Clients *ViewClients
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// ViewClients closes what goka leaves open: a view's Run returns without closing the view's clients. The zero value is
// ready to use; it is safe for concurrent use.
type ViewClients struct {
	mu   sync.Mutex
	open []io.Closer
}

// Close closes the clients of the view. Call it when the view's Run has returned, or when NewView has failed.
func (c *ViewClients) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, client := range c.open {
		if err := client.Close(); err != nil && !errors.Is(err, sarama.ErrClosedClient) {
			errs = append(errs, fmt.Errorf("close a client of a view: %w", err))
		}
	}
	c.open = nil
	return errors.Join(errs...)
}

func (c *ViewClients) add(client io.Closer) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, client)
}

// ViewOptions are the options of every view: it reconnects by itself, with clients of its own, and creates no topic.
// update is told of the table's records; nil is goka.DefaultUpdate.
func ViewOptions(s ViewSettings, update goka.UpdateCallback) []goka.ViewOption {
	if update == nil {
		update = goka.DefaultUpdate
	}
	if s.Update != nil {
		update = s.Update(update)
	}
	opts := []goka.ViewOption{
		goka.WithViewClientID(s.ClientID),
		goka.WithViewLogger(gokaLogger{orDefaultLogger(s.Logger).With("view", s.ClientID)}),
		goka.WithViewAutoReconnect(),
		goka.WithViewCallback(update),
		goka.WithViewConsumerSaramaBuilder(collecting(s.Clients, consumerBuilder(s.Config))),
		goka.WithViewTopicManagerBuilder(func(brokers []string) (goka.TopicManager, error) {
			m, err := topicManagerBuilder(s.Config, s.ClientID)(brokers)
			if err == nil {
				s.Clients.add(m)
			}
			return m, err
		}),
	}
	if s.Storage != nil {
		opts = append(opts, goka.WithViewStorageBuilder(s.Storage))
	}
	return opts
}

// NewEmitter makes an emitter with a producer of its own. A nil config means Config(clientID). It connects at once.
func NewEmitter(brokers []string, clientID string, config func(clientID string) *sarama.Config, topic string,
	codec goka.Codec) (*goka.Emitter, error) {
	e, err := goka.NewEmitter(brokers, goka.Stream(topic), codec,
		goka.WithEmitterClientID(clientID),
		goka.WithEmitterProducerBuilder(producerBuilder(config, nil)),
	)
	if err != nil {
		return nil, fmt.Errorf("make an emitter for %s at %v: %w", topic, brokers, err)
	}
	return e, nil
}

// The builders below make a new configuration in each call: goka's own ones change the one that they are given, and a
// processor calls some of them more than once.

// ConfigFor is what config makes for a client; a nil config is Config.
func ConfigFor(config func(string) *sarama.Config, clientID string) *sarama.Config {
	if config == nil {
		return Config(clientID)
	}
	cfg := config(clientID)
	cfg.ClientID = clientID
	return cfg
}

func consumerBuilder(config func(string) *sarama.Config) goka.SaramaConsumerBuilder {
	return func(brokers []string, clientID string) (sarama.Consumer, error) {
		return sarama.NewConsumer(brokers, ConfigFor(config, clientID))
	}
}

func collecting(clients *ViewClients, build goka.SaramaConsumerBuilder) goka.SaramaConsumerBuilder {
	return func(brokers []string, clientID string) (sarama.Consumer, error) {
		consumer, err := build(brokers, clientID)
		if err == nil {
			clients.add(consumer)
		}
		return consumer, err
	}
}

func producerBuilder(config func(string) *sarama.Config, wrap func(goka.Producer) goka.Producer) goka.ProducerBuilder {
	return func(brokers []string, clientID string, hasher func() hash.Hash32) (goka.Producer, error) {
		cfg := ConfigFor(config, clientID)
		// The partition of a key has to be the one that goka's tables and views look for it in.
		cfg.Producer.Partitioner = sarama.NewCustomHashPartitioner(hasher)
		p, err := goka.NewProducer(brokers, cfg)
		if err != nil || wrap == nil {
			return p, err
		}
		return wrap(p), nil
	}
}

func orDefaultLogger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.Default()
	}
	return l
}

// gokaLogger writes goka's log, most of it about inner steps, to slog at debug level. What ends a processor is
// an error of Run and logged by the supervisor.
type gokaLogger struct{ log *slog.Logger }

func (l gokaLogger) Print(args ...any)                 { l.log.Debug(fmt.Sprint(args...)) }
func (l gokaLogger) Println(args ...any)               { l.log.Debug(fmt.Sprint(args...)) }
func (l gokaLogger) Printf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
