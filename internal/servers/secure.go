package servers

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gocql/gocql"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/internal/access"
	"freshet/internal/kafka"
)

// kafka are the settings of a broker whose clients come by TLS and SCRAM, and whose brokers and controllers talk to
// each other as they do without.
func (s *Secure) kafka(address, internal, controller string) map[string]string {
	return map[string]string{
		"listeners":                      "SASL_SSL://" + address + ",INTERNAL://" + internal + ",CONTROLLER://" + controller,
		"advertised.listeners":           "SASL_SSL://" + address + ",INTERNAL://" + internal,
		"inter.broker.listener.name":     "INTERNAL",
		"listener.security.protocol.map": "SASL_SSL:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"sasl.enabled.mechanisms":        "SCRAM-SHA-512",
		"ssl.keystore.type":              "PEM",
		"ssl.keystore.location":          s.Keystore,
		"ssl.truststore.type":            "PEM",
		"ssl.truststore.location":        s.CA,
		"ssl.client.auth":                "none",
		"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scramLogin,
	}
}

const scramLogin = "org.apache.kafka.common.security.scram.ScramLoginModule required;"

// kafkaOptions are those of a client.
func (s *Secure) kafkaOptions() ([]kgo.Opt, error) {
	a, err := s.access()
	if err != nil {
		return nil, err
	}
	security, err := kafka.NewSecurity(a, "scram-sha-512")
	if err != nil {
		return nil, err
	}
	return kafka.ClientOptions(security.Config), nil
}

// redis are the settings of a server with no default user and one that has no more rights than freshet needs.
func (s *Secure) redis(dir string, port int) (map[string]string, error) {
	users := filepath.Join(dir, "users.acl")
	err := writeFile(users, fmt.Sprintf("user default off\nuser %s on >%s ~{z* +@read +@write +@scripting +@connection "+
		"-@dangerous +info\n", s.User, s.Password))
	return map[string]string{
		"port": "0", "tls-port": strconv.Itoa(port), "tls-cert-file": s.Cert, "tls-key-file": s.Key,
		"tls-ca-cert-file": s.CA, "tls-auth-clients": "no", "aclfile": users,
	}, err
}

// cassandra are the settings of a node.
func (s *Secure) cassandra() map[string]string {
	return map[string]string{
		"authenticator": "PasswordAuthenticator",
		"client_encryption_options": fmt.Sprintf("{enabled: true, optional: false, keystore: %q, ssl_context_factory: "+
			"{class_name: org.apache.cassandra.security.PEMBasedSslContextFactory}}", s.Keystore),
	}
}

// cassandraUser makes the user, with the one that a new node has.
func (s *Secure) cassandraUser(ctx context.Context, address string) error {
	a, err := s.access()
	if err != nil {
		return err
	}
	a.User, a.Password = "cassandra", access.NewSecret("cassandra")
	session, err := cassandraSession(address, a)
	if err != nil {
		return err
	}
	defer session.Close()
	create := fmt.Sprintf("CREATE ROLE IF NOT EXISTS %s WITH PASSWORD = '%s' AND LOGIN = true AND SUPERUSER = true",
		s.User, strings.ReplaceAll(s.Password, "'", "''"))
	return session.Query(create).WithContext(ctx).Exec()
}

// cassandraSession is one with this node alone.
func cassandraSession(address string, a access.Access) (*gocql.Session, error) {
	config := gocql.NewCluster(address)
	config.ConnectTimeout, config.Timeout = attemptTimeout, attemptTimeout
	config.DisableInitialHostLookup = true
	config.Logger = quiet{}
	if a.TLS != nil {
		config.SslOpts = &gocql.SslOptions{Config: a.TLS, EnableHostVerification: true}
	}
	if a.User != "" {
		config.Authenticator = gocql.PasswordAuthenticator{Username: a.User, Password: a.Password.Reveal()}
	}
	return config.CreateSession()
}
