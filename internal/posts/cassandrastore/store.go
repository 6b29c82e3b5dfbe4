// Package cassandrastore keeps posts and follower lists in Cassandra. It is the post store of a process that was given
// one.
//
//	schema.cql  the tables, and why they are as they are
//	schema.go   what a keyspace has, and whether that will do
//	migrations.go   the steps by which tables came to be as they are, in migrations/
//	migrate.go  applies those that are missing, one process at a time
//	store.go    Open, Close, and what an error says
//	posts.go    Apply, Posts, ByAuthor
//	followers.go    ApplyFollowers, Followers
//	progress.go     Progress, SetProgress
//	marks.go    posts that are saved before they are published
//	batch.go    how writes are put together and sent
//	token.go    where on the ring a partition lies
//	buckets.go  partitions of a list: which there are, and reading them one after another
//
// Every write carries a timestamp, which comes from the log: the offset of a post's event, the version of a relation,
// the progress itself. What is not in the log yet has one below all of these. Cassandra keeps for each column the value
// with the highest one, which is all that posts.Store asks for: no row is read before it is written, and writers need
// not know of each other.
//
// What a method has written is held by a quorum of the replicas when it returns, and read from a quorum, so it is seen
// by every later call of any process in the same data centre.
package cassandrastore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gocql/gocql"

	"freshet"
	"freshet/internal/access"
	"freshet/internal/posts"
)

// Options are those of Open. Addrs and Keyspace are needed.
type Options struct {
	// Addrs are nodes to begin with, host:port or host; the others are found through them.
	Addrs []string
	// Keyspace is created if it is missing: small letters, digits and '_'.
	Keyspace string
	// Replication is how many replicas, in each data centre, a keyspace that is created here has. 0: 3.
	Replication int
	// Consistency of reads and writes, as Cassandra names it. Empty: LOCAL_QUORUM. With less, a process may not see what
	// another has written.
	Consistency string
	// Timeout of one request. 0: 10 s, which is more than the servers' own, so that theirs comes first and says why.
	Timeout time.Duration
	// Access to the nodes.
	Access access.Access
	// Log gets what the driver says of its connections, at the debug level. Nil: slog.Default.
	Log *slog.Logger
}

const (
	defaultReplication = 3
	defaultTimeout     = 10 * time.Second
	defaultPort        = 9042

	// connectTimeout bounds each try to reach a node.
	connectTimeout = 5 * time.Second
	// reconnectEvery is how soon a node that came back is used again.
	reconnectEvery = time.Second
	// retries of a request on this or another node, for the failures that pass: a node that goes down, a timeout. What
	// outlasts them is the caller's, who knows better how long to go on.
	retries               = 3
	firstPause, lastPause = 50 * time.Millisecond, time.Second
	connectionsToEachNode = 2
)

// ErrRefused is wrapped by the errors of Open that come again however often it is tried: who connects is not let in, or
// does not trust the server.
var ErrRefused = errors.New("refused")

// ErrOptions is wrapped by the refusal of options that cannot work.
var ErrOptions = errors.New("cannot open the post store")

// Store is a posts.Store in Cassandra. Any number of processes may have it open.
type Store struct {
	session *gocql.Session
	where   string        // for errors
	slots   chan struct{} // one for each request that may be under way

	authors, followees *known // buckets that are noted in author_buckets and follower_buckets
}

var _ posts.Database = (*Store)(nil)

// Open connects. A keyspace that is new gets its tables; one that lacks later migrations, or has some that this program
// does not know, is refused with a *VersionError. An error says what to do.
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := configure(&o)
	if err != nil {
		return nil, err
	}
	if err := ensureSchema(ctx, o); err != nil {
		return nil, err
	}
	config.Keyspace = o.Keyspace
	config.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.RoundRobinHostPolicy())
	session, err := connect(ctx, *config)
	if err != nil {
		return nil, err
	}
	s := &Store{
		session: session,
		where:   fmt.Sprintf("Cassandra at %s, keyspace %s", strings.Join(o.Addrs, ","), o.Keyspace),
		slots:   make(chan struct{}, maxInFlight), authors: newKnown(), followees: newKnown(),
	}
	if err := session.AwaitSchemaAgreement(ctx); err != nil {
		session.Close()
		return nil, s.fail("wait until all nodes have the tables", err)
	}
	// A keyspace with more replicas than there are nodes is seen here, and not at the first post.
	if _, err := s.Progress(ctx); err != nil {
		session.Close()
		return nil, err
	}
	return s, nil
}

