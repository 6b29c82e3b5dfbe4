package offsets

import (
	"testing"

	"go.uber.org/goleak"
)

// A client of sarama's that is closed while it opens a connection leaves the connection's reader behind, about once in
// a hundred runs.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/IBM/sarama.(*Broker).responseReceiver"))
}
