//go:build real

package offsets

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/internal/servers"
)

// consumerGroups is what is behind kafka-consumer-groups.sh.
const consumerGroups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"

// place is an offset in a partition, as text.
type place = string

// beside runs the same resets through Kafka's own tool.
type beside struct {
	*Cluster
	t      *testing.T
	broker string
	dir    string
}

// tool is a plan of Kafka's own tool, or with --execute what it did: the new offset of each partition.
func (b *beside) tool(args ...string) (map[place]int64, error) {
	b.t.Helper()
	args = append([]string{"--bootstrap-server", b.broker, "--reset-offsets", "--group", "test.fanout"}, args...)
	out, err := servers.KafkaTool(b.t.Context(), consumerGroups, args...)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	offsets := map[place]int64{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] != "test.fanout" {
			continue
		}
		if offsets[fields[1]+"/"+fields[2]], err = strconv.ParseInt(fields[3], 10, 64); err != nil {
			b.t.Fatalf("the tool says %q", line)
		}
	}
	if len(offsets) == 0 {
		return nil, fmt.Errorf("the tool has planned nothing: %s", out)
	}
	return offsets, nil
}

func (b *beside) ours(to Target, allow Allow, topics ...string) Plan {
	b.t.Helper()
	scope, err := ParseScope(names, "fanout", topics...)
	if err != nil {
		b.t.Fatal(err)
	}
	p, err := b.Plan(b.t.Context(), scope, to, allow)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func news(p Plan) map[place]int64 {
	offsets := map[place]int64{}
	for _, m := range p.Moves {
		offsets[fmt.Sprintf("%s/%d", m.Topic, m.Partition)] = m.New
	}
	return offsets
}

// at is where the group stands in what is committed.
func (b *beside) at() map[place]int64 {
	b.t.Helper()
	fetched, err := b.adm.FetchOffsets(b.t.Context(), "test.fanout")
	if err != nil {
		b.t.Fatal(err)
	}
	offsets := map[place]int64{}
	fetched.Each(func(o kadm.OffsetResponse) { offsets[fmt.Sprintf("%s/%d", o.Topic, o.Partition)] = o.At })
	return offsets
}

// stand puts the group where each test begins.
func (b *beside) stand() {
	b.t.Helper()
	var o kadm.Offsets
	o.AddOffset("test.posts", 0, 15, -1)
	o.AddOffset("test.posts", 1, 12, -1)
	o.AddOffset("test.posts", 2, 20, -1)
	if err := b.adm.CommitAllOffsets(b.t.Context(), "test.fanout", o); err != nil {
		b.t.Fatal(err)
	}
}

// open starts a broker and puts in place: posts/0 with 0 to 20, posts/1 of which the first 10 of 20 were removed,
// posts/2 with 0 to 20 of which all but the last two are of an hour before; followers with 0 to 5, where the group
// has committed nothing.
func openBeside(t *testing.T, noon time.Time) *beside {
	kafka, err := servers.Kafka(t.Context(), servers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kafka.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	for topic, partitions := range map[string]int32{"test.posts": 3, "test.followers": 1, "test.replays": 1} {
		if _, err := adm.CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	produce := func(topic string, partition int32, count int, first time.Time) {
		for i := range count {
			r := &kgo.Record{Topic: topic, Partition: partition, Timestamp: first.Add(time.Duration(i) * time.Minute),
				Value: []byte{1}}
			if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	produce("test.posts", 0, 20, noon)
	produce("test.posts", 1, 20, noon)
	produce("test.posts", 2, 18, noon.Add(-time.Hour))
	produce("test.posts", 2, 2, noon.Add(18*time.Minute))
	produce("test.followers", 0, 5, noon)
	var cut kadm.Offsets
	cut.AddOffset("test.posts", 1, 10, -1)
	if _, err := adm.DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), kafka.Addrs(), names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &beside{c, t, kafka.Addrs()[0], t.TempDir()}
}

// TestBesideKafkasOwnTool makes the same plans with Kafka's own tool and compares. Where ours differs, it does so on
// purpose, and the row says why.
func TestBesideKafkasOwnTool(t *testing.T) {
	noon := time.Now().Add(-2 * time.Hour).Truncate(time.Minute).UTC()
	b := openBeside(t, noon)
	b.stand()
	datetime := func(t time.Time) string { return t.Format("2006-01-02T15:04:05.000") }
	rows := []Row{{"test.fanout", "test.posts", 0, 3}, {"test.fanout", "test.posts", 1, 11}}
	file := filepath.Join(b.dir, "offsets.csv")
	var text strings.Builder
	if err := WriteRows(&text, rows, false); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		tool   string // its arguments
		to     Target
		allow  Allow
		topics []string
		// refused is a part of why ours refuses what the tool would do.
		refused string
		// differs are ours where the tool has another offset, on purpose.
		differs map[place]int64
		reason  string
	}{
		{tool: "--to-earliest --topic test.posts", to: Target{kind: toEarliest}, topics: []string{"posts"}},
		{tool: "--to-earliest --topic test.posts:0,2", to: Target{kind: toEarliest}, topics: []string{"posts:0,2"}},
		{
			tool: "--to-latest --topic test.posts", to: Target{kind: toLatest}, topics: []string{"posts"},
			allow: Allow{Skip: true},
		},
		{
			tool: "--to-latest --topic test.posts", to: Target{kind: toLatest}, topics: []string{"posts"},
			refused: "passed over", reason: "no record is passed over unless an operator allows it",
		},
		{
			tool: "--to-current --topic test.posts", to: Target{kind: toCurrent}, topics: []string{"posts"},
		},
		{
			tool: "--to-current --topic test.followers", to: Target{kind: toCurrent}, topics: []string{"followers"},
			differs: map[place]int64{"test.followers/0": 0},
			reason:  "where nothing is committed the group begins at the start, and the tool passes over all of it",
		},
		{
			tool: "--to-offset 12 --topic test.posts:0,1", to: Target{kind: toOffset, offset: 12},
			topics: []string{"posts:0,1"},
		},
		{
			tool: "--to-offset 5 --topic test.posts:1", to: Target{kind: toOffset, offset: 5}, topics: []string{"posts:1"},
			refused: "5 records are gone", reason: "the tool goes to the start, 10, with a warning",
		},
		{
			tool: "--to-offset 5 --topic test.posts:1", to: Target{kind: toOffset, offset: 5}, topics: []string{"posts:1"},
			allow: Allow{Truncated: true},
		},
		{
			tool: "--to-offset 99 --topic test.posts:0", to: Target{kind: toOffset, offset: 99}, topics: []string{"posts:0"},
			allow: Allow{Skip: true, Truncated: true}, refused: "outside of what is kept",
			differs: map[place]int64{"test.posts/0": 99}, reason: "the tool goes to the end, with a warning",
		},
		{tool: "--shift-by -2 --topic test.posts", to: ShiftBy(-2), topics: []string{"posts"}},
		{
			tool: "--shift-by 3 --topic test.posts:0,1", to: ShiftBy(3), topics: []string{"posts:0,1"}, allow: Allow{Skip: true},
		},
		{
			tool: "--to-datetime " + datetime(noon.Add(12*time.Minute)) + " --topic test.posts", topics: []string{"posts"},
			to: ToTime(noon.Add(12 * time.Minute)),
		},
		{
			tool: "--to-datetime " + datetime(noon.Add(5*time.Minute)) + " --topic test.posts:1", topics: []string{"posts:1"},
			to: ToTime(noon.Add(5 * time.Minute)), refused: "at most 10 are gone",
			reason: "the tool begins with what is kept, and says nothing of what is gone",
		},
		{
			tool: "--to-datetime " + datetime(noon.Add(24*time.Hour)) + " --topic test.posts:0", topics: []string{"posts:0"},
			to: ToTime(noon.Add(24 * time.Hour)), refused: "later than the newest record", differs: map[place]int64{},
			reason: "a time to come is a mistyped one; the tool passes over all that is there",
		},
		{
			// Some minutes later it is the same record: the one before is an hour older.
			tool: "--by-duration PT1H50M --topic test.posts:2", topics: []string{"posts:2"},
			to: ToTime(time.Now().Add(-110 * time.Minute)),
		},
		{tool: "--from-file " + file, to: ToRows(rows), topics: []string{"posts:0,1"}},
		{
			tool: "--to-earliest --all-topics", to: Target{kind: toEarliest},
			differs: map[place]int64{"test.followers/0": 0, "test.replays/0": 0},
			reason:  "the tool leaves out topics in which nothing is committed",
		},
	} {
		t.Run(tt.tool, func(t *testing.T) {
			b.t = t
			tool, err := b.tool(strings.Fields(tt.tool)...)
			if err != nil {
				t.Fatal(err)
			}
			p := b.ours(tt.to, tt.allow, tt.topics...)
			if refused := strings.Join(p.Refused, "; "); tt.refused == "" && refused != "" ||
				!strings.Contains(refused, tt.refused) {
				t.Errorf("refused %q, want %q", refused, tt.refused)
			}
			want := maps.Clone(tool)
			if tt.differs != nil && len(tt.differs) == 0 {
				want = tt.differs
			}
			for at, offset := range tt.differs {
				if tool[at] == offset && slices.Contains(slices.Collect(maps.Keys(tool)), at) {
					t.Errorf("%s: the tool has %d as well: nothing differs", at, offset)
				}
				want[at] = offset
			}
			if got := news(p); !maps.Equal(got, want) {
				t.Errorf("ours %v, want %v, the tool's being %v", got, want, tool)
			}
			if (tt.refused != "" || tt.differs != nil) != (tt.reason != "") {
				t.Error("what differs has a reason, and nothing else has")
			}
		})
	}
	b.t = t
	t.Run("results", func(t *testing.T) { b.results(t, noon) })
	t.Run("export", func(t *testing.T) { b.exports(t) })
	t.Run("a group that runs", func(t *testing.T) { b.running(t) })
}

// results carries the same resets out, by the one and then by the other.
func (b *beside) results(t *testing.T, noon time.Time) {
	b.t = t
	for _, tt := range []struct {
		tool string
		to   Target
	}{
		{"--to-earliest", Target{kind: toEarliest}},
		{"--shift-by -1", ShiftBy(-1)},
		{"--to-datetime " + noon.Add(11*time.Minute).Format("2006-01-02T15:04:05.000"), ToTime(noon.Add(11 * time.Minute))},
	} {
		b.stand()
		if _, err := b.tool(append(strings.Fields(tt.tool), "--topic", "test.posts", "--execute")...); err != nil {
			t.Fatal(err)
		}
		tool := b.at()
		b.stand()
		if _, err := b.Execute(t.Context(), b.ours(tt.to, Allow{}, "posts"), Execution{}); err != nil {
			t.Fatal(err)
		}
		if ours := b.at(); !maps.Equal(ours, tool) {
			t.Errorf("%s: after ours %v, after the tool's %v", tt.tool, ours, tool)
		}
	}
	b.stand()
}

// exports compares the files, and has the tool read ours.
func (b *beside) exports(t *testing.T) {
	b.t = t
	out, err := servers.KafkaTool(t.Context(), consumerGroups, "--bootstrap-server", b.broker, "--reset-offsets",
		"--group", "test.fanout", "--topic", "test.posts", "--to-current", "--export")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ReadRows(strings.NewReader(strings.TrimSpace(string(out))), names, "fanout")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rows, _, err := b.Export(t.Context(), "fanout")
	if err != nil {
		t.Fatal(err)
	}
	ours := slices.DeleteFunc(rows, func(r Row) bool { return r.Topic != "test.posts" })
	slices.SortFunc(theirs, func(a, b Row) int { return int(a.Partition - b.Partition) })
	if !slices.Equal(ours, theirs) {
		t.Errorf("ours %v, theirs %v", ours, theirs)
	}
	var text strings.Builder
	if err := WriteRows(&text, ours, true); err != nil {
		t.Fatal(err)
	}
	if _, err := csv.NewReader(strings.NewReader(text.String())).ReadAll(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, "export.csv")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := b.tool("--group", "test.archive", "--from-file", file)
	if err != nil || read["test.posts/0"] != 15 || read["test.posts/1"] != 12 || read["test.posts/2"] != 20 {
		t.Errorf("the tool reads of our file %v, %v", read, err)
	}
}

// running: neither moves a group that somebody else runs. The tool refuses to plan as well.
func (b *beside) running(t *testing.T) {
	member, err := kgo.NewClient(kgo.SeedBrokers(b.broker), kgo.ConsumerGroup("test.fanout"),
		kgo.ConsumeTopics("test.posts"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	member.PollFetches(ctx)
	b.t = t
	before := b.at()
	if _, err := b.tool("--to-earliest", "--topic", "test.posts", "--execute"); err == nil {
		t.Error("the tool has moved a group that runs")
	}
	p := b.ours(Target{kind: toEarliest}, Allow{}, "posts")
	if len(p.Members) != 1 || len(p.Changes()) == 0 {
		t.Errorf("a group that runs can be planned for: %+v", p)
	}
	var live *LiveError
	if _, err := b.Execute(ctx, p, at("http://127.0.0.1:1")); !errors.As(err, &live) {
		t.Errorf("got %v, want a *LiveError", err)
	}
	if after := b.at(); !maps.Equal(before, after) {
		t.Errorf("the group stood at %v, and now at %v", before, after)
	}
}
