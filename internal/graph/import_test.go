package graph

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/internal/app"
	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/kafka"
	"freshet/internal/kafka/kafkatest"
	"freshet/processors/following"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// patience is how long a test waits for what should happen.
const patience = 30 * time.Second

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// process is a process with every role and all servers.
type process struct {
	*app.App
	t   testing.TB
	cfg config.Config
}

func start(t testing.TB) *process {
	t.Helper()
	cfg := config.Default()
	cfg.Prefix, cfg.Partitions, cfg.Zones = "test.", 4, 8
	cfg.DataDir = t.TempDir()
	return &process{apptest.Start(t, cfg), t, cfg}
}

func (p *process) importText(text string) (Summary, BadLines) {
	p.t.Helper()
	g, bad, err := Read(strings.NewReader(text))
	if err != nil {
		p.t.Fatal(err)
	}
	return p.importGraph(g), bad
}

func (p *process) importGraph(g *Graph) Summary {
	p.t.Helper()
	summary, err := Import(p.t.Context(), g, Config{Brokers: p.Kafka(), Names: p.cfg.Names(), Logger: quiet})
	if err != nil {
		p.t.Fatal(err)
	}
	return summary
}

// ends tells how much was ever written, topic by topic.
func (p *process) ends() map[kafka.TopicPartition]int64 {
	p.t.Helper()
	lookup, err := kafka.NewLookup(p.Kafka())
	if err != nil {
		p.t.Fatal(err)
	}
	defer lookup.Close()
	n := p.cfg.Names()
	ends, err := lookup.Ends(p.t.Context(), n.Topic(freshet.Registrations), n.Topic(freshet.Profiles),
		n.Topic(freshet.Follows), n.Topic(freshet.Followers), n.Topic(freshet.Applied), n.Loop(freshet.DirectoryGroup),
		n.Table(freshet.DirectoryGroup), n.Table(freshet.FollowingGroup), n.Table(freshet.FanoutGroup),
		n.Topic(freshet.DeadLetters))
	if err != nil {
		p.t.Fatal(err)
	}
	return ends
}

// do asks the API and decodes its answer.
func (p *process) do(method, path, body string, answer any) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.APIURL()+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= http.StatusMultipleChoices {
		p.t.Fatalf("%s %s: %s: %s, %v", method, path, response.Status, text, err)
	}
	if answer == nil {
		return
	}
	if err := json.Unmarshal(text, answer); err != nil {
		p.t.Fatalf("%s %s: %s: %v", method, path, text, err)
	}
}

// await asks again and again until what was asked for is so.
func (p *process) await(what string, is func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			p.t.Fatalf("not so after %s: %s", patience, what)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-p.t.Context().Done():
			p.t.FailNow()
		}
	}
}

func equalSummary(t *testing.T, got, want Summary) {
	t.Helper()
	if got.Many = nil; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("summary %+v, want %+v", got, want)
	}
}

func TestImportTwice(t *testing.T) {
	t.Parallel()
	p := start(t)
	const text = "ada bela\nada chidi\nbela chidi\nchidi chidi\nada bela\n"
	summary, bad := p.importText(text)
	equalSummary(t, summary, Summary{AccountsNew: 3, FollowsNew: 3})
	if bad.Count != 1 {
		t.Errorf("%d bad lines, want 1", bad.Count)
	}

	before := p.ends()
	summary, _ = p.importText(text)
	equalSummary(t, summary, Summary{AccountsKnown: 3, FollowsKnown: 3})
	if after := p.ends(); !maps.Equal(before, after) {
		t.Errorf("the second import has written: before %v, after %v", before, after)
	}

	// A larger graph adds what is missing, also for an account that follows somebody already.
	summary, _ = p.importText(text + "ada dora\ndora ada\n")
	equalSummary(t, summary, Summary{AccountsNew: 1, AccountsKnown: 3, FollowsNew: 2, FollowsKnown: 3})
}

