package streams_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lovoo/goka/storage"

	"freshet"
	"freshet/emitters"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/internal/posts/pebblestore"
	"freshet/streams"
	"freshet/views"
)

// failing is a Redis that can be away, and one that hides posts.
type failing struct {
	feeds.Conn
	away, hides atomic.Bool
}

// hub is one by itself, on the deployment's servers.
type hub struct {
	*streams.Hub
	*deployment
	accounts *views.Accounts
	rows     *views.Following
	redis    *failing
}

// hub starts one with other bounds than the program's.
func (d *deployment) hub(change func(*streams.Config)) *hub {
	d.Helper()
	must := func(err error) {
		d.Helper()
		if err != nil {
			d.Fatal(err)
		}
	}
	names := freshet.Names{Prefix: freshet.DefaultPrefix}
	settings := func(name string) kafka.ViewSettings {
		return kafka.ViewSettings{ClientID: "test-" + name, Config: kafka.Config, Storage: storage.MemoryBuilder()}
	}
	brokers := d.common.Kafka
	accounts, err := views.NewAccounts(brokers, names, settings("accounts"))
	must(err)
	rows, err := views.NewFollowing(brokers, names, settings("following"))
	must(err)
	store, err := pebblestore.Open(d.TempDir(), pebblestore.Options{})
	must(err)
	d.Cleanup(func() { must(store.Close()) })
	layout := feeds.Layout{Zones: 8, FeedLength: 400}
	conn, err := feeds.Connect(d.Context(), layout, d.common.Redis)
	must(err)
	d.Cleanup(func() { must(conn.Close()) })
	redis := &failing{Conn: conn}
	config := streams.Config{
		Brokers: brokers, Topic: names.Topic(freshet.Posts), Partitions: 4, Rows: rows, Accounts: accounts,
		Feeds: &views.Feeds{
			Conn: redis, Layout: layout, Store: store, Rows: rows, Accounts: accounts, Partitions: 4,
			ProduceTimeout: emitters.ProduceTimeout, Now: time.Now, Random: rand.Uint64,
		},
	}
	if change != nil {
		change(&config)
	}
	h := &hub{streams.New(config), d, accounts, rows, redis}
	rows.Notice(h.Changed)
	for _, part := range []interface {
		Run(ctx context.Context) error
		Ready() <-chan struct{}
	}{accounts, rows, h.Hub} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- part.Run(ctx) }()
		d.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				d.Errorf("%T: %v", part, err)
			}
		})
		select {
		case <-part.Ready():
		case <-time.After(patience):
			d.Fatalf("%T is not ready", part)
		}
	}
	return h
}

// follower is a stream of a hub by itself.
type follower struct {
	*streams.Stream
	*hub
	mark    streams.Position
	resets  int
	waiting []string
}

func (h *hub) open(id freshet.AccountID, from streams.Position, abort func()) *follower {
	h.Helper()
	var account freshet.Account
	h.until("the account is known", func() (known bool) {
		account, known, _ = h.accounts.ByID(id)
		return known
	})
	h.until("the follow is known", func() bool {
		row, _ := h.rows.Row(account.Number)
		return row.Count() > 0
	})
	s, err := h.Open(account.Number, from, abort)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(s.Close)
	return &follower{Stream: s, hub: h, mark: from}
}

// take takes what the stream has to tell within a time.
func (f *follower) take(wait time.Duration) error {
	b, err := f.Next(f.Context(), wait)
	if err != nil {
		return err
	}
	if b.Mark != nil {
		f.mark = b.Mark.Position
	}
	if b.Reset {
		f.resets++
	}
	for _, e := range b.Events {
		f.waiting = append(f.waiting, e.Post.Text)
	}
	return nil
}

// want takes events until these have come, which have to be all.
func (f *follower) want(texts ...string) {
	f.Helper()
	for deadline := time.Now().Add(patience); len(f.waiting) < len(texts) && time.Now().Before(deadline); {
		if err := f.take(time.Second); err != nil {
			f.Fatal(err)
		}
	}
	if got, want := strings.Join(f.waiting, "|"), strings.Join(texts, "|"); got != want {
		f.Fatalf("the stream told %q, want %q", got, want)
	}
	f.waiting = nil
}

