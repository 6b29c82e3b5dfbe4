// Package kafkatest is for the tests of packages that speak with Kafka.
package kafkatest

import (
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests and fails if goroutines are left. One of sarama's is expected: a client that is closed
// while it opens a connection leaves the connection's reader behind, about once in a hundred runs. A client that nobody
// closes would show by its other goroutines.
func Main(m *testing.M, others ...goleak.Option) {
	leftOver := goleak.IgnoreTopFunction("github.com/IBM/sarama.(*Broker).responseReceiver")
	goleak.VerifyTestMain(m, append(others, leftOver)...)
}
