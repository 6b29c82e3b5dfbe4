package sim

import (
	"math"
	"slices"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/internal/kafka"
	"freshet/processors/following"
)

// Story is a run that is told rather than drawn: a small deployment to which nothing happens but what Play lets
// happen. It is for counterexamples that take too many accidents in a row for chance.
type Story struct {
	Name string
	// Rule is the mutation without whose rule the story ends badly.
	Rule string
	// Stage changes the deployment of a story: one process of each kind, one Redis, a few accounts.
	Stage func(w *world)
	Play  func(s *scene)
}

// RunStory tells a story, without the rule of that name if it is not empty, and compares the end with the definition.
// By the seed goes what the story leaves open, such as who is first.
func RunStory(story Story, seed uint64, mutation string, trace bool) *Violation {
	w := newWorld(Config{Seed: seed, Mutation: mutation, Trace: trace, story: &story})
	defer func() {
		for _, c := range w.coros {
			c.kill()
		}
	}()
	s := w.scene
	s.until("everything has begun", func() bool { return w.unrest() == "" })
	story.Play(s)
	s.held, s.blocked, s.limit = nil, nil, nil
	for _, a := range w.apis {
		a.view.stallTo, a.tiers.stallTo = 0, 0
	}
	s.archive(true)
	w.scene, w.pace.commit = nil, 1
	if w.violated == nil {
		w.rest()
	}
	return w.violated
}

// scene is what a story has in its hands.
type scene struct {
	*world
	// held are the operations on Redis that have to wait.
	held []func(by *coro, op feeds.Op) bool
	// limit is the offset below which the records of a topic are delivered.
	limit map[*topic]int64
	// blocked are the topics into which nothing gets.
	blocked map[*topic]bool
}

// stage makes the deployment of a story.
func (w *world) stage(story *Story) {
	w.scene = &scene{world: w, limit: map[*topic]int64{}, blocked: map[*topic]bool{}}
	clear(w.rates)
	w.partitions, w.layout, w.tree.PageSize = 1, feeds.Layout{Zones: 2, FeedLength: 100}, 4
	w.shape = shape{1, 1, 1, 1, 1}
	w.pace = pace{fault: math.MaxInt, stick: math.MaxInt, view: 1, store: 1, commit: math.MaxInt}
	w.accounts = w.accounts[:3] // a third, who does nothing
	if story.Stage != nil {
		story.Stage(w)
	}
}

const stuckScene = "a scene is stuck"

// until lets everybody go on until something is so.
func (s *scene) until(what string, done func() bool) {
	if !s.within(100_000, done) && s.violated == nil {
		s.violate(stuckScene, nil, "waiting until %s: %s", what, s.unrest())
	}
}

// within lets everybody go on for so many steps, or until something is so.
func (s *scene) within(steps int, done func() bool) bool {
	for last := s.step + steps; s.violated == nil && s.step < last; s.step++ {
		if done() {
			return true
		}
		s.advance()
	}
	return done()
}

func (s *scene) settled() { s.until("all is done", func() bool { return s.unrest() == "" }) }

// hold makes operations wait, until it is called off.
func (s *scene) hold(which func(by *coro, op feeds.Op) bool) (release func()) {
	i := len(s.held)
	s.held = append(s.held, which)
	return func() {
		if i < len(s.held) {
			s.held[i] = func(*coro, feeds.Op) bool { return false }
		}
	}
}

func (s *scene) holds(by *coro, op feeds.Op) bool {
	for _, held := range s.held {
		if held(by, op) {
			return true
		}
	}
	return false
}

// stopped says that the record at an offset is not to be delivered.
func (w *world) stopped(t *topic, offset int64) bool {
	if w.scene == nil {
		return false
	}
	limit, limited := w.scene.limit[t]
	return limited && offset >= limit
}

func (w *world) shut(t *topic) bool { return w.scene != nil && w.scene.blocked[t] }

// stop lets no more records of a topic be delivered; in a story it has one partition.
func (s *scene) stop(t *topic) { s.limit[t] = t.end(0) }

func (s *scene) archive(goes bool) {
	for _, a := range s.archives {
		if a.stallTo = 0; !goes {
			a.stallTo = math.MaxInt
		}
	}
}

// isOpen is how a recovery begins, and a session.
func isOpen(_ *coro, op feeds.Op) bool {
	_, ok := op.(*feeds.Open)
	return ok
}

func isOutboxEntry(_ *coro, op feeds.Op) bool {
	_, ok := op.(*feeds.AppendOutbox)
	return ok
}

