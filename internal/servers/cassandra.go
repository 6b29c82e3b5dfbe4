package servers

import (
	"context"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gocql/gocql"

	"freshet/internal/access"
)

var cassandraDistribution = distribution{
	name:      "cassandra-5.0.5",
	artifacts: []string{"org.apache.cassandra:cassandra-all:5.0.5"},
}

const cassandraLogging = `<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %p %logger{0}: %m%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="out"/></root>
</configuration>
`

// Cassandra starts one Cassandra node, or three that share the ring evenly. A node syncs its log every ten seconds, as
// nodes do that have others beside them, so a Kill may take what it has acknowledged since; with the settings
// commitlog_sync: batch and commitlog_sync_period: 0ms it takes nothing.
func Cassandra(ctx context.Context, o Options) (*Server, error) {
	count := max(1, o.CassandraNodes)
	if count != 1 && count != 3 {
		return nil, fmt.Errorf("%w: %d of Cassandra: want 1 or 3", ErrNodes, o.CassandraNodes)
	}
	java, err := findJava()
	if err != nil {
		return nil, err
	}
	jars, err := cassandraDistribution.jars(ctx)
	if err != nil {
		return nil, err
	}
	// All nodes listen on the same two ports, each on an address of its own: the driver asks the nodes that it finds
	// through others on the port of the first.
	s, err := prepare("cassandra", o, 1, 2)
	if err != nil {
		return nil, err
	}
	a, err := o.Secure.access()
	if err == nil {
		err = s.layOutCassandra(count, java, jars, o)
	}
	if err != nil {
		return nil, s.abandon(err)
	}
	s.serves = func(ctx context.Context) error {
		if o.Secure != nil {
			if err := o.Secure.cassandraUser(ctx, s.Addrs()[0]); err != nil {
				return err
			}
		}
		for _, address := range s.Addrs() {
			if err := askCassandra(ctx, address, count, a); err != nil {
				return fmt.Errorf("ask %s: %w", address, err)
			}
		}
		return nil
	}
	return s.open(ctx)
}

// layOutCassandra writes the configuration of the nodes.
func (s *Server) layOutCassandra(count int, java, jars string, o Options) error {
	native, storage := s.ports.numbers[0], s.ports.numbers[1]
	seeds := make([]string, count)
	for i := range seeds {
		seeds[i] = cassandraAddress(i, storage)
	}
	secured := map[string]string{}
	if o.Secure != nil {
		secured = o.Secure.cassandra()
	}
	for i := range count {
		dir := filepath.Join(s.dir, fmt.Sprintf("node-%d", i+1))
		config, logging := filepath.Join(dir, "cassandra.yaml"), filepath.Join(dir, "logback.xml")
		own := map[string]string{
			"listen_address":        cassandraHost(i),
			"rpc_address":           cassandraHost(i),
			"native_transport_port": strconv.Itoa(native),
			"storage_port":          strconv.Itoa(storage),
			"initial_token":         strconv.FormatInt(cassandraToken(i, count), 10),
			"seed_provider":         fmt.Sprintf(seedProvider, strings.Join(seeds, ",")),
		}
		if err := writeSettings(config, ": ", cassandraSettings(dir), own, secured, o.Settings); err != nil {
			return err
		}
		if err := writeFile(logging, cassandraLogging); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, "tmp", "README"), "Native libraries are unpacked here.\n"); err != nil {
			return err
		}
		args := cassandraFlags()
		if count > 1 { // three compilers and collectors that run beside each other would take the machine
			args = append(args, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
		}
		if o.QuickSchema {
			args = append(args, "-Dcassandra.unsafesystem=true")
		}
		args = append(args,
			"-javaagent:"+filepath.Join(jars, "jamm-0.4.0.jar"),
			"-Djava.io.tmpdir="+filepath.Join(dir, "tmp"),
			"-Dlogback.configurationFile="+logging,
			"-Dcassandra.config=file:"+config,
			"-Dcassandra.storagedir="+dir,
			"-cp", filepath.Join(jars, "*"),
			"org.apache.cassandra.service.CassandraDaemon",
		)
		name := fmt.Sprintf("Cassandra node %d", i+1)
		s.nodes = append(s.nodes, &node{name: name, address: cassandraAddress(i, native), process: &process{
			name: name, program: java, args: args, dir: dir, log: filepath.Join(dir, "cassandra.log"),
		}})
	}
	return nil
}

func cassandraHost(i int) string { return fmt.Sprintf("127.0.0.%d", i+1) }

func cassandraAddress(i, port int) string {
	return net.JoinHostPort(cassandraHost(i), strconv.Itoa(port))
}

