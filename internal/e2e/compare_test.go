package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/internal/admin"
	"freshet/views"
)

// quiet waits until nothing is on its way any more: every group has committed up to the ends that its topics had, and
// the ends are the same afterwards. What a message causes is in the log before the message is committed.
func (r *run) quiet() {
	r.t.Helper()
	log := openLog(r.t, r.proc)
	await(r.t, "all groups have lag 0", func() (bool, string) {
		before, err := log.ends()
		if err != nil {
			return false, err.Error()
		}
		behind, err := r.behind(before)
		if err != nil || behind != "" {
			return false, fmt.Sprintf("%s %v", behind, err)
		}
		after, err := log.ends()
		return err == nil && maps.Equal(before, after), fmt.Sprintf("the logs grow, or %v", err)
	})
}

type partition struct {
	topic string
	id    int32
}

// behind names a partition that a group has not committed up to the ends.
func (r *run) behind(ends map[partition]int64) (string, error) {
	groups, err := r.groups()
	if err != nil {
		return "", err
	}
	claimed := map[string]map[partition]bool{
		"freshet.archive": {}, "freshet.directory": {}, "freshet.fanout": {}, "freshet.following": {},
	}
	for _, g := range groups {
		for _, c := range g.Claims {
			end, known := ends[partition{c.Topic, c.Partition}]
			if !known || c.Committed < end || c.Lag != 0 || c.InFlight != 0 {
				return fmt.Sprintf("%s at %s/%d: %d of %d", g.Group, c.Topic, c.Partition, c.Committed, end), nil
			}
			claimed[g.Group][partition{c.Topic, c.Partition}] = true
		}
	}
	for group, claims := range claimed {
		if missing := unclaimed(claims, ends); missing != "" {
			return fmt.Sprintf("%s: nobody has %s", group, missing), nil
		}
	}
	return "", nil
}

// unclaimed names a partition of the claims' topics that is not among them.
func unclaimed(claims map[partition]bool, ends map[partition]int64) string {
	topics := map[string]bool{}
	for c := range claims {
		topics[c.topic] = true
	}
	if len(topics) == 0 {
		return "any partition"
	}
	for p := range ends {
		if topics[p.topic] && !claims[p] {
			return fmt.Sprintf("%s/%d", p.topic, p.id)
		}
	}
	return ""
}

// groups are the claims of every process.
func (r *run) groups() ([]admin.Group, error) {
	var all []admin.Group
	for _, p := range append([]*process{r.proc}, r.others...) {
		a, err := request(r.http, http.MethodGet, p.admin+admin.GroupsPath, nil)
		if err != nil {
			return nil, err
		}
		var groups []admin.Group
		if err := json.Unmarshal(a.body, &groups); err != nil {
			return nil, err
		}
		all = append(all, groups...)
	}
	return all, nil
}

// partitions is how many a topic has.
const partitions = 8

// lag is how many records of a topic a group has yet to commit, -1 if that cannot be told now.
func (r *run) lag(group, topic string) int64 {
	groups, err := r.groups()
	if err != nil {
		return -1
	}
	lag, claims := int64(0), 0
	for _, g := range groups {
		for _, c := range g.Claims {
			if g.Group == group && c.Topic == topic {
				lag += c.Lag
				claims++
			}
		}
	}
	if claims < partitions {
		return -1
	}
	return lag
}

// topicLog looks at the child's Kafka.
type topicLog struct {
	client *kgo.Client
	admin  *kadm.Client
}

func openLog(t *testing.T, p *process, options ...kgo.Opt) topicLog {
	t.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(p.kafka, ",")...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return topicLog{client, kadm.NewClient(client)}
}

func (l topicLog) ends(topics ...string) (map[partition]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	listed, err := l.admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, err
	}
	ends := map[partition]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Topic != "freshet.stats" { // written for readers, by the clock
			ends[partition{o.Topic, o.Partition}] = o.Offset
		}
	})
	return ends, nil
}

// compare holds everything that every open account reads against the model, at a quiet point. Pages may say for a while
// that they are not complete; what says that it is complete is right.
func (r *run) compare(when string) {
	r.t.Helper()
	r.compareFeeds(when)
	w := &r.ledger.world
	follows, followers := w.Lists(Follows)
	mutes, _ := w.Lists(Mutes)
	blocks, _ := w.Lists(Blocks)
	following, followed := w.Counts()
	begun := time.Now()
	accounts := r.eachAccount(when, func(a *Account, list func(string) []item) {
		defer func() {
			if r.t.Failed() {
				r.t.Logf("%s: what %s reads that it follows, as far as it matters: %v", when, a.ID, names(list("following")))
			}
		}()
		profile := list("posts")
		same(r, when, a, "posts", ids(profile), w.Profile(a))
		r.sameTexts(when, a, "posts", profile)
		same(r, when, a, "following", names(list("following")), follows[a])
		same(r, when, a, "followers", names(list("followers")), followers[a])
		same(r, when, a, "muted", names(list("muted")), mutes[a])
		same(r, when, a, "blocked", names(list("blocked")), blocks[a])
		if !r.uncounted {
			r.sameCounts(when, a, counts{followed[a], following[a], len(w.Profile(a))})
		}
	})
	r.t.Logf("%s: the profiles, lists and counts of %d accounts are as the model (%s)", when, accounts, since(begun))
}