// holdUntilAsked is hold, and asked says whether there has been such an operation.
func (s *scene) holdUntilAsked(which func(by *coro, op feeds.Op) bool) (asked func() bool, release func()) {
	came := false
	release = s.hold(func(by *coro, op feeds.Op) bool {
		held := which(by, op)
		came = came || held
		return held
	})
	return func() bool { return came }, release
}

func (s *scene) client(what string, start func(a *api)) {
	a := s.apis[0]
	start(a)
	s.until(what+" is answered", func() bool { return a.busy == 0 })
}

func (s *scene) follow(follower, author freshet.Number) {
	s.client("the follow", func(a *api) { a.relate(following.Follow, follower, author) })
}

func (s *scene) unfollow(follower, author freshet.Number) {
	s.client("the unfollow", func(a *api) { a.relate(following.Unfollow, follower, author) })
}

// followed follows, and waits until the tree has reported it and every process knows.
func (s *scene) followed(follower, author freshet.Number) {
	s.follow(follower, author)
	s.until("the follow is applied", func() bool {
		relation, _ := s.rowOf(follower).Relation(author)
		last := s.truth.last[[2]freshet.Number{follower, author}]
		return relation.Applied && following.OffsetOf(relation.Version) == last && s.seen(follower)
	})
}

// seen says that every process has the account's row as it is.
func (s *scene) seen(n freshet.Number) bool {
	for _, a := range s.apis {
		if a.view.stallTo == 0 && a.view.rows[n.Key()] != s.rowOf(n) {
			return false
		}
	}
	return true
}

func (s *scene) post(author freshet.Number) *postTruth {
	n := len(s.truth.order)
	s.client("the post", func(a *api) { a.publish(author) })
	if len(s.truth.order) == n {
		return &postTruth{}
	}
	return s.truth.order[n]
}

// posted posts, and waits until fan-out has brought it everywhere and committed that.
func (s *scene) posted(author freshet.Number) *postTruth {
	p := s.post(author)
	s.until("the post is due", func() bool { return p.due })
	s.commit()
	return p
}

// commit commits what is released, of fan-out.
func (s *scene) commit() {
	for _, h := range s.fanout.hosts {
		if h.sess != nil {
			h.sess.commit()
			h.landCommits(1)
		}
	}
}

// read reads an account's feed through a process, which checks the page.
func (s *scene) read(a *api, reader freshet.Number) {
	a.read(reader, 0, 50)
	s.until("the page is read", func() bool { return a.busy == 0 })
}

// restart ends fan-out's process and starts another one.
func (s *scene) restart() { again(s.fanout.hosts[0]) }

func again(h *host) {
	h.die()
	h.start()
}

// finished and released say how far fan-out's first host is in its first partition of a topic.
func (s *scene) finished(t *topic) int64 { return s.in(t).tracker.Finished() }
func (s *scene) released(t *topic) int64 { return s.in(t).tracker.Released() }

func (s *scene) in(t *topic) *input {
	if sess := s.fanout.hosts[0].sess; sess != nil && sess.ready {
		return sess.parts[0].inputs[slices.Index(s.fanout.inputs, t)]
	}
	return &input{tracker: kafka.NewTracker(0, false)}
}

// noting lets a writer note watermarks, or not.
func (s *scene) noting(h *host, goes bool) {
	if h.writer.noteAt = (time.Time{}); !goes {
		h.writer.noteAt = s.now.Add(365 * 24 * time.Hour)
	}
}

// wellEverywhere says that no zone is lost or being recovered.
func (s *scene) wellEverywhere() bool {
	for zone := range feeds.Zone(s.layout.Zones) {
		if !s.redis.model.Well(zone) {
			return false
		}
	}
	return true
}

// rewind takes a node of Redis back to where its history was so long.
func (s *scene) rewind(n *node, to int) {
	s.redis.lose(n, len(n.history)-to)
	s.step++ // whoever looks now looks later
}

// flushAll empties a node of Redis.
func (s *scene) flushAll(n *node) {
	s.redis.flushAll(n)
	s.step++
}

func (s *scene) noticed() {
	s.until("the loss is noticed", func() bool { return len(s.truth.losses) == 0 })
}

func (s *scene) later(d time.Duration) { s.now = s.now.Add(d) }

// compact begins to compact the account's block.
func (s *scene) compact(n freshet.Number) *coro {
	h := s.fanout.hosts[0]
	return s.spawn(h.proc, "compaction", func(*coro) {
		_, _ = s.layout.CompactBlock(background, h.writer.conn, n.Block(), 0, s.fresh("g"))
	})
}

func (s *scene) compacted(n freshet.Number) {
	c := s.compact(n)
	s.until("the block is compacted", func() bool { return c.ended })
}
