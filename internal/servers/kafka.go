package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// kafkaDistribution has the broker, the command-line tools, and what lets the broker log through Log4j.
var kafkaDistribution = distribution{
	name: "kafka-4.1.0",
	artifacts: []string{
		"org.apache.kafka:kafka_2.13:4.1.0",
		"org.apache.kafka:kafka-tools:4.1.0",
		"org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
	},
}

const (
	// kafkaPorts of each broker: for clients, controllers, and for brokers where clients need TLS.
	kafkaPorts = 3
	// kafkaHeap is enough for tests; a broker of a deployment has several times that.
	kafkaHeap = "-Xmx384m"
	// kafkaCluster is any 16 bytes in base64.
	kafkaCluster = "ZnJlc2hldC1zZXJ2ZXJzMQ"

	kafkaLogging = `<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d %p %c{1}: %m%n"/></Console></Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
`
)

// Kafka starts brokers that are their own controllers. With three, topics have three replicas by default, of which two
// must be in sync. Topics are not created on the fly, and groups do not wait for further members when they form.
func Kafka(ctx context.Context, o Options) (*Server, error) {
	count := max(1, o.Brokers)
	if count != 1 && count != 3 {
		return nil, fmt.Errorf("%w: %d of Kafka: want 1 or 3", ErrNodes, o.Brokers)
	}
	java, err := findJava()
	if err != nil {
		return nil, err
	}
	jars, err := kafkaDistribution.jars(ctx)
	if err != nil {
		return nil, err
	}
	var opts []kgo.Opt
	if o.Secure != nil {
		if opts, err = o.Secure.kafkaOptions(); err != nil {
			return nil, err
		}
	}
	s, err := prepare("kafka", o, count, kafkaPorts)
	if err != nil {
		return nil, err
	}
	if err := s.layOutKafka(ctx, count, java, jars, o); err != nil {
		return nil, s.abandon(err)
	}
	s.serves = func(ctx context.Context) error { return askKafka(ctx, s.Addrs(), opts) }
	return s.open(ctx)
}

// brokers is how the brokers of a cluster are started.
type brokers struct {
	java    string
	base    []string // arguments of every Java process
	voters  []string // the controllers
	options Options
}

// layOutKafka writes the configuration of the brokers and formats their directories.
func (s *Server) layOutKafka(ctx context.Context, count int, java, jars string, o Options) error {
	logging := filepath.Join(s.dir, "log4j2.xml")
	if err := writeFile(logging, kafkaLogging); err != nil {
		return err
	}
	s.brokers = &brokers{java: java, voters: make([]string, count), options: o, base: []string{
		kafkaHeap, "-Djava.awt.headless=true", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData",
		"-Dlog4j2.configurationFile=file:" + logging, "-cp", filepath.Join(jars, "*"),
	}}
	for i := range count {
		s.brokers.voters[i] = fmt.Sprintf("%d@%s", i+1, loopback(s.ports.numbers[kafkaPorts*i+1]))
	}
	var g errgroup.Group
	for i := range count {
		n, format, err := s.layOutBroker(i+1, s.ports.numbers[kafkaPorts*i:], nil)
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
		g.Go(func() error { return format(ctx) })
	}
	return g.Wait()
}

