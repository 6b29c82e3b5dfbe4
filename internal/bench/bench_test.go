package bench

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"freshet"
	"freshet/internal/config"
	"freshet/internal/kafka/kafkatest"
	"freshet/internal/load"
	"freshet/processors/fanout"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

func small() Config {
	c := Default()
	c.Partitions, c.Zones, c.Accounts, c.Entries, c.Authors, c.Followers, c.Posts = 2, 4, 300, 10, 20, 8, 100
	c.Rate, c.ReadRate, c.For, c.Warm = 100, 100, 300*time.Millisecond, 50*time.Millisecond
	c.Singles, c.BaselineFor = 3, 50*time.Millisecond
	c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	return c
}

// Every benchmark runs on embedded servers, and reports what it is there for beside what it is compared with.
func TestBenchmarks(t *testing.T) {
	wanted := map[string][]string{
		"fanout": {"drain", "sustained, Kafka's time stamp to flushed, p99", "idle, a post to 8 followers, p99",
			"a post to 299 followers, published to all flushed, max", "baseline, pipelined ZADD", "drain : ZADD"},
		"fairness": {"small posts alone, Kafka's time stamp to flushed, p99",
			"small posts beside a large author, Kafka's time stamp to flushed, p99",
			"pages of the large author, Kafka's time stamp to flushed, p99", "small posts, p99 beside : p99 alone"},
		"growth": {"accounts 1,000", "followers 8", "followers 80", "partitions 16", "posts waiting 400",
			"accounts, lowest : highest", "partitions, lowest : highest"},
		"limits": {"logs of 16 KiB, drain", "logs of 128 KiB, feed and log read, p99", "logs of 64 KiB, CPU of a read",
			"flushes of 2048 Ki entries, drain"},
		"read": {"feed reads over HTTP, as many as possible", "feed reads over HTTP at a rate, p99",
			"baseline, ZREVRANGE and MGET, without HTTP"},
		"mixed": {"feed reads beside posts, p99", "posts beside feed reads, p99"},
		"accept": {"posts accepted singly over HTTP, as many as possible, all roles",
			"posts accepted at a rate, the API alone, p99", "posts accepted in batches, the API alone",
			"baseline, fan-out within the request"},
		"auth": {"posts with a service key : without", "posts with tokens : without", "reads with a service key : without",
			"reads with tokens : without", "reads with tokens, CPU : without"},
		"abuse": {"posts alone, p99", "reads beside slow senders, p99",
			"posts beside a million lines at once, again and again, p99 : alone", "reads alone again, p99"},
		"scale": {"members: 1", "members: 2"},
		"replay": {"drain", "replay, unbounded", "live posts alone, p99", "live posts beside a replay, p99",
			"live posts beside a replay, p99 of that alone"},
		"audit": {"opening", "feeds and outboxes", "memory", "trees", "a million accounts like these",
			"baseline, the same of Redis read and not compared"},
		"archive": {"archive", "CPU of this process", "the usual way: post by post"},
		"log":     {"emit", "consume", "stateful", "publish to callback, mean"},
	}
	for _, benchmark := range Benchmarks {
		want := wanted[benchmark.Name]
		if want == nil { // memory needs a Redis that knows its own
			continue
		}
		t.Run(benchmark.Name, func(t *testing.T) {
			t.Parallel() // no figure is looked at but for being there
			report, err := Run(t.Context(), benchmark.Name, small())
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]float64{}
			for _, result := range report.Results {
				found[result.Name] = result.Value
				if strings.HasSuffix(result.Name, "failed") {
					t.Errorf("%s: %s", result.Name, result.Note)
				}
			}
			for _, name := range want {
				if found[name] <= 0 {
					t.Errorf("%q is %v; there are %v", name, found[name], found)
				}
			}
			var text strings.Builder
			if err := report.Text(&text); err != nil || !strings.Contains(text.String(), want[0]) {
				t.Errorf("the report for people: %v\n%s", err, &text)
			}
		})
	}
}

// Posts that are saved first are accepted, too.
func TestAcceptSavedFirst(t *testing.T) {
	t.Parallel()
	c := small()
	c.Accept = config.AcceptStore
	report, err := Run(t.Context(), "accept", c)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, result := range report.Results {
		found[result.Name] = result.Value
		if strings.HasSuffix(result.Name, "failed") {
			t.Errorf("%s: %s", result.Name, result.Note)
		}
	}
	for _, name := range []string{
		"posts accepted at a rate, all roles, saved first, p99", "posts accepted in batches, the API alone, saved first",
	} {
		if found[name] <= 0 {
			t.Errorf("%q is %v; there are %v", name, found[name], found)
		}
	}
	if c.Accept = "both"; c.Validate() == nil {
		t.Error("--accept both is taken")
	}
}

