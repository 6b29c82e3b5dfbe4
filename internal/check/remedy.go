package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kerr"

	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts/cassandrastore"
)

// Refused says whether an error of reaching a server comes again however often it is tried: somebody has to change
// something first.
func Refused(err error) bool {
	_, refused := explain("", err)
	return refused
}

// explain says what helps against an error, and whether trying again does not.
func explain(server string, err error) (remedy string, refused bool) {
	flag := func(name string) string { return "--" + server + name }
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		dns     *net.DNSError
		topics  *kafka.TopicsError
		schema  *cassandrastore.SchemaError
		version *cassandrastore.VersionError
	)
	switch {
	case errors.As(err, &unknown), says(err, "signed by unknown authority"):
		return "give the file with the certificate of who has signed it with " + flag("-tls-ca"), true
	case errors.As(err, &name), says(err, "certificate is valid for", "doesn't contain any IP SANs"):
		return "name the server as its certificate does, or give that name with " + flag("-tls-name"), true
	case errors.As(err, &invalid), says(err, "certificate has expired"):
		return "the server's certificate has to be renewed, or a clock is wrong", true
	case errors.As(err, &record), errors.Is(err, errHungUp), says(err, "does not look like a TLS handshake"):
		return "the port does not speak TLS: use the server's TLS port, or leave the " + flag("-tls…") + " flags out", true
	case says(err, "certificate required", "bad certificate", "unknown certificate"):
		return "the server wants a certificate that it trusts from its clients: " + flag("-tls-cert") + " and " +
			flag("-tls-key"), true
	case errors.As(err, &alert):
		return "server and client find no version or cipher of TLS that both allow", true
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, cassandrastore.ErrRefused),
		redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "NOAUTH"), says(err, "WRONGPASS", "NOAUTH"):
		return "look at " + flag("-user") + " and " + flag("-password-file") + ", and at the users of the server", true
	case errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return "the listener has no such mechanism: --kafka-sasl", true
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed),
		errors.Is(err, kerr.GroupAuthorizationFailed), says(err, "NOPERM"):
		return "the user lacks a right: see the server's ACLs", true
	case errors.As(err, &topics):
		return "change what is named, or start with the settings that the topics have", true
	case errors.Is(err, feeds.ErrEvicts):
		return "CONFIG SET maxmemory-policy noeviction, on every node, and in redis.conf", true
	case errors.Is(err, feeds.ErrOneOfMany):
		return "give the addresses of several nodes of the cluster: --redis HOST:PORT,HOST:PORT", true
	case errors.As(err, &version) && version.Older:
		return "freshet migrate brings the tables up to date", true
	case errors.As(err, &version):
		return "use the release that has made the tables, or a later one", true
	case errors.As(err, &schema):
		return "see docker/schema.cql for the tables", true
	case errors.Is(err, cassandrastore.ErrOptions):
		return "look at " + flag("") + " and --prefix", true
	case errors.As(err, &dns):
		return "is the name right, and known where this runs? See " + flag(""), false
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: is the server up, and is that its port? See " + flag(""), false
	case errors.Is(err, errFewBrokers), errors.Is(err, kerr.InvalidReplicationFactor):
		return "start the other brokers, or set --replication and --min-in-sync for as many as there are", false
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it hangs up: does the port want TLS (" + flag("-tls") + ") or a user (" + flag("-user") + ")?", false
	case errors.Is(err, context.DeadlineExceeded), timedOut(err):
		return "nothing comes back: is that the address, does a firewall let it through, and does the port want TLS (" +
			flag("-tls") + ")?", false
	}
	return "see the server's log", false
}

func timedOut(err error) bool {
	var slow net.Error
	return errors.As(err, &slow) && slow.Timeout()
}

// says is for drivers that keep no more of an error than its text.
func says(err error, texts ...string) bool {
	for _, text := range texts {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}
