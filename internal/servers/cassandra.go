package servers

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

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

// Cassandra starts one Cassandra node, of which keyspaces can have one replica. It syncs its log every ten seconds, as
// nodes do that have others beside them, so a Kill may take what it has acknowledged since; with the settings
// commitlog_sync: batch and commitlog_sync_period: 0ms it takes nothing.
func Cassandra(ctx context.Context, o Options) (*Server, error) {
	java, err := findJava()
	if err != nil {
		return nil, err
	}
	jars, err := cassandraDistribution.jars(ctx)
	if err != nil {
		return nil, err
	}
	s, err := prepare("cassandra", o, 1, 2)
	if err != nil {
		return nil, err
	}
	native, storage := s.ports.numbers[0], s.ports.numbers[1]
	config, logging := filepath.Join(s.dir, "cassandra.yaml"), filepath.Join(s.dir, "logback.xml")
	a, err := o.Secure.access()
	if err != nil {
		return nil, s.abandon(err)
	}
	secured := map[string]string{}
	if o.Secure != nil {
		secured = o.Secure.cassandra()
	}
	if err := writeSettings(config, ": ", s.cassandraSettings(native, storage), secured, o.Settings); err != nil {
		return nil, s.abandon(err)
	}
	if err := writeFile(logging, cassandraLogging); err != nil {
		return nil, s.abandon(err)
	}
	if err := writeFile(filepath.Join(s.dir, "tmp", "README"), "Native libraries are unpacked here.\n"); err != nil {
		return nil, s.abandon(err)
	}
	args := cassandraFlags()
	if o.QuickSchema {
		args = append(args, "-Dcassandra.unsafesystem=true")
	}
	args = append(args,
		"-javaagent:"+filepath.Join(jars, "jamm-0.4.0.jar"),
		"-Djava.io.tmpdir="+filepath.Join(s.dir, "tmp"),
		"-Dlogback.configurationFile="+logging,
		"-Dcassandra.config=file:"+config,
		"-Dcassandra.storagedir="+s.dir,
		"-cp", filepath.Join(jars, "*"),
		"org.apache.cassandra.service.CassandraDaemon",
	)
	s.nodes = []*node{{name: "cassandra", address: loopback(native), process: &process{
		name: "Cassandra", program: java, args: args, dir: s.dir, log: filepath.Join(s.dir, "cassandra.log"),
	}}}
	s.serves = func(ctx context.Context) error {
		if o.Secure != nil {
			if err := o.Secure.cassandraUser(ctx, loopback(native)); err != nil {
				return err
			}
		}
		return askCassandra(ctx, loopback(native), a)
	}
	return s.open(ctx)
}

func (s *Server) cassandraSettings(native, storage int) map[string]string {
	in := func(folder string) string { return strconv.Quote(filepath.Join(s.dir, folder)) }
	return map[string]string{
		"cluster_name":           "freshet",
		"num_tokens":             "1",
		"initial_token":          "0",
		"partitioner":            "org.apache.cassandra.dht.Murmur3Partitioner",
		"endpoint_snitch":        "SimpleSnitch",
		"listen_address":         "127.0.0.1",
		"rpc_address":            "127.0.0.1",
		"native_transport_port":  strconv.Itoa(native),
		"storage_port":           strconv.Itoa(storage),
		"seed_provider":          fmt.Sprintf(seedProvider, loopback(storage)),
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

// seedProvider has the node be its own seed.
const seedProvider = "[{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{seeds: %q}]}]"

// cassandraFlags are the JVM's: memory, a quick start of a single node, and the doors that Java 17 keeps shut.
func cassandraFlags() []string {
	flags := []string{
		"-Xms512m", "-Xmx512m", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData", "-Djava.awt.headless=true",
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

// askCassandra opens a session, as a program would.
func askCassandra(ctx context.Context, address string, a access.Access) error {
	session, err := cassandraSession(address, a)
	if err != nil {
		return err
	}
	defer session.Close()
	var version string
	return session.Query("SELECT release_version FROM system.local").WithContext(ctx).Scan(&version)
}

// quiet drops what the driver says about a server that is not there yet.
type quiet struct{}

func (quiet) Print(...any)          {}
func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}
