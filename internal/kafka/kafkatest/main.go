// Package kafkatest is for the tests of packages that speak with Kafka.
package kafkatest

import (
	"flag"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests and fails if goroutines are left. One of sarama's is expected: a client that is closed
// while it opens a connection leaves the connection's reader behind, about once in a hundred runs. A client that nobody
// closes would show by its other goroutines.
//
// Its tests that call t.Parallel wait for Kafka most of the time, so more of them run at once than there are cores,
// unless -parallel says otherwise.
func Main(m *testing.M, others ...goleak.Option) {
	AtOnce(4)
	leftOver := goleak.IgnoreTopFunction("github.com/IBM/sarama.(*Broker).responseReceiver")
	goleak.VerifyTestMain(m, append(others, leftOver)...)
}

// AtOnce lets so many of the tests that call t.Parallel run at once, unless -parallel says otherwise. It is called
// before any test runs.
func AtOnce(n int) {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if said {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // there is no such flag any more
	}
}
