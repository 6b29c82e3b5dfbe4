// Package servers starts real Kafka, Redis and Cassandra as child processes on loopback ports, for tests and for trying
// things out. It needs no Docker: the Java servers come from Maven Central, once, and Redis is the redis-server that is
// installed.
//
//	s, err := servers.Kafka(ctx, servers.Options{Brokers: 3})
//	defer s.Close()
//	… s.Addrs() … s.Kill(0) … s.Start(ctx)
//
//	servers.go    Server: start, stop, kill, restart, the same for all three
//	process.go    one child process and its log; no child outlives this process (process_linux.go)
//	ports.go      ports that no other process of ours takes, also while their server is down
//	fetch.go      jars from Maven Central, fetched once for all processes of a user
//	secure.go     TLS and users
//	kafka.go, redis.go, cassandra.go    configuration, command line, and the question that shows that a server serves
//	rediscluster.go    six Redis nodes made into a cluster
//
// A server is ready when it has answered in its own protocol. An error about a server names its log and quotes the end.
package servers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/access"
)

// Options say what to start. The zero value is one node in a temporary directory.
type Options struct {
	// Dir keeps configuration, data, logs and the ports, so that a later server in the same Dir goes on where an earlier
	// one was. Empty: a temporary directory that Close removes. One Server at a time uses a Dir.
	Dir string
	// Brokers is how many Kafka brokers: 0 or 1, or 3, each of which is a controller as well.
	Brokers int
	// RedisNodes is how many Redis nodes: 0 or 1, or 6, which are a cluster: masters are nodes 0 to 2, and node i+3 is a
	// replica of node i until a fail-over. The servers of a cluster do not have users or TLS here.
	RedisNodes int
	// CassandraNodes is how many Cassandra nodes: 0 or 1, or 3, at 127.0.0.1, .2 and .3, which all are loopback on Linux
	// only. Keyspaces can have as many replicas.
	CassandraNodes int
	// QuickSchema spares Cassandra a flush to the disk at each change of a schema, which takes half a second. A Kill then
	// takes the tables with it.
	QuickSchema bool
	// Secure, unless nil, has clients use TLS and log in.
	Secure *Secure
	// Settings are added to the server's configuration and win over what is there: lines of server.properties,
	// redis.conf or cassandra.yaml.
	Settings map[string]string
}

// Secure is what a server shows its clients, and whom it lets in.
type Secure struct {
	// Keystore is a file with the server's key and, behind it, its certificate, both PEM. Cert and Key are the same in
	// files of their own. CA is the file with the certificate of who has signed it.
	Keystore, Cert, Key, CA string
	// User may do everything, but in Redis only what freshet needs. Kafka knows it by SCRAM-SHA-512. The password has no
	// spaces, commas or quotes.
	User, Password string
}

// access is that of the user; the zero value without security.
func (s *Secure) access() (access.Access, error) {
	if s == nil {
		return access.Access{}, nil
	}
	settings := access.Settings{TLSCA: s.CA, User: s.User}
	a, err := settings.Load("servers", "")
	a.Password = access.NewSecret(s.Password)
	return a, err
}

const (
	// startTimeout bounds a start, whatever the context allows: a busy machine takes ten times what an idle one does.
	startTimeout = 5 * time.Minute
	// stopTimeout is how long a node may take to end by itself before it is killed.
	stopTimeout = 20 * time.Second
	// attemptTimeout bounds one question whether a server serves.
	attemptTimeout = 5 * time.Second
	// attemptEvery is the pause between two of them.
	attemptEvery = 20 * time.Millisecond
)

// ErrNodes is wrapped by the refusal of a number of nodes.
var ErrNodes = errors.New("cannot start that many nodes")

// ErrNoNode is wrapped by the errors for a node that the server does not have.
var ErrNoNode = errors.New("no such node")

// Server is one server, or several that belong together: its nodes, numbered from 0. The methods may be called from any
// goroutine, but those that start and stop a node not at the same time.
type Server struct {
	name      string
	dir       string
	temporary bool
	ports     *ports
	nodes     []*node
	brokers   *brokers                        // of Kafka
	serves    func(ctx context.Context) error // one attempt, while every node runs
}

// node is one process with its place and its way to start.
type node struct {
	name    string
	address string
	process *process
}

// Addrs are the addresses of the nodes, which they keep.
func (s *Server) Addrs() []string {
	addrs := make([]string, len(s.nodes))
	for i, n := range s.nodes {
		addrs[i] = n.address
	}
	return addrs
}

// Dir is where everything of the server lies.
func (s *Server) Dir() string { return s.dir }

// Start starts those of the nodes (all, if none is named) that do not run, on the data and the ports that they had. It
// waits until they serve, for which all the others must run too; to run a part only, see StartOnly.
func (s *Server) Start(ctx context.Context, nodes ...int) error {
	if err := s.StartOnly(nodes...); err != nil {
		return err
	}
	return s.awaitServing(ctx)
}

