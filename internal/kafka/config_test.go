package kafka

import (
	"testing"
	"time"
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
	other := Config("a")
	other.ClientID = "b"
	other.Producer.Retry.Max = 1
	if cfg.ClientID != "a" || cfg.Producer.Retry.Max == 1 {
		t.Error("two configurations share something")
	}
}
