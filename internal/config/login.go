package config

import (
	"fmt"

	"freshet"
	"freshet/internal/access"
	"freshet/internal/kafka"
)

// The variables of the environment that hold passwords, for servers without a password file.
const (
	KafkaPasswordVariable     = "FRESHET_KAFKA_PASSWORD"     //nolint:gosec // a name
	RedisPasswordVariable     = "FRESHET_REDIS_PASSWORD"     //nolint:gosec // a name
	CassandraPasswordVariable = "FRESHET_CASSANDRA_PASSWORD" //nolint:gosec // a name
)

// TopicPolicy is what topics on servers that were not started here are made with.
func (c Config) TopicPolicy() kafka.TopicPolicy {
	return kafka.TopicPolicy{Replication: c.Replication, MinInSync: c.MinInSync}
}

// TopicSpecs are the topics of the deployment.
func (c Config) TopicSpecs() []freshet.TopicSpec {
	return c.Names().TopicSpecs(c.Partitions, postsRetention)
}

// postsRetention is how long the log of posts is kept on servers that were not started here. The post store keeps posts
// for good.
const postsRetention = freshet.WeekRetention

// Login is what clients need to reach each server.
type Login struct {
	Kafka            kafka.Security
	Redis, Cassandra access.Access
}

// Login reads certificates and passwords. Errors name the flag.
func (c Config) Login() (Login, error) {
	var l Login
	reached, err := c.KafkaAccess.Load("kafka", KafkaPasswordVariable)
	if err != nil {
		return l, err
	}
	if l.Kafka, err = kafka.NewSecurity(reached, c.KafkaSASL); err != nil {
		return l, err
	}
	if l.Redis, err = c.RedisAccess.Load("redis", RedisPasswordVariable); err != nil {
		return l, err
	}
	if l.Cassandra, err = c.CassandraAccess.Load("cassandra", CassandraPasswordVariable); err != nil {
		return l, err
	}
	// Redis has a default user; a password without a name is that one's. Cassandra has none.
	for _, half := range []struct {
		server string
		access.Access
		nameless bool
	}{{"redis", l.Redis, true}, {"cassandra", l.Cassandra, false}} {
		if half.User != "" && half.Password.Empty() {
			return l, fmt.Errorf("--%s-user %s %w without a password: name its file with --%s-password-file", half.server,
				half.User, access.ErrSettings, half.server)
		}
		if half.User == "" && !half.Password.Empty() && !half.nameless {
			return l, fmt.Errorf("the password for %s %w without --%s-user", half.server, access.ErrSettings, half.server)
		}
	}
	return l, nil
}