// StartOnly is Start without waiting.
func (s *Server) StartOnly(nodes ...int) error {
	return s.each(nodes, func(n *node) error { return n.process.start() })
}

// Stop ends nodes, all if none is named: it asks them, and kills those that take too long.
func (s *Server) Stop(nodes ...int) error {
	return s.each(nodes, func(n *node) error { return n.process.stop(stopTimeout) })
}

// Kill ends nodes, all if none is named, as kill -9 does, and waits until they are gone.
func (s *Server) Kill(nodes ...int) error {
	return s.each(nodes, func(n *node) error { return n.process.stop(0) })
}

// Restart stops nodes, all if none is named, and starts them again.
func (s *Server) Restart(ctx context.Context, nodes ...int) error {
	if err := s.Stop(nodes...); err != nil {
		return err
	}
	return s.Start(ctx, nodes...)
}

// Wait returns when ctx ends, or with an error when a node ends that nobody stopped.
func (s *Server) Wait(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range s.nodes {
		g.Go(func() error { return n.process.wait(ctx) })
	}
	return g.Wait()
}

// Close stops every node and gives the ports back. A temporary directory is removed, and since nobody will see its data
// again the nodes are killed then.
func (s *Server) Close() error {
	end := s.Stop
	if s.temporary {
		end = s.Kill
	}
	err := errors.Join(end(), s.ports.release())
	if err == nil && s.temporary {
		err = os.RemoveAll(s.dir)
	}
	return err
}

// each does something to several nodes at once.
func (s *Server) each(nodes []int, do func(n *node) error) error {
	if len(nodes) == 0 {
		for i := range s.nodes {
			nodes = append(nodes, i)
		}
	}
	for _, i := range nodes {
		if i < 0 || i >= len(s.nodes) {
			return fmt.Errorf("%w: node %d of %s, which has %d", ErrNoNode, i, s.name, len(s.nodes))
		}
	}
	errs := make([]error, len(nodes))
	var g errgroup.Group
	for at, i := range nodes {
		g.Go(func() error {
			errs[at] = do(s.nodes[i])
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs, so that none hides another
	return errors.Join(errs...)
}

// prepare makes the directory and reserves perNode ports for each of count nodes.
func prepare(name string, o Options, count, perNode int) (s *Server, err error) {
	s = &Server{name: name, dir: o.Dir}
	if s.dir == "" {
		s.temporary = true
		if s.dir, err = os.MkdirTemp("", "freshet-"+name+"-"); err != nil {
			return nil, fmt.Errorf("make a directory for %s: %w", name, err)
		}
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return nil, fmt.Errorf("find the directory of %s: %w", name, err)
	}
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return nil, fmt.Errorf("make a directory for %s: %w", name, err)
	}
	s.ports, err = reservePorts(filepath.Join(s.dir, "ports"), count*perNode)
	if err != nil {
		if s.temporary {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
		return nil, fmt.Errorf("find ports for %s: %w", name, err)
	}
	return s, nil
}

// open starts a prepared server for the first time. On an error nothing runs, and the directory stays for its logs.
func (s *Server) open(ctx context.Context) (*Server, error) {
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Kill(), s.ports.release())
	}
	return s, nil
}

// abandon is for errors before the first start.
func (s *Server) abandon(err error) error {
	err = errors.Join(err, s.ports.release())
	if s.temporary {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// awaitServing asks until the answer is good, a node ends or the time is up.
func (s *Server) awaitServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	watch, stopWatching := context.WithCancelCause(ctx)
	defer stopWatching(nil)
	var g errgroup.Group
	g.Go(func() error {
		if err := s.Wait(watch); err != nil {
			stopWatching(err)
		}
		return nil
	})
	err := s.ask(watch)
	if cause := context.Cause(watch); err != nil && cause != nil && ctx.Err() == nil {
		err = cause // a node has ended: that is the story, not the question that failed
	} else if err != nil {
		err = fmt.Errorf("%s does not serve: %w%s", s.name, err, s.tails())
	}
	stopWatching(nil)
	_ = g.Wait() // never an error
	return err
}

func (s *Server) ask(ctx context.Context) error {
	tick := time.NewTicker(attemptEvery)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := s.serves(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func (s *Server) tails() string {
	var b strings.Builder
	for _, n := range s.nodes {
		b.WriteString("\n" + n.process.tail())
	}
	return b.String()
}

// writeSettings writes a configuration file of lines "key<separator>value".
func writeSettings(file, separator string, settings ...map[string]string) error {
	all := map[string]string{}
	for _, s := range settings {
		maps.Copy(all, s)
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		b.WriteString(key + separator + all[key] + "\n")
	}
	return writeFile(file, b.String())
}

func writeFile(file, content string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