func TestServersThatDoNotAnswerAreNamed(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, benchmark := range Benchmarks {
		for _, flag := range []string{"--kafka", "--redis"} {
			c := small()
			if flag == "--kafka" {
				c.Kafka = []string{nobody}
			} else {
				c.Redis = []string{nobody}
			}
			_, err := Run(t.Context(), benchmark.Name, c)
			if !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), flag+" "+nobody) {
				t.Errorf("%s: got %v, want %s and %s", benchmark.Name, err, flag, nobody)
			}
		}
	}
	err = func() error {
		_, err := load.Run(t.Context(), load.Config{API: "http://" + nobody, Network: load.Made(2, 1, 1), Workers: 1})
		return err
	}()
	if !errors.Is(err, load.ErrAway) || !strings.Contains(err.Error(), nobody) {
		t.Errorf("load: got %v, want the address", err)
	}
}

// Servers that take connections and never answer are named as well, and not waited for.
func TestServersThatSayNothingAreNamed(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the system takes connections for it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	silent := listener.Addr().String()
	for flag, c := range map[string]Config{"--kafka": small(), "--redis": small()} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			if flag == "--kafka" {
				c.Kafka = []string{silent}
			} else {
				c.Redis = []string{silent}
			}
			_, err := Run(t.Context(), "fanout", c)
			if !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), flag+" "+silent) {
				t.Errorf("got %v, want %s and %s", err, flag, silent)
			}
		})
	}
}

// A Redis that holds something may be somebody's, and a benchmark would empty it.
func TestRedisInUseIsLeftAlone(t *testing.T) {
	mini := miniredis.RunT(t)
	if err := mini.Set("somebody's", "data"); err != nil {
		t.Fatal(err)
	}
	c := small()
	c.Redis = []string{mini.Addr()}
	if _, err := Run(t.Context(), "fanout", c); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("got %v, want ErrNotEmpty", err)
	}
	if got, err := mini.Get("somebody's"); err != nil || got != "data" {
		t.Errorf("the data is %q, %v", got, err)
	}
}

// The trees that are put in place are those that the rules make of the same followers.
func TestTreeIsThatOfTheRules(t *testing.T) {
	const author, count = freshet.Number(7), 4000
	followers := make([]freshet.Number, 0, count)
	for i := range count {
		followers = append(followers, freshet.NumberAt(int32(i%8), int64(i)))
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(count, func(i, j int) {
		followers[i], followers[j] = followers[j], followers[i]
	})
	rules := fanout.Tree{}
	want := map[string]*fanout.Node{}
	for _, follower := range followers {
		node, out := rules.OnFollower(author, want["7"], fanout.State{Follower: follower, Follows: true, Version: 1})
		want["7"] = node
		for queue := out.Loop; len(queue) > 0; queue = queue[1:] {
			key := queue[0].To.Key()
			node, out := rules.OnLoop(want[key], queue[0])
			want[key] = node
			queue = append(queue, out.Loop...)
		}
	}
	got := map[string]*fanout.Node{}
	total := tree(fanout.Address{Author: author}, followers, func(at fanout.Address, n *fanout.Node) { got[at.Key()] = n })
	if total != count || len(got) < 9 {
		t.Fatalf("%d followers in %d nodes, want %d in more than 9", total, len(got), count)
	}
	for key := range maps.Keys(want) {
		if !reflect.DeepEqual(fanout.EncodeNode(got[key]).String(), fanout.EncodeNode(want[key]).String()) {
			t.Errorf("node %s differs from that of the rules", key)
		}
	}
}

func TestNetworks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "graph.txt")
	if err := os.WriteFile(file, []byte("a x\nb x\nc x\na y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for distribution, edges := range map[string][2]int{Uniform: {160, 160}, PowerLaw: {100, 160}, file: {4, 4}} {
		b := &bench{Config: small()}
		b.Distribution = distribution
		n, err := b.makeNetwork()
		if err != nil {
			t.Fatal(err)
		}
		if got := n.edges(); got < edges[0] || got > edges[1] {
			t.Errorf("%s: %d follows, want %v", distribution, got, edges)
		}
		for place := range n.count {
			if got := n.place(n.number(place)); got != place {
				t.Fatalf("the number of %d leads back to %d", place, got)
			}
		}
		for _, a := range n.authors {
			seen := map[freshet.Number]bool{a.number: true}
			for _, follower := range a.followers {
				if seen[follower] {
					t.Fatalf("%s: account %d follows %d twice, or itself", distribution, follower, a.number)
				}
				seen[follower] = true
			}
		}
	}
}

func TestOpenLoopKeepsItsRate(t *testing.T) {
	sent := 0
	o := load.Open(t.Context(), 1, 1000, 100*time.Millisecond, func(context.Context, int) error {
		sent++
		if sent%10 == 0 {
			return errors.New("refused")
		}
		return nil
	})
	if o.Sent != 100 || sent != 100 || o.Failed != 10 || o.Answers.TotalCount() != 90 || o.First == nil {
		t.Errorf("sent %d, failed %d, measured %d, first error %v", o.Sent, o.Failed, o.Answers.TotalCount(), o.First)
	}
}
