package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startKafka(t *testing.T, dir, listen string) *Kafka {
	t.Helper()
	k, err := StartKafka(dir, listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func client(t *testing.T, k *Kafka, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(k.Addrs()...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func createTopic(t *testing.T, k *Kafka, topic string) {
	t.Helper()
	if _, err := kadm.NewClient(client(t, k)).CreateTopic(deadline(t), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

func produce(t *testing.T, k *Kafka, topic string, values ...string) {
	t.Helper()
	c := client(t, k)
	for _, v := range values {
		if err := c.ProduceSync(deadline(t), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRecords reads the topic from its start.
func wantRecords(t *testing.T, k *Kafka, topic string, want ...string) {
	t.Helper()
	c := client(t, k, kgo.ConsumeTopics(topic))
	var got []string
	for len(got) < len(want) {
		fetches := c.PollFetches(deadline(t))
		if err := fetches.Err(); err != nil {
			t.Fatalf("got %v, then: %v", got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestKafkaKeepsItsDataAndPort(t *testing.T) {
	dir := t.TempDir()
	k := startKafka(t, dir, "127.0.0.1:0")
	listen := k.Addrs()[0]
	createTopic(t, k, "posts")
	produce(t, k, "posts", "a", "b")
	wantRecords(t, k, "posts", "a", "b")
	k.Close()

	k = startKafka(t, dir, listen)
	if got := k.Addrs(); !slices.Equal(got, []string{listen}) {
		t.Errorf("started again on %v, want %s", got, listen)
	}
	produce(t, k, "posts", "c")
	wantRecords(t, k, "posts", "a", "b", "c")
}

// What a killed process leaves is the state of its files at that moment, which a copy shows.
func TestKafkaKilled(t *testing.T) {
	dir := t.TempDir()
	k := startKafka(t, dir, "127.0.0.1:0")
	createTopic(t, k, "posts")
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprint(i))
	}
	produce(t, k, "posts", want...)
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, startKafka(t, left, "127.0.0.1:0"), "posts", want...)
}

func TestKafkaInMemory(t *testing.T) {
	k := startKafka(t, "", "127.0.0.1:0")
	createTopic(t, k, "posts")
	produce(t, k, "posts", "a")
	wantRecords(t, k, "posts", "a")
}

func TestKafkaCreatesNoTopicOnTheFly(t *testing.T) {
	k := startKafka(t, "", "127.0.0.1:0")
	c := client(t, k, kgo.UnknownTopicRetries(0), kgo.AllowAutoTopicCreation())
	if err := c.ProduceSync(deadline(t), &kgo.Record{Topic: "typo"}).FirstErr(); err == nil {
		t.Error("a record was accepted for a topic that does not exist")
	}
}

// A compacted topic keeps rows of any age, though the broker would apply retention to it too.
func TestKafkaKeepsOldRows(t *testing.T) {
	k := startKafka(t, "", "127.0.0.1:0")
	policy := "compact"
	adm := kadm.NewClient(client(t, k))
	config := map[string]*string{"cleanup.policy": &policy}
	if _, err := adm.CreateTopic(deadline(t), 1, 1, config, "rows"); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-365 * 24 * time.Hour)
	for _, key := range []string{"a", "b", "c"} {
		r := &kgo.Record{Topic: "rows", Key: []byte(key), Value: []byte(key), Timestamp: old}
		if err := client(t, k).ProduceSync(deadline(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	k.cluster.ApplyRetention()
	k.cluster.Compact()
	wantRecords(t, k, "rows", "a", "b", "c")
}

func TestPortInUse(t *testing.T) {
	kafka := startKafka(t, "", "127.0.0.1:0").Addrs()[0]
	redis := startRedis(t)
	for _, address := range []string{kafka, redis.Addr()} {
		_, kafkaErr := StartKafka("", address)
		_, redisErr := StartRedis(address)
		for server, err := range map[string]error{"Kafka": kafkaErr, "Redis": redisErr} {
			if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), address) {
				t.Errorf("%s: got %v, want an error that wraps ErrPortInUse and names %s", server, err, address)
			}
		}
	}
}

func TestAddressRefused(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1", "0.0.0.0:0", ":0", "192.0.2.1:0", "127.0.0.1:x", "127.0.0.1:70000"} {
		if _, err := StartKafka("", address); err == nil || errors.Is(err, ErrPortInUse) {
			t.Errorf("Kafka on %q: got %v", address, err)
		}
		if _, err := StartRedis(address); err == nil || errors.Is(err, ErrPortInUse) {
			t.Errorf("Redis on %q: got %v", address, err)
		}
	}
}
