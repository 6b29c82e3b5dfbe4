package directory_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/emitters"
	"freshet/internal/events"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
	"freshet/processors/directory"
	"freshet/processors/processortest"
	"freshet/views"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

func TestDirectory(t *testing.T) {
	c := processortest.Start(t, 4)
	ctx, cancel := context.WithTimeout(context.Background(), processortest.Patience)
	defer cancel()
	write, err := emitters.New(c.Brokers, c.Names, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := write.Close(); err != nil {
			t.Error(err)
		}
	})
	stop := c.Processor(freshet.DirectoryGroup, directory.New)
	accounts, err := views.NewAccounts(c.Brokers, c.Names, c.ViewSettings("accounts"))
	if err != nil {
		t.Fatal(err)
	}
	c.Run("accounts", accounts.Run)
	c.Await("accounts recovered", accounts.Ready())

	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	position, err := write.Register(ctx, "ada", at, nil)
	if err != nil {
		t.Fatal(err)
	}
	ada, err := accounts.AwaitRegistration(ctx, "ada", position.Offset)
	if err != nil {
		t.Fatal(err)
	}
	want := freshet.Account{ID: "ada", Number: freshet.NumberAt(position.Partition, position.Offset), CreatedAt: at}
	if ada != want {
		t.Fatalf("registered: got %+v, want %+v", ada, want)
	}

	// A second registration of the id leaves the account alone, and is seen to have been applied.
	second, err := write.Register(ctx, "ada", at.Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	if ada, err = accounts.AwaitRegistration(ctx, "ada", second.Offset); err != nil || ada != want {
		t.Fatalf("registered again: got %+v, %v, want %+v", ada, err, want)
	}

	profile := func(a freshet.Account) freshet.Account {
		t.Helper()
		position, err := write.Profile(ctx, a, at)
		if err != nil {
			t.Fatal(err)
		}
		if err := accounts.AwaitProfile(ctx, a.ID, position.Offset); err != nil {
			t.Fatal(err)
		}
		a, _, err = accounts.ByNumber(a.Number)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	want.Name, want.Closed = "Ada", true
	if got := profile(want); got != want {
		t.Fatalf("closed: got %+v, want %+v", got, want)
	}

	// A record that nobody can read, and a key that is no account id, do not stop the others.
	partition := freshet.PartitionOf("ada", 4)
	registration, err := proto.Marshal(&events.Registration{At: 1})
	if err != nil {
		t.Fatal(err)
	}
	topic := c.Names.Topic(freshet.Registrations)
	c.Put(
		&kgo.Record{Topic: topic, Partition: partition, Key: []byte("ada"), Value: []byte{0xff}},
		&kgo.Record{Topic: topic, Partition: partition, Key: []byte(freshet.NumberKey(ada.Number)), Value: registration},
	)

	// The table comes back from Kafka, and the closed id becomes a new account.
	stop()
	c.Processor(freshet.DirectoryGroup, directory.New)
	third, err := write.Register(ctx, "ada", at, &ada.Number)
	if err != nil {
		t.Fatal(err)
	}
	next, err := accounts.AwaitRegistration(ctx, "ada", third.Offset)
	if err != nil {
		t.Fatal(err)
	}
	if number := freshet.NumberAt(third.Partition, third.Offset); next.Number != number || next.Closed || next.Name != "" {
		t.Fatalf("registered after its end: got %+v, want an open account with number %d", next, number)
	}
	old, ok, err := accounts.ByNumber(ada.Number)
	if want := (freshet.Account{ID: "ada", Number: ada.Number, Closed: true}); err != nil || !ok || old != want {
		t.Fatalf("the first account: got %+v, %v, %v, want %+v", old, ok, err, want)
	}
	if a, ok, err := accounts.ByID("bob"); err != nil || ok {
		t.Fatalf("an id that nobody has: got %+v, %v, %v", a, ok, err)
	}

	given := make(map[string]bool)
	for _, letter := range c.Read(c.Names.Topic(freshet.DeadLetters), 2) {
		given[header(letter, kafka.HeaderTopic)+"@"+header(letter, kafka.HeaderOffset)] = true
	}
	for _, place := range []string{topic + "@2", topic + "@3"} {
		if !given[place] {
			t.Errorf("no dead letter for %s; there are those of %v", place, given)
		}
	}
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