// layOutBroker writes the configuration of a broker; format makes its directory, unless there is one.
func (s *Server) layOutBroker(id int, ports []int, more map[string]string) (
	n *node, format func(context.Context) error, err error,
) {
	b := s.brokers
	dir := filepath.Join(s.dir, fmt.Sprintf("broker-%d", id))
	address := loopback(ports[0])
	config := filepath.Join(dir, "server.properties")
	own := map[string]string{
		"node.id":              strconv.Itoa(id),
		"listeners":            "PLAINTEXT://" + address + ",CONTROLLER://" + loopback(ports[1]),
		"advertised.listeners": "PLAINTEXT://" + address,
		"log.dirs":             filepath.Join(dir, "data"),
	}
	secured := map[string]string{}
	if secure := b.options.Secure; secure != nil {
		secured = secure.kafka(address, loopback(ports[2]), loopback(ports[1]))
	}
	settings := kafkaSettings(len(b.voters), b.voters)
	if err := writeSettings(config, "=", settings, own, secured, b.options.Settings, more); err != nil {
		return nil, nil, err
	}
	name := fmt.Sprintf("Kafka broker %d", id)
	n = &node{name: name, address: address, process: &process{
		name: name, program: b.java, args: slices.Concat(b.base, []string{"kafka.Kafka", config}), dir: dir,
		log: filepath.Join(dir, "server.log"),
	}}
	return n, func(ctx context.Context) error {
		if _, err := os.Stat(filepath.Join(dir, "data", "meta.properties")); err == nil {
			return nil
		}
		args := slices.Concat(b.base, []string{"kafka.tools.StorageTool", "format", "-t", kafkaCluster, "-c", config})
		if secure := b.options.Secure; secure != nil {
			args = append(args, "--add-scram",
				fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", secure.User, secure.Password))
		}
		if out, err := exec.CommandContext(ctx, b.java, args...).CombinedOutput(); err != nil { //nolint:gosec // our own
			return fmt.Errorf("format the directory of %s: %w\n%s", name, err, out)
		}
		return nil
	}, nil
}

// ErrNoKafka is wrapped by the refusal to add a broker to a server that is not Kafka, or needs TLS.
var ErrNoKafka = errors.New("cannot add a broker")

// AddBroker starts one more broker in a cluster that runs and waits until every other knows it. It is no controller and
// has no partitions until some are given to it. It ends with the Server; a later one in the same Dir does not know it.
// Its node is the last.
func (s *Server) AddBroker(ctx context.Context) error {
	if s.brokers == nil || s.brokers.options.Secure != nil {
		return fmt.Errorf("%w: to %s", ErrNoKafka, s.name)
	}
	id := len(s.nodes) + 1
	file := filepath.Join(s.dir, fmt.Sprintf("ports-%d", id))
	ports, err := reservePorts(file, kafkaPorts)
	if err != nil {
		return fmt.Errorf("reserve ports for another broker: %w", err)
	}
	s.ports.locks = append(s.ports.locks, ports.locks...)
	alone := map[string]string{"process.roles": "broker", "listeners": "PLAINTEXT://" + loopback(ports.numbers[0])}
	n, format, err := s.layOutBroker(id, ports.numbers, alone)
	if err == nil {
		err = format(ctx)
	}
	if err != nil {
		return err
	}
	s.nodes = append(s.nodes, n)
	return s.Start(ctx, id-1)
}

func kafkaSettings(count int, voters []string) map[string]string {
	replicas, inSync := strconv.Itoa(count), strconv.Itoa(count/2+1)
	return map[string]string{
		"process.roles":                  "broker,controller",
		"controller.quorum.voters":       strings.Join(voters, ","),
		"controller.listener.names":      "CONTROLLER",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",

		"default.replication.factor":                       replicas,
		"min.insync.replicas":                              inSync,
		"offsets.topic.replication.factor":                 replicas,
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"share.coordinator.state.topic.min.isr":            inSync,
		"share.coordinator.state.topic.replication.factor": replicas,

		// A few partitions are enough for what runs here, and start sooner than fifty.
		"offsets.topic.num.partitions":                 "4",
		"transaction.state.log.num.partitions":         "4",
		"share.coordinator.state.topic.num.partitions": "4",

		"auto.create.topics.enable":        "false",
		"group.initial.rebalance.delay.ms": "0",
		// A broker that was killed is not let in again before its old session has run out.
		"broker.session.timeout.ms":    "3000",
		"broker.heartbeat.interval.ms": "500",
		// The cleaner's buffer would take a third of the heap.
		"log.cleaner.dedupe.buffer.size": strconv.Itoa(16 << 20),
	}
}

// askKafka wants every broker to know every other, and a controller: from then on topics can be created.
func askKafka(ctx context.Context, addrs []string, opts []kgo.Opt) error {
	for _, address := range addrs {
		c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address), kgo.RequestRetries(0)}, opts...)...)
		if err != nil {
			return err
		}
		m, err := kadm.NewClient(c).BrokerMetadata(ctx)
		c.Close()
		if err != nil {
			return fmt.Errorf("ask %s: %w", address, err)
		}
		if len(m.Brokers) < len(addrs) || m.Controller < 0 {
			return fmt.Errorf("%s knows %d of %d brokers, controller %d", address, len(m.Brokers), len(addrs), m.Controller)
		}
	}
	return nil
}

// KafkaTool runs one of Kafka's command-line tools, named by its Java class, and returns what it writes to stdout. The
// tool behind kafka-consumer-groups.sh is org.apache.kafka.tools.consumer.group.ConsumerGroupCommand.
func KafkaTool(ctx context.Context, class string, args ...string) ([]byte, error) {
	java, err := findJava()
	if err != nil {
		return nil, err
	}
	jars, err := kafkaDistribution.jars(ctx)
	if err != nil {
		return nil, err
	}
	command := append([]string{kafkaHeap, "-Dlog4j2.level=ERROR", "-cp", filepath.Join(jars, "*"), class}, args...)
	out, err := exec.CommandContext(ctx, java, command...).Output() //nolint:gosec // the caller is a test of ours
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return out, fmt.Errorf("run %s: %w", class, err)
	}
	return out, nil
}