// cassandraToken is where on the ring, which is all numbers of 64 bits, node i of count begins.
func cassandraToken(i, count int) int64 { return int64(uint64(i) * (math.MaxUint64 / uint64(count))) }

func cassandraSettings(dir string) map[string]string {
	in := func(folder string) string { return strconv.Quote(filepath.Join(dir, folder)) }
	return map[string]string{
		"cluster_name":           "freshet",
		"num_tokens":             "1",
		"auto_bootstrap":         "false", // every node has its share from the beginning
		"partitioner":            "org.apache.cassandra.dht.Murmur3Partitioner",
		"endpoint_snitch":        "SimpleSnitch",
		"data_file_directories":  "[" + in("data") + "]",
		"commitlog_directory":    in("commitlog"),
		"saved_caches_directory": in("saved_caches"),
		"hints_directory":        in("hints"),
		"cdc_raw_directory":      in("cdc"),
		"commitlog_sync":         "periodic",
		"commitlog_sync_period":  "10000ms",

		// A busy machine is slow, not broken.
		"read_request_timeout":  "20s",
		"range_request_timeout": "20s",
		"write_request_timeout": "20s",
		"request_timeout":       "20s",

		// Small, beside the tests that use it.
		"memtable_heap_space":    "96MiB",
		"memtable_offheap_space": "96MiB",
		"file_cache_size":        "64MiB",
		"key_cache_size":         "16MiB",
		"counter_cache_size":     "0MiB",
		// Dropped keyspaces leave nothing behind.
		"auto_snapshot": "false",
	}
}

// seedProvider has the nodes be their own seeds, so that none waits for another.
const seedProvider = "[{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{seeds: %q}]}]"

// cassandraFlags are the JVM's: memory, a quick start of a single node, and the doors that Java 17 keeps shut.
func cassandraFlags() []string {
	flags := []string{
		"-Xms512m", "-Xmx768m", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData", "-Djava.awt.headless=true",
		"-Djdk.attach.allowAttachSelf=true",
		"-Dcassandra.skip_wait_for_gossip_to_settle=0",
		"-Dcassandra.ring_delay_ms=100",
		"-Dcassandra.superuser_setup_delay_ms=0",
	}
	for _, export := range []string{
		"java.base/jdk.internal.misc", "java.base/jdk.internal.ref", "java.base/sun.nio.ch",
		"java.management.rmi/com.sun.jmx.remote.internal.rmi",
		"java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server", "java.rmi/sun.rmi.transport.tcp",
		"java.sql/java.sql", "jdk.unsupported/sun.misc", "jdk.naming.dns/com.sun.jndi.dns",
	} {
		flags = append(flags, "--add-exports="+export+"=ALL-UNNAMED")
	}
	for _, opened := range []string{
		"java.base/java.lang", "java.base/java.lang.module", "java.base/java.lang.reflect", "java.base/java.io",
		"java.base/java.net", "java.base/java.nio", "java.base/java.util", "java.base/java.util.concurrent",
		"java.base/java.util.concurrent.atomic", "java.base/jdk.internal.loader", "java.base/jdk.internal.ref",
		"java.base/jdk.internal.reflect", "java.base/jdk.internal.math", "java.base/jdk.internal.module",
		"java.base/jdk.internal.util.jar", "java.base/sun.nio.ch", "java.base/sun.net",
		"jdk.management/com.sun.management.internal", "jdk.management.jfr/jdk.management.jfr",
	} {
		flags = append(flags, "--add-opens="+opened+"=ALL-UNNAMED")
	}
	return flags
}

// askCassandra opens a session, as a program would. A node of several has to know the others, and all of them have to
// answer.
func askCassandra(ctx context.Context, address string, count int, a access.Access) error {
	session, err := cassandraSession(address, a)
	if err != nil {
		return err
	}
	defer session.Close()
	var version string
	err = session.Query("SELECT release_version FROM system.local").WithContext(ctx).Scan(&version)
	if err != nil || count == 1 {
		return err
	}
	var others int
	if err := session.Query("SELECT count(*) FROM system.peers_v2").WithContext(ctx).Scan(&others); err != nil {
		return err
	}
	if others != count-1 {
		return fmt.Errorf("%w: it knows %d others of %d", ErrNodes, others, count-1)
	}
	// A table of which every node has a replica.
	return session.Query("SELECT keyspace_name FROM system_distributed.view_build_status LIMIT 1").
		Consistency(gocql.All).WithContext(ctx).Iter().Close()
}

// quiet drops what the driver says about a server that is not there yet.
type quiet struct{}

func (quiet) Print(...any)          {}
func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}
