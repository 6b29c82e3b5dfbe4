package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/deadletters"
)

// A record that nobody can read gets to the operator byte for byte, once for each group that reads it.
func TestDeadLetters(t *testing.T) {
	a := start(t)
	names := freshet.Names{Prefix: freshet.DefaultPrefix}
	client, err := kgo.NewClient(kgo.SeedBrokers(a.Kafka()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	garbage := []byte{0xff, 0, '\n', 0xfe}
	topic := names.Topic(freshet.Posts)
	record := &kgo.Record{Topic: topic, Key: []byte("7"), Value: garbage}
	if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	kafka := []string{"--kafka", strings.Join(a.Kafka(), ",")}
	tool := func(args string) result {
		t.Helper()
		return command(t, "", append(strings.Fields("dlq "+args), kafka...)...)
	}
	await := func(what string, right func([]listed) bool) (letters []listed) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			r := tool("list -o json")
			letters = nil
			if err := json.Unmarshal([]byte(r.stdout), &letters); err != nil {
				t.Fatal(r, err)
			}
			if right(letters) {
				return letters
			}
			if time.Now().After(deadline) {
				t.Fatalf("not so after %s: %s: %+v", patience, what, letters)
			}
		}
	}
	letters := await("both groups have given it up", func(list []listed) bool { return len(list) == 2 })
	groups := map[string]string{}
	for _, l := range letters {
		groups[l.Group] = l.ID
		if !bytes.Equal(l.Value, garbage) || string(l.Key) != "7" || l.Topic != topic || l.Tries != 1 {
			t.Errorf("letter %+v", l)
		}
	}
	id := groups[names.Group(freshet.ArchiveGroup)]
	if id == "" || groups[names.Group(freshet.FanoutGroup)] == "" {
		t.Fatalf("the groups are %v", groups)
	}
	if r := tool("show " + id + " --value"); r.code != 0 || r.stdout != string(garbage) {
		t.Errorf("the message: %+v", r)
	}
	tool("show "+id).expect(t, 0, "ff 00 0a fe", "")
	tool("show "+id+" --value --group fanout").expect(t, exitUsage, "", "there is no such dead letter")
	tool("show 0/77777").expect(t, exitUsage, "", "there is no such dead letter")
	tool("list").expect(t, 0, "freshet.archive  "+topic+"/", "")
	tool("list --by-reason --group archive").expect(t, 0, "freshet.archive  freshet.posts  1", "")
	if r := tool("list --group fanout -o jsonl"); r.code != 0 || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("fan-out's: %+v", r)
	}

	tool("retry "+id).expect(t, exitPlan, "retry", "--execute does it")
	if again := await("a plan", func([]listed) bool { return true }); len(again) != 2 {
		t.Errorf("a plan has done something: %+v", again)
	}
	tool("retry "+id+" --execute").expect(t, 0, "retry", "")
	again := await("it is given up again", func(list []listed) bool {
		return len(list) == 2 && list[0].Tries+list[1].Tries == 3
	})
	for _, l := range again {
		if l.Tries == 2 && (l.Group != names.Group(freshet.ArchiveGroup) || l.Offset != 1) {
			t.Errorf("the second try: %+v", l)
		}
	}
	// The try is a later message with the same key, and nobody can tell what either is about.
	tool("retry --all --group fanout --execute").expect(t, exitLeft, "leave", "1 letters are left alone")
	tool("drop --all --reason nothing-like-this --execute").expect(t, 0, "", "")
	tool("drop --all --execute").expect(t, 0, "drop", "")
	if r := tool("list -o jsonl"); r.code != 0 || r.stdout != "" {
		t.Errorf("after all were dropped: %+v", r)
	}
}

// listed is a letter as dlq list -o json has it.
type listed struct {
	ID     string `json:"letter"`
	Group  string `json:"group"`
	Topic  string `json:"topic"`
	Offset int64  `json:"offset"`
	Tries  int    `json:"tries"`
	Key    []byte `json:"key"`
	Value  []byte `json:"value"`
}

func TestDeadLetterUsage(t *testing.T) {
	for _, tt := range []struct{ args, says string }{
		{"", "want dlq list, dlq show"},
		{"lst", "want dlq list, dlq show"},
		{"show", "wants one LETTER or more"},
		{"show seven", `"seven" names no dead letter`},
		{"show 1/2 1/3 --value", "one message, got 2"},
		{"retry", "want LETTER..., or --all"},
		{"drop 1/2 --all", "want LETTER..., or --all"},
		{"list -o yaml", "want table, json or jsonl"},
	} {
		command(t, "", strings.Fields("dlq "+tt.args)...).expect(t, exitUsage, "", tt.says)
	}
	letter := &deadletters.Letter{Reason: strings.Repeat("é", 300) + "\nstack"}
	if got := shorten(letter.Why()); len([]rune(got)) != 101 {
		t.Errorf("a long reason: %s", got)
	}
}