func configure(o *Options) (*gocql.ClusterConfig, error) {
	if o.Replication == 0 {
		o.Replication = defaultReplication
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Consistency == "" {
		o.Consistency = gocql.LocalQuorum.String()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if len(o.Addrs) == 0 {
		return nil, fmt.Errorf("%w: no address of Cassandra was given", ErrOptions)
	}
	if !keyspaceName.MatchString(o.Keyspace) {
		return nil, fmt.Errorf("%w: keyspace %q: want up to 48 small letters, digits or '_'", ErrOptions, o.Keyspace)
	}
	if o.Replication < 1 {
		return nil, fmt.Errorf("%w: %d replicas: want at least 1", ErrOptions, o.Replication)
	}
	hosts := make([]string, len(o.Addrs))
	for i, address := range o.Addrs {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			host, port = address, strconv.Itoa(defaultPort)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || host == "" {
			return nil, fmt.Errorf("%w: address %q: want host:port", ErrOptions, address)
		}
		hosts[i] = net.JoinHostPort(host, port)
	}
	config := gocql.NewCluster(hosts...)
	// Nodes that are found through others are asked on the port of the first.
	_, port, _ := net.SplitHostPort(hosts[0])
	config.Port, _ = strconv.Atoi(port)
	if err := config.Consistency.UnmarshalText([]byte(strings.ToUpper(o.Consistency))); err != nil {
		return nil, fmt.Errorf("%w: consistency %q: want one that Cassandra knows, such as LOCAL_QUORUM",
			ErrOptions, o.Consistency)
	}
	config.Timeout, config.ConnectTimeout = o.Timeout, connectTimeout
	config.NumConns = connectionsToEachNode
	config.ReconnectInterval = reconnectEvery
	config.RetryPolicy = &gocql.ExponentialBackoffRetryPolicy{NumRetries: retries, Min: firstPause, Max: lastPause}
	if o.Access.TLS != nil {
		config.SslOpts = &gocql.SslOptions{Config: o.Access.TLS, EnableHostVerification: true}
	}
	if o.Access.User != "" {
		config.Authenticator = gocql.PasswordAuthenticator{Username: o.Access.User, Password: o.Access.Password.Reveal()}
	}
	config.DefaultIdempotence = true // all of our statements are
	config.DefaultTimestamp = false  // all of our writes name theirs
	config.Logger = logger{o.Log}
	return config, nil
}

// connect makes a session. The driver does not take a context for that; it tries each address once, for
// connectTimeout at most.
func connect(ctx context.Context, config gocql.ClusterConfig) (*gocql.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	session, err := config.CreateSession()
	if err != nil && refusal.MatchString(err.Error()) {
		return nil, fmt.Errorf("connect to Cassandra at %s: %w: %w", strings.Join(config.Hosts, ","), ErrRefused, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Cassandra at %s: %w; is it up, and is that its CQL port?",
			strings.Join(config.Hosts, ","), err)
	}
	return session, nil
}

// refusal is in the errors that say so. The driver keeps no more of them than their text.
var refusal = regexp.MustCompile(`authentication required|(?i)provided username|x509: |tls: `)

// Close ends the connections.
func (s *Store) Close() error {
	s.session.Close()
	return nil
}

// badRequest is the lowest of the codes by which Cassandra says that a statement is wrong, and not the server.
const badRequest = 0x2000

// fail says what was attempted, where, and what may help.
func (s *Store) fail(what string, err error) error {
	var request gocql.RequestError
	if !errors.As(err, &request) || request.Code() < badRequest {
		err = fmt.Errorf("%w: %w", freshet.ErrStoreAway, err)
	}
	return fmt.Errorf("%s: %s: %w%s", s.where, what, err, hint(err))
}

// hint is what may help against an error, to be put behind it.
func hint(err error) string {
	var unavailable *gocql.RequestErrUnavailable
	switch {
	case errors.As(err, &unavailable):
		return fmt.Sprintf("; %d of the %d replicas needed for %s are up: start the others, or have fewer replicas",
			unavailable.Alive, unavailable.Required, unavailable.Consistency)
	case errors.Is(err, gocql.ErrNoConnections), errors.Is(err, gocql.ErrConnectionClosed):
		return "; is it up?"
	case errors.Is(err, gocql.ErrTimeoutNoResponse):
		return "; it is overloaded, or cannot be reached"
	}
	return ""
}

// query is a read. The caller scans it.
func (s *Store) query(ctx context.Context, statement string, args ...any) *gocql.Query {
	return s.session.Query(statement, args...).WithContext(ctx)
}

// logger passes on what the driver says. What matters of it comes back as an error of some call as well.
type logger struct{ log *slog.Logger }

func (l logger) Print(v ...any) { l.log.Debug("cassandra driver: " + fmt.Sprint(v...)) }
func (l logger) Printf(format string, v ...any) {
	l.log.Debug("cassandra driver: " + fmt.Sprintf(format, v...))
}
func (l logger) Println(v ...any) { l.log.Debug("cassandra driver: " + fmt.Sprint(v...)) }
