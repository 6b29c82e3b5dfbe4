package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/client"
	"freshet/internal/admin"
	"freshet/internal/app"
	"freshet/internal/app/apptest"
	"freshet/internal/audit"
	"freshet/internal/config"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
)

// service is a program with everything in it, and clients of its parts.
type service struct {
	t    *testing.T
	app  *app.App
	api  *client.Client
	conn *feeds.Redis
	cfg  config.Config
	gen  int
}

func start(t *testing.T) *service {
	t.Helper()
	cfg := config.Default()
	cfg.Partitions, cfg.Zones, cfg.PageSize, cfg.PullAbove, cfg.DataDir = 2, 4, 2, 7, t.TempDir()
	s := &service{t: t, app: apptest.Start(t, cfg), cfg: cfg}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	var err error
	if s.api, err = client.New(client.Config{URL: s.app.APIURL(), HTTP: &http.Client{Transport: transport}}); err != nil {
		t.Fatal(err)
	}
	if s.conn, err = feeds.Connect(t.Context(), cfg.Layout(), s.app.Redis()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *service) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) register(ids ...freshet.AccountID) {
	s.t.Helper()
	for _, id := range ids {
		_, err := s.api.PutAccount(s.t.Context(), id, nil)
		s.must(err)
	}
}

func (s *service) post(author freshet.AccountID) freshet.PostID {
	s.t.Helper()
	p, err := s.api.Publish(s.t.Context(), client.NewPost{Author: author, Text: "a post"})
	s.must(err)
	return p.ID
}

// read makes feeds warm.
func (s *service) read(ids ...freshet.AccountID) {
	s.t.Helper()
	for _, id := range ids {
		for _, err := range s.api.Feed(s.t.Context(), id) {
			s.must(err)
		}
	}
}