func numbered(p *process, author string, from, to int) (texts []string) {
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint("number ", i))
		p.post(author, texts[len(texts)-1])
	}
	return texts
}

// A reader that does not take what it gets is ended, others get everything, and it can come back.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	h := d.hub(func(c *streams.Config) { c.Queue = 8 })
	p.register("ann", "bob")
	p.follow("ann", "bob")
	aborted := make(chan struct{})
	quick, slow := h.open("ann", nil, nil), h.open("ann", nil, func() { close(aborted) })
	for _, f := range []*follower{quick, slow} {
		if err := f.take(time.Second); err != nil { // where it begins
			t.Fatal(err)
		}
	}
	var texts []string
	for i := range 20 {
		one := numbered(p, "bob", i, i+1)
		quick.want(one...)
		texts = append(texts, one...)
	}
	select {
	case <-aborted:
	case <-time.After(patience):
		t.Fatal("the slow reader's write is not ended")
	}
	if err := slow.take(time.Second); !errors.Is(err, streams.ErrSlow) {
		t.Fatalf("the slow reader: %v, want ErrSlow", err)
	}
	if c := h.Counts(); c.Slow != 1 || c.Open != 2 {
		t.Errorf("%+v", c)
	}
	slow.Close()
	h.open("ann", slow.mark, nil).want(texts...)
}

// A stream that begins before what the process has kept reads the log, and goes on live.
func TestResumeFromTheLog(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	h := d.hub(func(c *streams.Config) { c.Ring = 16 })
	p.register("ann", "bob", "cid")
	p.follow("ann", "bob")
	f := h.open("ann", nil, nil)
	f.want()
	if err := f.take(time.Second); err != nil {
		t.Fatal(err)
	}
	from := f.mark
	texts := numbered(p, "bob", 0, 200)
	for i := range 50 {
		p.post("cid", fmt.Sprint("strange ", i))
	}
	f.want(texts...)
	later := h.open("ann", from, nil)
	more := numbered(p, "bob", 200, 230)
	later.want(append(texts, more...)...)
	if c := h.Counts(); c.Replays == 0 || c.Resets != 0 {
		t.Errorf("%+v; want the log to have been read, and nobody to begin anew", c)
	}
	live := numbered(p, "bob", 230, 240)
	later.want(live...)
	f.want(append(more, live...)...)

	// A position that is not one of this log: the reader is told to read the feed anew, and gets what comes then.
	lost := h.open("ann", append(from, 0), nil)
	if err := lost.take(time.Second); err != nil || lost.resets != 1 {
		t.Fatalf("%d resets, %v", lost.resets, err)
	}
	lost.want(numbered(p, "bob", 240, 241)...)
}

// While Redis is away nothing is told, and afterwards all of it, in order; also to one who comes meanwhile.
func TestRedisIsAway(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	h := d.hub(nil)
	p.register("ann", "bob")
	p.follow("ann", "bob")
	f := h.open("ann", nil, nil)
	if err := f.take(time.Second); err != nil {
		t.Fatal(err)
	}
	from := f.mark
	before := numbered(p, "bob", 0, 3)
	f.want(before...)
	h.redis.away.Store(true)
	texts := numbered(p, "bob", 3, 10)
	d.until("the hub waits", func() bool { return h.Counts().Waiting > 0 })
	back := h.open("ann", from, nil)
	if err := back.take(50 * time.Millisecond); err != nil || len(back.waiting) > 0 {
		t.Fatalf("%q, %v: told without Redis", back.waiting, err)
	}
	h.redis.away.Store(false)
	f.want(texts...)
	back.want(append(before, texts...)...)
}

// A follow that another process took comes to this one behind posts of whom is followed: they are told all the same.
func TestFollowThatComesLate(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	p := d.api("one")
	p.register("ann", "bob", "cid")
	p.follow("ann", "cid")
	h := d.hub(nil)
	f := h.open("ann", nil, nil)
	if err := f.take(time.Second); err != nil {
		t.Fatal(err)
	}
	texts := numbered(p, "bob", 0, 3)
	before := h.Counts().Records
	numbered(p, "bob", 3, 4)
	d.until("the posts were handed out", func() bool { return h.Counts().Records > before })
	p.follow("ann", "bob")
	f.want(append(texts, "number 3")...)
	f.want(numbered(p, "bob", 4, 5)...)
}
