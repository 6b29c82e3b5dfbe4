package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	cfg := Config("a")
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	if lasts := time.Duration(cfg.Producer.Retry.Max) * cfg.Producer.Retry.Backoff; lasts < 30*time.Second {
		t.Errorf("a producer gives up after %s, an election may take 30s", lasts)
	}
	if cfg.Producer.RequiredAcks != sarama.WaitForAll || !cfg.Producer.Idempotent || cfg.Net.MaxOpenRequests != 1 {
		t.Error("what is acknowledged may be lost, doubled or overtaken")
	}
	if cfg.Consumer.Offsets.Initial != sarama.OffsetOldest || cfg.Consumer.Group.ResetInvalidOffsets {
		t.Error("a group without a valid offset passes over records")
	}
	other := Config("a")
	other.ClientID = "b"
	other.Producer.Retry.Max = 1
	if cfg.ClientID != "a" || cfg.Producer.Retry.Max == 1 {
		t.Error("two configurations share something")
	}
}