// quiet waits until every group has committed everything.
func (s *service) quiet() {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for still := 0; still < 3; <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatal("the groups do not come to rest")
		}
		r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.app.AdminURL()+admin.GroupsPath, http.NoBody)
		s.must(err)
		answer, err := http.DefaultClient.Do(r)
		s.must(err)
		var groups []admin.Group
		s.must(json.NewDecoder(answer.Body).Decode(&groups))
		s.must(answer.Body.Close())
		still++
		for _, g := range groups {
			for _, c := range g.Claims {
				if c.Lag != 0 || c.InFlight != 0 || c.Committed < c.End {
					still = 0
				}
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func (s *service) open() *audit.Sources {
	s.t.Helper()
	sources, err := audit.Open(s.t.Context(), audit.Config{
		Brokers: s.app.Kafka(), Names: s.cfg.Names(), Sarama: kafka.Config, Conn: s.conn, Layout: s.cfg.Layout(),
		Dir: s.t.TempDir(),
	})
	s.must(err)
	s.t.Cleanup(func() {
		if err := sources.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return sources
}

// audit is what an audit of everything finds, in short, and its summary.
func (s *service) audit(sources *audit.Sources) ([]string, audit.Summary) {
	s.t.Helper()
	var found []string
	summary, err := audit.Run(s.t.Context(), sources, audit.Options{
		Trees: true, API: s.api, Served: 100, Explain: 100, Report: func(d audit.Difference) error {
			line := fmt.Sprintf("%s %s %s", d.Account, d.List, d.Kind)
			if d.Follower != nil {
				line += fmt.Sprintf(" %s", d.Follower)
			}
			found = append(found, line+" "+d.Post)
			return nil
		},
	})
	s.must(err)
	slices.Sort(found)
	return found, summary
}

func (s *service) number(sources *audit.Sources, id freshet.AccountID) freshet.Number {
	s.t.Helper()
	account, _, err := sources.Account(id)
	s.must(err)
	return account.Number
}

// edit changes an account's feed in Redis behind everybody's back, its log included.
func (s *service) edit(n freshet.Number, change func([]freshet.PostID) []freshet.PostID) {
	s.t.Helper()
	s.gen++
	_, err := s.cfg.Layout().CompactBlock(s.t.Context(), s.conn, n.Block(), 0, "test-"+strconv.Itoa(s.gen))
	s.must(err)
	read := &feeds.ReadBlock{Block: n.Block(), Slot: int(n.Slot())}
	s.must(s.conn.Do(s.t.Context(), read))
	feed, logged, err := read.Feed(n.Slot())
	s.must(err)
	if len(logged) > 0 {
		s.t.Fatalf("the log of account %d was to be compacted", n)
	}
	feed.IDs = feeds.Newest(change(feed.IDs), 800)
	s.gen++
	write := &feeds.SwapFeed{
		Block: n.Block(), Slot: n.Slot(), Token: read.State.Token, Generation: read.Generation,
		Next: "test-" + strconv.Itoa(s.gen), Value: feed.Encode(),
	}
	s.must(s.conn.Do(s.t.Context(), write))
	if !write.OK {
		s.t.Fatal("the feed was not changed")
	}
}

func without(id freshet.PostID) func([]freshet.PostID) []freshet.PostID {
	return func(ids []freshet.PostID) []freshet.PostID {
		return slices.DeleteFunc(slices.Clone(ids), func(other freshet.PostID) bool { return other == id })
	}
}

// TestAudit: what nobody has done wrong is not reported, and what somebody has is, exactly.
func TestAudit(t *testing.T) {
	s := start(t)
	ctx := context.Background()
	fans := []freshet.AccountID{"f0", "f1", "f2", "f3", "f4"}
	s.register(append(fans, "ann", "bob", "cyd", "dan", "eve", "gus", "cold", "big")...)
	for _, fan := range fans {
		s.must(s.api.Follow(ctx, fan, "ann"))
		s.must(s.api.Follow(ctx, fan, "bob"))
	}
	for _, fan := range append(fans, "ann", "bob", "cyd") {
		s.must(s.api.Follow(ctx, fan, "big")) // who is pulled, in the end
	}
	s.must(s.api.Follow(ctx, "cold", "ann"))
	s.quiet() // so that their trees have reported them
	s.read(append(fans, "dan")...)
	early := s.post("ann")
	s.quiet()
	s.post("big")
	ofBob := s.post("bob")
	ofCyd := s.post("cyd")
	deleted := s.post("ann")
	s.quiet()
	s.must(s.api.Delete(ctx, deleted))
	s.must(s.api.Mute(ctx, "f0", "bob"))
	s.must(s.api.Unfollow(ctx, "f1", "bob")) // whose posts stay in the feed
	s.must(s.api.Follow(ctx, "f2", "cyd"))   // whose posts are merged until the feed is read
	s.must(s.api.Block(ctx, "f3", "bob"))    // which ends the follow
	s.must(s.api.CloseAccount(ctx, "gus"))   // whom nobody follows
	s.must(s.api.Follow(ctx, "eve", "ann"))  // whose feed is cold
	late := s.post("ann")
	s.quiet()

	sources := s.open()
	found, summary := s.audit(sources)
	if len(found) > 0 {
		t.Errorf("nothing is wrong, and the audit finds %v", found)
	}
	if summary.Checked < 6 || summary.LeftOver < 1 || summary.Accounts < 13 || summary.Entries < 10 || summary.Cold == 0 ||
		summary.Trees < 4 || summary.Follows < 15 || summary.Served < 12 {
		t.Errorf("the audit has seen little: %+v", summary)
	}

	f4, dan := s.number(sources, "f4"), s.number(sources, "dan")
	s.edit(f4, without(early))
	s.edit(dan, func(ids []freshet.PostID) []freshet.PostID { return append(ids, ofCyd) })
	// What is on its way does not hide what is wrong, nor is it wrong itself.
	newer := s.post("ann")
	want := []string{
		"dan feed extra " + ofCyd.String(), "f4 feed missing " + early.String(), "f4 served missing " + early.String(),
	}
	if found, _ := s.audit(sources); !slices.Equal(found, want) {
		t.Errorf("the audit finds %v, want %v", found, want)
	}

	s.watched(sources, 1, 1)

	s.why(sources, "f4", early, true, "f4 follows ann since", "In Redis it is not in the feed")
	s.why(sources, "dan", ofCyd, false, "dan does not follow cyd, and never has", "In Redis it is in the feed")
	s.why(sources, "f1", ofBob, false, "f1 does not follow bob any more, since freshet.follows/")
	s.why(sources, "f0", ofBob, false, "f0 mutes bob")
	s.why(sources, "f3", ofBob, false, "f3 blocks bob")
	s.why(sources, "f0", deleted, false, "The post was deleted in freshet.posts/")
	s.why(sources, "f0", 1, false, "Neither Redis nor the post store knows")
	s.register("new")
	s.must(s.api.Follow(ctx, "new", "ann"))
	s.must(sources.Current(ctx))
	s.why(sources, "new", late, false, "The feed is cold")
	s.why(sources, "ann", late, false, "ann wrote it", "fan-out has committed that offset")
	s.quiet()
	s.why(sources, "f0", newer, false, "follows ann", "In Redis it is in the feed", "delivered to this feed by its tree")

	// An outbox that was loaded from the post store lacks a post from then on.
	s.cutOutbox(s.number(sources, "ann"), late)
	found, _ = s.audit(sources)
	if line := "ann outbox missing " + late.String(); !slices.Contains(found, line) {
		t.Errorf("the audit finds %v, want %s among it", found, line)
	}
}

// watched wants that an audit in the background comes to count so many differences.
func (s *service) watched(sources *audit.Sources, missing, extra int64) {
	s.t.Helper()
	var counts audit.Counts
	watch, err := sources.Watch(10_000, &counts, s.t.TempDir())
	s.must(err)
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	done := make(chan error, 1)
	go func() { done <- watch.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && (counts.Missing.Load() < missing || counts.Extra.Load() < extra) {
		<-tick.C
	}
	cancel()
	s.must(<-done)
	if counts.Checked.Load() == 0 || counts.Missing.Load() < missing || counts.Extra.Load() < extra {
		s.t.Errorf("it has checked %d feeds; %d posts are missing, %d extra; want at least %d and %d", counts.Checked.Load(),
			counts.Missing.Load(), counts.Extra.Load(), missing, extra)
	}
}

// why wants sentences of an explanation.
func (s *service) why(
	sources *audit.Sources, reader freshet.AccountID, post freshet.PostID, missing bool, sentences ...string,
) {
	s.t.Helper()
	e, err := sources.Why(s.t.Context(), s.number(sources, reader), post)
	s.must(err)
	if e.IsMissing() != missing {
		s.t.Errorf("%s: missing is %v: %+v", e.Verdict, e.IsMissing(), e)
	}
	text := fmt.Sprint(e.Because)
	for _, sentence := range sentences {
		if !strings.Contains(text, sentence) {
			s.t.Errorf("%s\n%q does not say %q", e.Verdict, e.Because, sentence)
		}
	}
}

func (s *service) cutOutbox(author freshet.Number, post freshet.PostID) {
	s.t.Helper()
	_, err := s.cfg.Layout().ReadOutboxes(s.t.Context(), s.conn, noPosts{}, []freshet.Number{author})
	s.must(err)
	read := &feeds.ReadOutbox{Author: author}
	s.must(s.conn.Do(s.t.Context(), read))
	ids, loaded, err := read.Posts(800)
	s.must(err)
	if !loaded || !slices.Contains(ids, post) {
		s.t.Fatalf("the outbox of %d has %v, loaded: %v", author, ids, loaded)
	}
	value := slices.Repeat([]byte{0xff}, 8)
	for _, id := range without(post)(ids) {
		value = feeds.AppendID(value, id)
	}
	write := &feeds.RewriteOutbox{Author: author, Token: read.State.Token, Old: read.Value, New: value}
	s.must(s.conn.Do(s.t.Context(), write))
	if !write.OK {
		s.t.Fatal("the outbox was not changed")
	}
}

// noPosts is a post store with nothing in it.
type noPosts struct{}

func (noPosts) ByAuthor(context.Context, freshet.Number, freshet.PostID, int) ([]freshet.Post, error) {
	return nil, nil
}
