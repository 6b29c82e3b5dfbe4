package views_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/processors/processortest"
	"freshet/views"
)

const partitions = 4

func put(t *testing.T, c *processortest.Cluster, topic, key string, m proto.Message) {
	t.Helper()
	value, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c.Put(&kgo.Record{Topic: topic, Partition: freshet.PartitionOf(key, partitions), Key: []byte(key), Value: value})
}

// TestLifeOfAView: not before it has recovered, not after it has stopped, and in between what the table says.
func TestLifeOfAView(t *testing.T) {
	c := processortest.Start(t, partitions)
	topic := c.Names.Topic(freshet.Stats)
	for n := range freshet.Number(20) {
		put(t, c, topic, n.Key(), &events.Stats{Followers: uint64(n), Posts: 1})
	}
	stats, err := views.NewStats(c.Brokers, c.Names, c.ViewSettings("stats"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stats.Counts(1); !errors.Is(err, views.ErrNotReady) || stats.Current() {
		t.Errorf("before it runs: %v, current %v; want ErrNotReady", err, stats.Current())
	}
	stop := c.Run("stats", stats.Run)
	c.Await("stats recovered", stats.Ready())
	for n := range freshet.Number(20) {
		if got, err := stats.Counts(n); err != nil || got != (views.Counts{Followers: uint64(n), Posts: 1}) {
			t.Errorf("counts of %d: %+v, %v", n, got, err)
		}
	}
	if got, err := stats.Counts(99); err != nil || got != (views.Counts{}) {
		t.Errorf("an account without counts: %+v, %v", got, err)
	}
	if lag := stats.Lag(context.Background()); lag != 0 {
		t.Errorf("lag %d", lag)
	}
	stop()
	if _, err := stats.Counts(1); !errors.Is(err, views.ErrNotReady) || stats.Current() {
		t.Errorf("after its end: %v, current %v; want ErrNotReady", err, stats.Current())
	}
}

// TestAwait: a wait that begins before the row is there ends with it, one for what never comes ends with its context,
// and a row that waits for its registration is not there.
func TestAwait(t *testing.T) {
	c := processortest.Start(t, partitions)
	accounts, err := views.NewAccounts(c.Brokers, c.Names, c.ViewSettings("accounts"))
	if err != nil {
		t.Fatal(err)
	}
	c.Run("accounts", accounts.Run)
	c.Await("accounts recovered", accounts.Ready())
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()

	table := c.Names.Table(freshet.DirectoryGroup)
	type answer struct {
		account freshet.Account
		err     error
	}
	registered := make(chan answer, 1)
	go func() {
		account, err := accounts.AwaitRegistration(ctx, "ada", 5)
		registered <- answer{account, err}
	}()
	put(t, c, table, "ada", &events.DirectoryRow{Number: 9, Name: "Ada", NextProfile: 3}) // its registration is to come
	if err := accounts.AwaitProfile(ctx, "ada", 2); err != nil {
		t.Fatal(err)
	}
	if a, ok, err := accounts.ByID("ada"); ok || err != nil {
		t.Errorf("before its registration: %+v, %v", a, err)
	}
	put(t, c, table, "ada", &events.DirectoryRow{Id: "ada", Number: 9, Name: "Ada", NextRegistration: 5, NextProfile: 4})
	if err := accounts.AwaitProfile(ctx, "ada", 3); err != nil {
		t.Fatal(err)
	}
	put(t, c, table, "ada", &events.DirectoryRow{Id: "ada", Number: 9, Name: "Ada", NextRegistration: 6, NextProfile: 5})
	if err := accounts.AwaitProfile(ctx, "ada", 4); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-registered:
		t.Fatalf("the wait ended before the number could be found: %+v", got)
	default:
	}
	put(t, c, table, freshet.NumberKey(9), &events.DirectoryRow{Id: "ada"})
	if got := <-registered; got.err != nil || got.account.Number != 9 || got.account.ID != "ada" {
		t.Errorf("got %+v", got)
	}

	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := accounts.AwaitRegistration(short, "ada", 6); !errors.Is(err, views.ErrNotVisible) ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want ErrNotVisible and the context's error", err)
	}
	if err := accounts.AwaitProfile(short, "nobody", 0); !errors.Is(err, views.ErrNotVisible) {
		t.Errorf("got %v, want ErrNotVisible", err)
	}
}