func TestImportIsCompletedByAnother(t *testing.T) {
	t.Parallel()
	p := start(t)
	g, _, err := Read(strings.NewReader(lines(generate(40, rand.New(rand.NewPCG(1, 1))))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = Import(ctx, g, Config{
		Brokers: p.Kafka(), Names: p.cfg.Names(), Logger: quiet,
		Progress: func(stage Stage, _, _ int) {
			if stage == StageFollow {
				cancel()
			}
		},
	})
	if err == nil || !strings.Contains(err.Error(), "again adds the rest") {
		t.Fatalf("an import that was interrupted: %v", err)
	}
	summary := p.importGraph(g)
	if summary.AccountsNew != 0 || summary.AccountsKnown != len(g.Accounts) ||
		summary.FollowsNew+summary.FollowsKnown != g.Follows() {
		t.Errorf("the summary of the second: %+v", summary)
	}
}

func TestImportLeavesClosedAccountsClosed(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.do(http.MethodPut, "/v1/accounts/gone", "{}", nil)
	p.do(http.MethodDelete, "/v1/accounts/gone", "", nil)
	summary, _ := p.importText("ada bela\nada gone\ngone ada\n")
	equalSummary(t, summary, Summary{AccountsNew: 2, AccountsKnown: 1, FollowsNew: 1, FollowsClosed: 2})
}

func TestImportNamesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	p := start(t)
	g, _, err := Read(strings.NewReader("ada bela\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Import(t.Context(), g, Config{Brokers: p.Kafka(), Names: freshet.Names{Prefix: "other."}, Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), "other.follows") {
		t.Errorf("an import with another prefix: %v, want an error that names the topic", err)
	}
}

func TestARowHasAnEnd(t *testing.T) {
	const follows = following.MaxRow + 7
	b := newBuilder()
	for n := range follows {
		b.add("ada", freshet.AccountID(fmt.Sprint("a", n)))
	}
	g := b.build()
	i := &importer{
		graph: g, closed: map[uint32]bool{}, numbers: make([]freshet.Number, len(g.Accounts)),
		made: make([]bool, len(g.Accounts)),
	}
	i.summary.Many = map[freshet.AccountID]int{}
	for place := range g.Accounts {
		i.numbers[place], i.made[place] = freshet.Number(place), true
	}
	for place, edges := range g.followers() {
		targets, expected, err := i.targets(place, edges)
		if err != nil || len(targets) != following.MaxRow || len(expected) != following.MaxRow {
			t.Errorf("%d targets, %d expected, %v; want as many as a row holds", len(targets), len(expected), err)
		}
	}
	if i.summary.FollowsFull != 7 || i.summary.Many["ada"] != following.MaxRow {
		t.Errorf("the summary: %+v", i.summary)
	}
}

// generate makes a graph of n accounts; the first one has many followers.
func generate(n int, random *rand.Rand) [][2]string {
	var follows [][2]string
	name := func(i int) string { return fmt.Sprintf("account-%d", i) }
	for i := 1; i < n; i++ {
		follows = append(follows, [2]string{name(i), name(0)})
		for range 1 + random.IntN(5) {
			if other := random.IntN(n); other != i {
				follows = append(follows, [2]string{name(i), name(other)})
			}
		}
	}
	return follows
}

func lines(follows [][2]string) string {
	var b strings.Builder
	for _, f := range follows {
		fmt.Fprintln(&b, f[0], f[1])
	}
	return b.String()
}

// dataSet is the file that FRESHET_HIGGS names, or a generated one.
func dataSet(t *testing.T, random *rand.Rand) io.Reader {
	t.Helper()
	if name := os.Getenv("FRESHET_HIGGS"); name != "" {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		return file
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, lines(generate(400, random))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// The whole path: a graph comes in, the account with most followers posts, and the post is in their feeds.
func TestDataSet(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	g, bad, err := Read(dataSet(t, random))
	if err != nil || bad.Count > 0 {
		t.Fatalf("bad lines %v, %v", bad, err)
	}
	followers := map[uint32][]uint32{}
	for place, edges := range g.followers() {
		for _, e := range edges {
			followers[e.followee] = append(followers[e.followee], place)
		}
	}
	var popular uint32
	for place, list := range followers {
		if len(list) > len(followers[popular]) {
			popular = place
		}
	}

	p := start(t)
	began := time.Now()
	summary := p.importGraph(g)
	t.Logf("%d accounts, %d follows, %s", len(g.Accounts), g.Follows(), time.Since(began))
	equalSummary(t, summary, Summary{AccountsNew: len(g.Accounts), FollowsNew: g.Follows()})

	author, want := string(g.Accounts[popular]), len(followers[popular])
	p.await(fmt.Sprintf("account %s has %d followers", author, want), func() bool {
		var account struct{ Followers int }
		p.do(http.MethodGet, "/v1/accounts/"+author, "", &account)
		if account.Followers > want {
			t.Fatalf("account %s has %d followers, want %d", author, account.Followers, want)
		}
		return account.Followers == want
	})

	var post struct{ ID string }
	p.do(http.MethodPost, "/v1/posts", fmt.Sprintf(`{"author":%q,"text":"hello"}`, author), &post)
	list := followers[popular]
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, place := range list[:min(100, len(list))] {
		p.await(fmt.Sprintf("post %s is in the feed of %s", post.ID, g.Accounts[place]), func() bool {
			var feed struct{ Items []struct{ ID string } }
			p.do(http.MethodGet, "/v1/accounts/"+string(g.Accounts[place])+"/feed", "", &feed)
			return len(feed.Items) > 0 && feed.Items[0].ID == post.ID
		})
	}

	before := p.ends()
	summary = p.importGraph(g)
	equalSummary(t, summary, Summary{AccountsKnown: len(g.Accounts), FollowsKnown: g.Follows()})
	if after := p.ends(); !maps.Equal(before, after) {
		t.Errorf("the second import has written: before %v, after %v", before, after)
	}
}
