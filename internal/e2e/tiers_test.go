package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/feeds"
)

const (
	pullAbove = 8 // followers; above, an author is pulled, and from 6 on it is not any more
	tierFans  = 12
)

// TestTiers: an author crosses both borders, from one page of followers to several, and from there to being pulled, in
// both directions, with kills in between and under other limits. Each time it is proved where its posts are, and that
// every account reads what the definition says.
func TestTiers(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	s := &tierRun{run: r, dir: filepath.Join(t.TempDir(), "data")}
	r.proc = start(t, s.flags(pullAbove)...)
	inParallel(make([]int, tierFans+2), r.registerer())
	c := r.newClients(1)[0]
	s.star, s.fans = c.own[0], c.own[1:]
	s.poster = &client{run: r, name: "star", rand: r.random(1), own: []*Account{s.star}}

	s.compare("cold feeds")
	s.follow(true, s.fans[:3]...) // one page
	s.delivered("to one page")
	s.follow(true, s.fans[3:pullAbove]...) // several
	s.delivered("down the tree")
	s.follow(true, s.fans[pullAbove:]...)
	s.delivered("while readers may not know")
	s.compare("above the limit")
	s.restart("a kill soon after the limit", pullAbove, (*process).kill)
	await(t, "the star is pulled", func() (bool, string) { return s.posted() == 0, "its posts are delivered" })
	s.compare("pulled")
	s.wantTiers(true)

	s.restart("a kill while it is pulled", pullAbove, (*process).kill)
	s.pulled("after a kill")
	s.follow(false, s.fans[7:]...) // 7 are left: more than four fifths
	s.pulled("with fewer followers than the limit")
	s.follow(false, s.fans[6])
	s.delivered("after it has left pull")
	s.compare("left pull")
	s.wantTiers(true, false)
	r.flushAll(nil)
	s.compare("left pull, FLUSHALL")
	s.follow(false, s.fans[1:6]...)
	s.delivered("to one page again, from several nodes")
	s.restart("a kill after it has left pull", pullAbove, (*process).kill)
	s.delivered("after a kill")
	s.compare("one follower")

	s.follow(true, s.fans...)
	s.pulled("above the limit again, which everybody knows")
	s.compare("pulled again")
	s.restart("never pull", 0, func(p *process) { p.stop() })
	s.delivered("though there are many")
	s.compare("never pull")
	s.restart("a low limit", 3, (*process).kill)
	s.pulled("by another limit")
	s.compare("a low limit")
	s.wantTiers(true, false, true, false, true)
	r.proc.stop()
}

// tierRun is the star, who posts, and its fans, whose feeds are warm.
type tierRun struct {
	*run
	dir    string
	star   *Account
	fans   []*Account
	poster *client
}

func (s *tierRun) flags(limit int) []string {
	return append([]string{"--data", s.dir, "--pull-above", strconv.Itoa(limit)}, smallFlags...)
}

// follow lets fans follow the star, or not, and waits until its tree has them.
func (s *tierRun) follow(follows bool, fans ...*Account) {
	s.t.Helper()
	kind, method := "unfollow", http.MethodDelete
	if follows {
		kind, method = "follow", http.MethodPut
	}
	for _, fan := range fans {
		if err := s.poster.relate(kind, method, "following", fan, s.star); err != nil {
			s.t.Fatal(err)
		}
	}
	s.quiet()
	s.compareFeeds("after a change of followers") // which makes the feeds warm, with what they have of the star's outbox
}

// posted posts, and returns in how many feeds of Redis the post is when nothing is on its way any more. It is read by
// all followers afterwards.
func (s *tierRun) posted() int {
	s.t.Helper()
	if err := s.poster.post(); err != nil {
		s.t.Fatal(err)
	}
	s.quiet()
	return s.entries(s.poster.posts[len(s.poster.posts)-1])
}

func (s *tierRun) delivered(how string) {
	s.t.Helper()
	followers := 0
	for _, fan := range s.fans {
		if s.ledger.has(Follows, fan, s.star) {
			followers++
		}
	}
	if n := s.posted(); n != followers {
		s.t.Errorf("%s: a post is in %d feeds of %d", how, n, followers)
	}
}

func (s *tierRun) pulled(how string) {
	s.t.Helper()
	if n := s.posted(); n != 0 {
		s.t.Errorf("%s: a post is in %d feeds; want it pulled", how, n)
	}
}

func (s *tierRun) restart(name string, limit int, end func(*process)) {
	s.t.Helper()
	end(s.proc)
	s.proc = launch(s.t, s.proc.listen, s.flags(limit)...)
	s.proc.awaitReady()
	s.quiet()
	s.t.Logf("%s: the limit is %d", name, limit)
}

// entries counts the feeds, and the entries of logs, that have the post.
func (s *tierRun) entries(p *Post) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	client := openRedis(s.t, s.proc)
	id := string(feeds.AppendID(nil, freshet.PostID(p.ID)))
	found := 0
	logs, err := client.Keys(ctx, "*:log:*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, key := range logs {
		value, err := client.Get(ctx, key).Result()
		if err != nil {
			s.t.Fatal(err)
		}
		found += strings.Count(value, id)
	}
	blocks, err := client.Keys(ctx, "*:feeds:*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, key := range blocks {
		slots, err := client.HGetAll(ctx, key).Result()
		if err != nil {
			s.t.Fatal(err)
		}
		for _, feed := range slots {
			found += strings.Count(feed, id)
		}
	}
	return found
}

// wantTiers wants that the star's tier was stated like this, one for each change.
func (s *tierRun) wantTiers(want ...bool) {
	s.t.Helper()
	pull, err := s.tiersStated()
	if err != nil {
		s.t.Error(err)
	}
	if len(pull) != 1 {
		s.t.Errorf("tiers of %d accounts were stated, want one", len(pull))
	}
	for _, got := range pull {
		if got = slices.Compact(got); !slices.Equal(got, want) {
			s.t.Errorf("it was stated that the star is pulled: %v, want %v", got, want)
		}
	}
}

// tiersStated are the statements of all accounts' tiers, in their order.
func (r *run) tiersStated() (map[string][]bool, error) {
	r.t.Helper()
	pull := map[string][]bool{}
	for _, record := range r.readTopic("freshet.tiers") {
		var tier events.Tier
		if err := proto.Unmarshal(record.Value, &tier); err != nil || !tier.GetEver() {
			return nil, fmt.Errorf("a tier of %s: %v, %w", record.Key, &tier, err)
		}
		pull[string(record.Key)] = append(pull[string(record.Key)], tier.GetPull())
	}
	return pull, nil
}

// wantCrossings wants that accounts were pulled, and that some are not any more.
func (r *run) wantCrossings() {
	r.t.Helper()
	pull, err := r.tiersStated()
	if err != nil {
		r.t.Error(err)
	}
	ups, downs := len(pull), 0
	for _, stated := range pull {
		for i := 1; i < len(stated); i++ {
			switch {
			case stated[i] && !stated[i-1]:
				ups++
			case !stated[i] && stated[i-1]:
				downs++
			}
		}
	}
	r.t.Logf("%d accounts were pulled; the limit was crossed %d times upwards, %d times downwards", len(pull), ups, downs)
	if ups == 0 || downs == 0 {
		r.t.Error("the limit was not crossed in both directions")
	}
}
