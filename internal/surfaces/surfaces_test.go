package surfaces

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	accounts     = 4 // so few that all of them meet
	defaultSteps = 75
	// pacemaker is an account that all follow and that nobody does anything to: when a stream has its post, it has all
	// that came before.
	pacemaker = "pacemaker"
)

// run is a run of random steps.
type run struct {
	*testing.T
	rand      *rand.Rand
	processes []*process
	world     *World
	pace      *Account
	all       []*Account // every id's last
	crowd     []string   // more followers of each account, whom nobody asks what they see
	open      map[*Account]*stream
	away      map[*Account]*absence
	happened  []happening // in this step
	deck      []string
	count     int
	slowest   time.Duration // until another process showed the same
}

// absence is an account whose stream is closed.
type absence struct {
	from   string
	missed []happening
}

// TestSurfaces: whatever is done in whatever order, everything that shows posts shows each viewer what the definition
// says. What hides acts at once in the process that answered it, and soon in the other one.
func TestSurfaces(t *testing.T) {
	r, steps := newRun(t, processes(t))
	r.begin()
	r.walk(steps)
}

// newRun is a run and how many steps it has.
func newRun(t *testing.T, processes []*process) (*run, int) {
	t.Helper()
	seed, steps := uint64(time.Now().UnixNano()), defaultSteps
	if s := os.Getenv("FRESHET_SURFACES_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("FRESHET_SURFACES_STEPS"); s != "" {
		var err error
		if steps, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("FRESHET_SURFACES_SEED=%d", seed)
	return &run{
		T: t, rand: rand.New(rand.NewPCG(seed, 1)), processes: processes, world: NewWorld(),
		pace: &Account{ID: pacemaker}, open: map[*Account]*stream{}, away: map[*Account]*absence{},
	}, steps
}

// begin registers the accounts, each of which posts.
func (r *run) begin() {
	r.Helper()
	r.processes[0].must(http.MethodPut, "accounts/"+pacemaker, "")
	for i := range accounts {
		r.all = append(r.all, nil)
		r.register(r.processes[0], i)
		for _, followers := range []bool{false, true} {
			r.post(r.processes[0], r.all[i], followers, "")
		}
	}
	r.agree()
}

// walk does so many steps.
func (r *run) walk(steps int) {
	r.Helper()
	for _, a := range r.all {
		r.open[a] = r.processes[r.rand.IntN(2)].open(a, "")
	}
	kinds := map[string]int{}
	for step := range steps {
		before := r.world.Clone()
		r.happened = nil
		p := r.processes[r.rand.IntN(2)]
		what := r.step(p)
		kinds[what.kind]++
		when := fmt.Sprintf("step %d: %s, through %s", step, what.says, p.name)
		if leak := r.leak(p); leak != "" {
			r.Fatalf("%s: at once, %s", when, leak)
		}
		r.post(p, r.pace, false, "")
		r.agree()
		r.streams(when, before)
		r.comeAndGo()
	}
	r.Logf("%d posts; %v; the other process agreed after %s at the latest", len(r.world.Posts), kinds, r.slowest)
}

// done is what a step did.
type done struct{ kind, says string }

// step does something.
func (r *run) step(p *process) done {
	i := r.rand.IntN(accounts)
	j := (i + 1 + r.rand.IntN(accounts-1)) % accounts
	who, whom := r.all[i], r.all[j]
	if r.world.Closed[who] {
		r.register(p, i)
		return done{"register", "register " + who.ID}
	}
	relate := func(r2 Relation, name string, on bool) done {
		method := map[bool]string{true: http.MethodPut, false: http.MethodDelete}[on]
		says := fmt.Sprintf("%s %s/%s/%s", method, who.ID, name, whom.ID)
		if r.world.Closed[whom] || r2 == Follows && on && (r.world.Has(Blocks, who, whom) || r.world.Has(Blocks, whom, who)) {
			if status, data := p.ask(nil, method, "accounts/"+who.ID+"/"+name+"/"+whom.ID, ""); status/100 == 2 {
				r.Fatalf("%s: %d %s, which may not be", says, status, data)
			}
			return done{"refused", says}
		}
		p.must(method, "accounts/"+who.ID+"/"+name+"/"+whom.ID, "")
		r.relate(r2, who, whom, on)
		if r2 == Blocks && on {
			r.relate(Follows, who, whom, false)
			r.relate(Follows, whom, who, false)
		}
		return done{fmt.Sprint(name, " ", on), says}
	}
	switch r.deal() {
	case "follow":
		return relate(Follows, "following", true)
	case "unfollow":
		return relate(Follows, "following", false)
	case "mute":
		return relate(Mutes, "muted", true)
	case "unmute":
		return relate(Mutes, "muted", false)
	case "block":
		return relate(Blocks, "blocked", true)
	case "unblock":
		return relate(Blocks, "blocked", false)
	case "close":
		p.must(http.MethodDelete, "accounts/"+who.ID, "")
		r.world.Closed[who] = true
		return done{"close", "close " + who.ID}
	case "post":
		reply := ""
		if len(r.world.Posts) > 0 && r.rand.IntN(3) == 0 {
			reply = r.world.Posts[r.rand.IntN(len(r.world.Posts))].ID
		}
		post := r.post(p, who, r.rand.IntN(2) == 0, reply)
		return done{"post", fmt.Sprintf("post %s (%q) by %s, for followers: %v", post.ID, post.Text, who.ID, post.Followers)}
	case "edit":
		if post := r.own(who); post != nil {
			r.count++
			post.Text = fmt.Sprint("edited ", r.count)
			p.must(http.MethodPatch, "posts/"+post.ID, fmt.Sprintf(`{"text":%q}`, post.Text))
			r.happened = append(r.happened, happening{"edit", post})
			return done{"edit", fmt.Sprintf("edit %s by %s: %q", post.ID, who.ID, post.Text)}
		}
	case "delete":
		if post := r.own(who); post != nil {
			p.must(http.MethodDelete, "posts/"+post.ID, "")
			post.Deleted = true
			r.happened = append(r.happened, happening{"delete", post})
			return done{"delete", fmt.Sprintf("delete %s by %s", post.ID, who.ID)}
		}
	}
	post := r.post(p, who, false, "")
	return done{"post", fmt.Sprintf("post %s by %s", post.ID, who.ID)}
}

// deck is what steps do, each as often as it stands here in as many steps.
var deck = strings.Fields("follow follow follow follow follow unfollow mute mute unmute unmute block block unblock " +
	"unblock close post post post post post edit edit delete delete")

// deal draws from the deck, which is shuffled anew when it has come to its end.
func (r *run) deal() (kind string) {
	if len(r.deck) == 0 {
		r.deck = slices.Clone(deck)
		r.rand.Shuffle(len(r.deck), func(i, j int) { r.deck[i], r.deck[j] = r.deck[j], r.deck[i] })
	}
	kind, r.deck = r.deck[0], r.deck[1:]
	return kind
}

func (r *run) relate(relation Relation, who, whom *Account, on bool) {
	if delete(r.world.Related[relation], Pair{who, whom}); on {
		r.world.Related[relation][Pair{who, whom}] = true
	}
}

// register gives the id of a number a new account, which follows the pacemaker.
func (r *run) register(p *process, i int) {
	a := &Account{ID: fmt.Sprint("account", i)}
	p.must(http.MethodPut, "accounts/"+a.ID, "")
	p.must(http.MethodPut, "accounts/"+a.ID+"/following/"+pacemaker, "")
	for _, follower := range r.crowd {
		p.must(http.MethodPut, "accounts/"+follower+"/following/"+a.ID, "")
	}
	r.all[i] = a
	r.relate(Follows, a, r.pace, true)
}

// post publishes a post.
func (r *run) post(p *process, author *Account, followers bool, replyTo string) *Post {
	r.count++
	post := &Post{Author: author, Text: fmt.Sprint("post ", r.count), Followers: followers, ReplyTo: replyTo}
	body := map[string]string{"author": author.ID, "text": post.Text, "visibility": post.visibility()}
	if replyTo != "" {
		body["reply_to"] = replyTo
	}
	data, err := json.Marshal(body)
	if err != nil {
		r.Fatal(err)
	}
	var made shown
	if err := json.Unmarshal(p.must(http.MethodPost, "posts", string(data)), &made); err != nil {
		r.Fatal(err)
	}
	post.ID = made.ID
	r.world.Posts = append(r.world.Posts, post)
	slices.SortFunc(r.world.Posts, func(a, b *Post) int { return number(a.ID) - number(b.ID) })
	r.happened = append(r.happened, happening{"post", post})
	return post
}

func number(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil {
		return 0
	}
	return n
}

func (p *Post) visibility() string {
	if p.Followers {
		return "followers"
	}
	return "public"
}

func (p *Post) same(s shown) bool {
	return s == shown{p.ID, p.Author.ID, p.Text, p.ReplyTo, p.visibility()}
}

// own is some post of the account that is not deleted.
func (r *run) own(who *Account) *Post {
	posts := r.world.Profile(who, who)
	if len(posts) == 0 {
		return nil
	}
	return posts[r.rand.IntN(len(posts))]
}

// leak is a post that the process shows to somebody who may not see it, or as it is not any more.
func (r *run) leak(p *process) string { return r.differs(p, false) }

// agree waits until all processes show what the definition says.
func (r *run) agree() {
	r.Helper()
	for _, p := range r.processes {
		begun := time.Now()
		until(r, p.name+" shows what it should", func() string { return r.differs(p, true) })
		r.slowest = max(r.slowest, time.Since(begun))
	}
}

// differs is a difference between what a process shows and the definition. What is lacking counts only if it has to be
// exact.
func (r *run) differs(p *process, exact bool) string {
	for _, viewer := range r.all {
		if r.world.Closed[viewer] {
			if status, _ := p.ask(nil, http.MethodGet, "accounts/"+viewer.ID+"/feed", ""); status != http.StatusNotFound {
				return fmt.Sprintf("%s is closed, and its feed is answered %d", viewer.ID, status)
			}
			continue
		}
		limit := 1 + len(r.world.Posts)*3%100
		feed, whole, err := p.list(nil, "accounts/"+viewer.ID+"/feed", limit)
		if d := r.compare(feed, whole, err, r.world.Feed(viewer), exact); d != "" {
			return "the feed of " + viewer.ID + ": " + d
		}
		for _, author := range append(r.all, r.pace) {
			if r.world.Closed[author] {
				continue
			}
			profile, whole, err := p.list(viewer, "accounts/"+author.ID+"/posts", limit)
			if d := r.compare(profile, whole, err, r.world.Profile(viewer, author), exact); d != "" {
				return "the posts of " + author.ID + " as " + viewer.ID + " sees them: " + d
			}
		}
		for i, post := range slices.Backward(r.world.Posts) {
			if post.Author == r.pace || i%3 != len(r.world.Posts)%3 && i < len(r.world.Posts)-3 {
				continue // others, next time
			}
			if d := r.single(p, viewer, post, exact); d != "" {
				return d
			}
		}
	}
	return ""
}

// single asks for one post.
func (r *run) single(p *process, viewer *Account, post *Post, exact bool) string {
	status, data := p.ask(viewer, http.MethodGet, "posts/"+post.ID, "")
	sees := r.world.Sees(viewer, post)
	switch {
	case status == http.StatusOK:
		var got shown
		if err := json.Unmarshal(data, &got); err != nil {
			r.Fatal(err)
		}
		if !sees || !post.same(got) {
			return fmt.Sprintf("%s is shown %s, which is %+v by %s", viewer.ID, data, *post, post.Author.ID)
		}
	case exact && (sees || status != http.StatusNotFound):
		return fmt.Sprintf("%s asks for %s by %s: %d", viewer.ID, post.ID, post.Author.ID, status)
	}
	return ""
}

// compare compares a list with the definition's.
func (r *run) compare(got []shown, whole bool, err error, want []*Post, exact bool) string {
	wanted := map[string]*Post{}
	for _, p := range want {
		wanted[p.ID] = p
	}
	for i, s := range got {
		p := wanted[s.ID]
		if p == nil || !p.same(s) {
			return fmt.Sprintf("it shows %+v", s)
		}
		if i > 0 && number(got[i-1].ID) <= number(s.ID) {
			return fmt.Sprintf("%s comes behind %s", s.ID, got[i-1].ID)
		}
	}
	if exact && (err != nil || !whole || len(got) != len(want)) {
		return fmt.Sprintf("it has %d posts, want %d; whole: %v; %v", len(got), len(want), whole, err)
	}
	return ""
}

// streams waits until the streams have told what has happened, and holds what they told against the worlds of before
// and after.
func (r *run) streams(when string, before *World) {
	r.Helper()
	for _, a := range r.absent() {
		r.away[a].missed = append(r.away[a].missed, r.happened...)
	}
	for a, s := range r.open {
		if r.world.Closed[a] {
			continue
		}
		until(r, when+": streams tell it", func() string { return s.lacks(r.world, r.happened) })
		if leak := s.leaks(before, r.world); leak != "" {
			r.Fatalf("%s: %s", when, leak)
		}
	}
}

func (r *run) absent() []*Account {
	var absent []*Account
	for _, a := range r.all { // in an order that the seed repeats
		if r.away[a] != nil {
			absent = append(absent, a)
		}
	}
	return absent
}

// comeAndGo closes streams, and opens those again that were closed, where they were, at any process.
func (r *run) comeAndGo() {
	r.Helper()
	for a, s := range r.open {
		if r.world.Closed[a] {
			s.close()
			delete(r.open, a)
		}
	}
	for _, a := range r.all {
		p := r.processes[r.rand.IntN(2)]
		change := r.rand.IntN(4) == 0
		switch {
		case r.world.Closed[a]:
			delete(r.away, a)
		case r.open[a] != nil && change:
			r.open[a].close()
			r.away[a] = &absence{from: *r.open[a].last.Load()}
			delete(r.open, a)
		case r.away[a] != nil && change:
			s := p.open(a, r.away[a].from)
			until(r, "a stream that is resumed tells what it missed", func() string {
				return s.lacks(r.world, r.away[a].missed)
			})
			if leak := s.leaks(r.world); leak != "" {
				r.Fatalf("resumed: %s", leak)
			}
			r.open[a] = s
			delete(r.away, a)
		case r.open[a] == nil && r.away[a] == nil:
			r.open[a] = p.open(a, "")
		}
	}
}
