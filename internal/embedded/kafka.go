package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Kafka is a broker in this process.
type Kafka struct {
	cluster *kfake.Cluster
	addrs   []string
}

// brokerConfigs make kfake keep what a deployment's brokers would keep.
//
// Retention is off altogether. kfake applies a topic's retention to compacted topics as well, and a partition that it
// has emptied begins at offset 0 again after a restart, below what groups and tables have noted.
//
// Offsets of groups without members stay: an installation that nobody started for a month goes on where it was.
var brokerConfigs = map[string]string{
	"log.retention.ms":          "-1",
	"log.retention.bytes":       "-1",
	"offsets.retention.minutes": strconv.Itoa(int((100 * 365 * 24 * time.Hour).Minutes())),
	"log.cleaner.backoff.ms":    "3600000",
}

// StartKafka starts a broker that listens on a loopback address, keeping its data in dataDir, or in memory if that is
// empty. The caller holds the lock of dataDir. Acknowledged records outlive the process, also one that is killed; a
// power failure may take the last ones. Topics are never created on the fly. The broker's errors go to slog.Default.
//
// The whole log is read at the start, so starting takes longer as the data grows.
func StartKafka(dataDir, listen string) (*Kafka, error) {
	port, err := splitLoopback("the embedded Kafka", listen)
	if err != nil {
		return nil, err
	}
	options := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("freshet-embedded"),
		kfake.BrokerConfigs(brokerConfigs),
		kfake.WithLogger(logger{slog.Default()}),
		// kfake has its own idea of the address; ours is the one that was asked for.
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(context.Background(), network, listen)
		}),
	}
	if port != 0 {
		options = append(options, kfake.Ports(port))
	}
	if dataDir != "" {
		options = append(options, kfake.DataDir(dataDir))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return nil, portError("the embedded Kafka", listen, err)
	}
	return &Kafka{cluster: cluster, addrs: cluster.ListenAddrs()}, nil
}

// Addrs are the bootstrap addresses.
func (k *Kafka) Addrs() []string { return k.addrs }

// Close stops the broker after it has written its state. Clients are cut off.
func (k *Kafka) Close() { k.cluster.Close() }

// logger passes the broker's warnings and errors on.
type logger struct{ log *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("embedded Kafka: " + fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.log.Warn("embedded Kafka: " + fmt.Sprintf(format, args...))
	case kfake.LogLevelNone, kfake.LogLevelInfo, kfake.LogLevelDebug:
	}
}
