package following

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A client of sarama's that is closed while it opens a connection leaves the connection's reader behind.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/IBM/sarama.(*Broker).responseReceiver"))
}
