package sim

import (
	"time"

	"freshet/internal/feeds"
)

// These are about how a loss is made good.
var recoveryStories = []Story{
	{
		Name:  "a zone that goes back to an older recovery, without a delete's tombstone",
		Rule:  "tokens without an order",
		Stage: apart,
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			old := s.redis.nodes[1]
			s.followed(reader, author)
			p := s.posted(author)
			for s.layout.OfPost(p.id) != 1 && s.violated == nil {
				p = s.posted(author)
			}
			s.settled()
			s.commit()
			snapshot := len(old.history)
			s.flushAll(s.redis.nodes[0])
			s.noticed()
			s.settled()
			s.stop(s.posts)
			s.archive(false)
			s.client("the delete", func(a *api) { a.remove(p) })
			s.rewind(old, snapshot)
			s.noticed()
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "a zone that goes back to its first moments, in which an outbox was loaded",
		Rule: "no watermarks in a new zone",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			wr := s.fanout.hosts[0].writer
			wr.noteAt, wr.suspect = s.now.Add(time.Hour), true
			s.flushAll(s.redis.nodes[0])
			s.followed(reader, author)
			s.noticed()
			s.read(s.apis[0], reader)
			snapshot := len(s.redis.nodes[0].history)
			wr.noteAt = time.Time{}
			s.posted(author)
			s.settled()
			s.commit()
			s.rewind(s.redis.nodes[0], snapshot)
			s.settled()
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "watermarks of before the loss, noted after it",
		Rule: "positions of old sessions noted",
		Play: func(s *scene) {
			reader, _, snapshot := s.postedSince()
			s.limit[s.posts] = 0
			s.rewind(s.redis.nodes[0], snapshot)
			s.noticed()
			s.within(2000, s.wellEverywhere)
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "a loss that the next owner notices, and stays where it is",
		Rule: "do not go back",
		Play: func(s *scene) {
			_, _, snapshot := s.postedSince()
			s.rewind(s.redis.nodes[0], snapshot)
			s.restart()
			s.noticed()
		},
	},
	{
		Name: "another writer that recovers when its session begins",
		Rule: "another writer's recovery ignored",
		Stage: func(w *world) {
			w.partitions, w.shape.fanout = 2, 2
			w.scene.hold(func(by *coro, op feeds.Op) bool { // one begins after the other
				first, second := w.fanout.hosts[0], w.fanout.hosts[1]
				return isOpen(by, op) && by.owner == second.proc && (first.sess == nil || !first.sess.ready)
			})
		},
		Play: func(s *scene) {
			s.held = nil
			author := s.accounts[1]
			partition := s.posts.partition(author.Key())
			owner, other := s.fanout.hosts[partition], s.fanout.hosts[1-partition]
			s.posted(author)
			s.settled()
			s.noting(owner, false)
			release := s.hold(func(by *coro, op feeds.Op) bool {
				return isOpen(by, op) && by.owner == other.proc
			})
			session := owner.sessions
			again(other)
			s.until("the owner has begun anew", func() bool { return owner.sessions > session && owner.sess.ready })
			s.flushAll(s.redis.nodes[0])
			release()
			s.noticed()
			s.noting(owner, true)
		},
	},
	{
		Name: "a zone that is lost once more, with a tombstone, while it is renewed",
		Rule: "a zone lost twice looks lost once",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			p := s.posted(author)
			s.settled()
			s.commit()
			s.archive(false)
			s.stop(s.posts)
			asked, release := s.holdUntilAsked(func(_ *coro, op feeds.Op) bool {
				_, ok := op.(*feeds.Recover)
				return ok
			})
			s.flushAll(s.redis.nodes[0])
			s.until("the loss is about to be made good", asked)
			s.client("the delete", func(a *api) { a.remove(p) })
			s.flushAll(s.redis.nodes[0])
			release()
			s.noticed()
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "a loss that is looked for again and again while another node is away",
		Rule:  "looking again hides a loss",
		Stage: apart,
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			s.read(s.apis[0], reader)
			s.settled()
			lost, away := s.redis.nodes[0], s.redis.nodes[1]
			s.noting(s.fanout.hosts[0], false)
			snapshot := len(lost.history)
			s.post(author)
			s.until("the post is flushed", func() bool { return s.finished(s.posts) == 1 })
			s.rewind(lost, snapshot)
			away.awayTo = s.step + 2000
			s.noting(s.fanout.hosts[0], true)
			s.until("the node is back", func() bool { return s.step >= away.awayTo })
			s.settled()
		},
	},
}