// compareFeeds is the part of compare that matters most.
func (r *run) compareFeeds(when string) {
	r.t.Helper()
	r.quiet()
	begun := time.Now()
	var posts atomic.Int64
	accounts := r.eachAccount(when, func(a *Account, list func(string) []item) {
		want := r.ledger.world.Feed(a)
		same(r, when, a, "feed", r.settledFeed(want, begun, func() []uint64 {
			feed := list("feed")
			r.sameTexts(when, a, "feed", feed)
			return ids(feed)
		}), want)
		posts.Add(int64(len(want)))
	})
	r.t.Logf("%s: the feeds of %d accounts, with %d posts, are as the model (%s)",
		when, accounts, posts.Load(), since(begun))
}

// settledFeed reads a feed at a quiet point. What was kept of the outboxes of pulled authors before is old after
// views.KeptFor; until then a complete page may lack posts, and nothing else may be wrong with it.
func (r *run) settledFeed(want []uint64, quiet time.Time, read func() []uint64) []uint64 {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		last := time.Since(quiet) > views.KeptFor
		got := read()
		lacks := len(got) < len(want) && !slices.ContainsFunc(got, func(id uint64) bool { return !slices.Contains(want, id) })
		if last || !lacks || r.t.Failed() {
			return got
		}
		<-tick.C
	}
}

func since(begun time.Time) time.Duration { return time.Since(begun).Round(time.Millisecond) }

// eachAccount calls check for every open account, from a few goroutines, with a function that reads a whole list of the
// account by pages of random sizes. It ends the test if anything differs.
func (r *run) eachAccount(when string, check func(a *Account, list func(string) []item)) int {
	r.t.Helper()
	open := r.ledger.open()
	inParallel(open, func(a *Account) {
		if r.t.Failed() {
			return // one difference is enough
		}
		random := rand.New(rand.NewPCG(r.seed, sum(when+a.ID)))
		limit := func() int { return 1 + random.IntN(100) }
		check(a, func(name string) []item {
			return r.whole(r.proc.url()+"/v1/accounts/"+a.ID+"/"+name, limit)
		})
	})
	if r.t.Failed() {
		r.t.FailNow()
	}
	return len(open)
}

// whole walks a list until it says that it is complete.
func (r *run) whole(list string, limit func() int) []item {
	deadline := time.Now().Add(patience())
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		items, complete, err := walk(r.http, list, limit)
		if err != nil {
			r.t.Error(err)
			return nil
		}
		if complete {
			return items
		}
		if time.Now().After(deadline) {
			r.t.Errorf("GET %s: still not complete at a quiet point", list)
			return nil
		}
		<-tick.C
	}
}

// sameTexts: what a list shows says what was written last.
func (r *run) sameTexts(when string, a *Account, list string, items []item) {
	for _, i := range items {
		if want := r.ledger.text(i.id()); i.Text != want {
			r.t.Errorf("%s: in the %s of %s, post %s says %q, want %q", when, list, a.ID, i.ID, i.Text, want)
		}
	}
}

func ids(items []item) []uint64 {
	var ids []uint64
	for _, i := range items {
		ids = append(ids, i.id())
	}
	return ids
}

// names are the ids of accounts, sorted: their lists are in the order of numbers that clients do not know.
func names(items []item) []string {
	var names []string
	for _, i := range items {
		names = append(names, i.ID)
	}
	slices.Sort(names)
	return names
}

// same compares a list with the model, which has every item once.
func same[T cmp.Ordered](r *run, when string, a *Account, list string, got, want []T) {
	if slices.Equal(got, want) {
		return
	}
	var missing, extra []T
	for _, item := range want {
		if !slices.Contains(got, item) {
			missing = append(missing, item)
		}
	}
	for i, item := range got {
		if !slices.Contains(want, item) || slices.Contains(got[:i], item) {
			extra = append(extra, item)
		}
	}
	r.t.Errorf("%s: the %s of %s have %d items, want %d; missing %v, too many %v; if both are empty, the order is wrong",
		when, list, a.ID, len(got), len(want), missing, extra)
}
