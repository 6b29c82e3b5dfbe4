package surfaces

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/internal/app/apptest"
	"freshet/internal/config"
	"freshet/internal/embedded"
	"freshet/internal/feeds"
)

// pullAbove is how many followers an account may have before its posts are pulled: the crowd and one of the other
// accounts. Those of an account that only the crowd follows are delivered again. The pacemaker, whom all accounts
// follow, is not pulled.
const pullAbove = accounts

// TestSurfacesOfPulledAuthors is TestSurfaces where accounts come to be pulled and cease to be, again and again, by the
// same steps.
func TestSurfacesOfPulledAuthors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	redis, err := embedded.StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	c := servers(t, dir, redis.Addr())
	c.PullAbove = pullAbove
	serve(t, c, "processors", config.Directory, config.Following, config.Fanout, config.Archive)
	one, two := serve(t, c, "one", config.API), serve(t, c, "two", config.API)
	r, steps := newRun(t, []*process{one, two})
	for i := range accounts - 1 {
		r.crowd = append(r.crowd, fmt.Sprint("crowd", i))
		one.must(http.MethodPut, "accounts/"+r.crowd[i], "")
	}
	r.begin()

	for _, who := range r.all {
		for _, whom := range r.all {
			if who != whom {
				r.follow(who, whom, true)
			}
		}
	}
	r.agree()
	for _, author := range r.all {
		r.post(r.processes[0], author, false, "") // whoever has too many followers is pulled ten seconds later
	}
	for _, author := range r.all {
		r.pulled(author, true) // once all readers have to know that it is
	}
	star := r.all[0]
	for _, who := range r.all[1:] {
		r.follow(who, star, false)
	}
	r.pulled(star, false)
	for _, who := range r.all[1:] {
		r.follow(who, star, true)
	}
	r.pulled(star, true)
	r.walk(steps / 3) // a process may show another's pulled post a second later
}

// servers is what the processes of a deployment on a Redis have in common. They get a Kafka.
func servers(t *testing.T, dir, redis string) config.Config {
	t.Helper()
	kafka, err := embedded.StartKafka(filepath.Join(dir, "kafka"), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	c := config.Deployment()
	c.Apart, c.Kafka, c.Redis, c.DataDir = true, kafka.Addrs(), []string{redis}, dir
	c.Partitions, c.Replication, c.MinInSync, c.Zones = 4, 1, 1, 8
	c.CursorKey = filepath.Join(dir, "cursor.key")
	return c
}

// serve starts a process, which has its data under its name.
func serve(t *testing.T, c config.Config, name string, roles ...config.Role) *process {
	t.Helper()
	c.Roles, c.DataDir = roles, filepath.Join(c.DataDir, name)
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &process{t, name, apptest.Start(t, c), &http.Client{Transport: transport}}
}

// follow makes one account follow another, or not any more.
func (r *run) follow(who, whom *Account, on bool) {
	r.Helper()
	method := map[bool]string{true: http.MethodPut, false: http.MethodDelete}[on]
	r.processes[0].must(method, "accounts/"+who.ID+"/following/"+whom.ID, "")
	r.relate(Follows, who, whom, on)
}

// pulled posts until a post of the author is in no feed of Redis, or in some, and everybody is shown it all the same.
func (r *run) pulled(author *Account, pulled bool) {
	r.Helper()
	again := time.NewTicker(freshet.PullSlack / 5)
	defer again.Stop()
	for deadline := time.Now().Add(freshet.PullSlack + patience); ; <-again.C {
		post := r.post(r.processes[0], author, false, "")
		until(r, "fan-out has handled a post", func() string {
			if n := r.counted(author); n != len(r.world.Profile(author, author)) {
				return fmt.Sprintf("%s has %d posts", author.ID, n)
			}
			return ""
		})
		r.agree()
		n := r.delivered(post)
		if (n == 0) == pulled {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("a post of %s is in %d feeds; want it pulled: %v", author.ID, n, pulled)
		}
	}
}

// counted is how many posts of the account fan-out has counted. It counts one when it is in Redis.
func (r *run) counted(a *Account) int {
	r.Helper()
	var account struct{ Posts int }
	_, data := r.processes[0].ask(nil, http.MethodGet, "accounts/"+a.ID, "")
	if err := json.Unmarshal(data, &account); err != nil {
		r.Fatal(err)
	}
	return account.Posts
}

// delivered counts the feeds, and the entries of logs, that have a post.
func (r *run) delivered(post *Post) (found int) {
	r.Helper()
	client := redis.NewClient(&redis.Options{Addr: r.processes[0].Redis()[0]})
	defer client.Close() //nolint:errcheck // it was read from
	id := string(feeds.AppendID(nil, freshet.PostID(number(post.ID))))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	logs, err := client.Keys(ctx, "*:log:*").Result()
	if err != nil {
		r.Fatal(err)
	}
	for _, key := range logs {
		value, err := client.Get(ctx, key).Result()
		if err != nil {
			r.Fatal(err)
		}
		found += strings.Count(value, id)
	}
	blocks, err := client.Keys(ctx, "*:feeds:*").Result()
	if err != nil {
		r.Fatal(err)
	}
	for _, key := range blocks {
		slots, err := client.HGetAll(ctx, key).Result()
		if err != nil {
			r.Fatal(err)
		}
		for _, feed := range slots {
			found += strings.Count(feed, id)
		}
	}
	return found
}
