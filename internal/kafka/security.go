package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"freshet/internal/access"
)

// Security is how clients reach the brokers. The zero value is neither TLS nor SASL.
//
// There are two kinds of clients: sarama's, which goka is built on, and franz-go's for what goka does not do. Config
// and ClientOptions give both the same, from one place, and have both go through the same code for SASL.
type Security struct {
	access.Access
	// Mechanism is the name of one of Mechanisms; empty without a user.
	Mechanism string
}

// ErrSecurity is wrapped by the errors of NewSecurity.
var ErrSecurity = errors.New("cannot authenticate")

const plainMechanism = "plain"

var mechanisms = map[string]func(a access.Access) sasl.Mechanism{
	plainMechanism: func(a access.Access) sasl.Mechanism {
		return plain.Auth{User: a.User, Pass: a.Password.Reveal()}.AsMechanism()
	},
	"scram-sha-256": func(a access.Access) sasl.Mechanism {
		return scram.Auth{User: a.User, Pass: a.Password.Reveal()}.AsSha256Mechanism()
	},
	"scram-sha-512": func(a access.Access) sasl.Mechanism {
		return scram.Auth{User: a.User, Pass: a.Password.Reveal()}.AsSha512Mechanism()
	},
}

// Mechanisms are the names of the SASL mechanisms, sorted.
func Mechanisms() []string { return slices.Sorted(maps.Keys(mechanisms)) }

// NewSecurity refuses what cannot work, and a password that would be sent as it is without TLS.
func NewSecurity(a access.Access, mechanism string) (Security, error) {
	if a.User == "" {
		if !a.Password.Empty() {
			return Security{}, fmt.Errorf("%w: there is a password for Kafka and no --kafka-user", ErrSecurity)
		}
		return Security{Access: a}, nil
	}
	switch {
	case mechanisms[mechanism] == nil:
		return Security{}, fmt.Errorf("%w: --kafka-sasl %s: want one of %s", ErrSecurity, mechanism,
			strings.Join(Mechanisms(), ", "))
	case a.Password.Empty():
		return Security{}, fmt.Errorf("%w: there is no password for --kafka-user %s", ErrSecurity, a.User)
	case mechanism == plainMechanism && a.TLS == nil:
		return Security{}, fmt.Errorf("%w: --kafka-sasl plain without TLS would send the password as it is; add "+
			"--kafka-tls, or use scram-sha-512", ErrSecurity)
	}
	return Security{a, mechanism}, nil
}

// Config is the package's Config for a client of brokers that want this.
func (s Security) Config(clientID string) *sarama.Config {
	cfg := Config(clientID)
	if s.TLS != nil {
		cfg.Net.TLS.Enable, cfg.Net.TLS.Config = true, s.TLS
	}
	if s.Mechanism != "" {
		mechanism := mechanisms[s.Mechanism](s.Access)
		net := &cfg.Net.SASL
		net.Enable, net.Mechanism = true, sarama.SASLMechanism(mechanism.Name())
		net.User, net.Password = s.User, s.Password.Reveal()
		net.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &conversation{mechanism: mechanism} }
	}
	return cfg
}

// ClientOptions are what a franz-go client needs to reach the brokers as a client with the configuration that config
// makes. Nil is nothing.
func ClientOptions(config func(clientID string) *sarama.Config) []kgo.Opt {
	if config == nil {
		return nil
	}
	return optionsOf(config(""))
}

// optionsOf translates.
func optionsOf(cfg *sarama.Config) []kgo.Opt {
	var opts []kgo.Opt
	if cfg.Net.TLS.Enable {
		opts = append(opts, kgo.DialTLSConfig(cfg.Net.TLS.Config))
	}
	if own := cfg.Net.SASL; own.Enable {
		a := access.Access{User: own.User, Password: access.NewSecret(own.Password)}
		opts = append(opts, kgo.SASL(mechanisms[strings.ToLower(string(own.Mechanism))](a)))
	}
	return opts
}

// conversation is the SCRAM of franz-go as sarama wants it.
type conversation struct {
	mechanism sasl.Mechanism
	session   sasl.Session
	first     []byte
	done      bool
}

// Begin implements sarama.SCRAMClient; the mechanism knows the user.
func (c *conversation) Begin(_, _, _ string) (err error) {
	c.session, c.first, err = c.mechanism.Authenticate(context.Background(), "")
	return err
}

// Step implements sarama.SCRAMClient. The first one, with nothing to answer, begins.
func (c *conversation) Step(challenge string) (string, error) {
	if c.first != nil {
		first := c.first
		c.first = nil
		return string(first), nil
	}
	var answer []byte
	var err error
	c.done, answer, err = c.session.Challenge([]byte(challenge))
	return string(answer), err
}

// Done implements sarama.SCRAMClient.
func (c *conversation) Done() bool { return c.done }
