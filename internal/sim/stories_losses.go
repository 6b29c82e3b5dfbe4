package sim

import (
	"freshet"
	"freshet/internal/feeds"
)

// These are about what Redis loses, and how that is noticed and made good.
var lossStories = []Story{
	{
		Name: "a page that is read before the posts have come again",
		Rule: "complete though a zone recovers",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.archive(false)
			s.followed(reader, author)
			s.posted(author)
			s.limit[s.posts] = 0
			s.redis.flushAll(s.redis.nodes[0])
			s.noticed()
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
		Name: "a loss between a flush and its watermark",
		Rule: "no counter check",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			s.read(s.apis[0], reader)
			s.settled()
			s.noting(s.fanout.hosts[0], false)
			snapshot := len(s.redis.nodes[0].history)
			s.post(author)
			s.until("the post is flushed", func() bool { return s.finished(s.posts) == 1 })
			s.rewind(s.redis.nodes[0], snapshot)
			s.noting(s.fanout.hosts[0], true)
			s.settled()
		},
	},
	{
		Name: "a loss of what came after a watermark, and a crash",
		Rule: "watermark before the data",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			s.read(s.apis[0], reader)
			s.settled()
			asked, release := s.holdUntilAsked(isOutboxEntry)
			p := s.post(author)
			s.until("the post is to be flushed", asked)
			snapshot := len(s.redis.nodes[0].history)
			release()
			s.until("the post is due", func() bool { return p.due })
			s.commit()
			s.rewind(s.redis.nodes[0], snapshot)
			s.restart()
			s.settled()
		},
	},
	{
		Name:  "another writer that recovers when its session begins",
		Rule:  "another writer's recovery ignored",
		Stage: func(w *world) { w.partitions, w.shape.fanout = 2, 2 },
		Play: func(s *scene) {
			author := s.accounts[1]
			partition := s.posts.partition(author.Key())
			owner, other := s.fanout.hosts[partition], s.fanout.hosts[1-partition]
			s.posted(author)
			s.settled()
			s.noting(owner, false)
			release := s.hold(func(by *coro, op feeds.Op) bool {
				_, ok := op.(*feeds.Open)
				return ok && by.owner == other.proc
			})
			session := owner.sessions
			again(other)
			s.until("the owner has begun anew", func() bool { return owner.sessions > session && owner.sess.ready })
			s.redis.flushAll(s.redis.nodes[0])
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
			s.redis.flushAll(s.redis.nodes[0])
			s.until("the loss is about to be made good", asked)
			s.client("the delete", func(a *api) { a.remove(p) })
			s.redis.flushAll(s.redis.nodes[0])
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
	{
		Name:  "an outbox load that straddles a loss",
		Rule:  "ignore the token in RewriteOutbox",
		Stage: func(w *world) { w.shape.apis = 2 },
		Play: func(s *scene) {
			author := s.accounts[1]
			s.archive(false)
			asked, release := s.holdUntilAsked(func(_ *coro, op feeds.Op) bool {
				_, ok := op.(*feeds.RewriteOutbox)
				return ok
			})
			s.apis[1].read(author, 0, 50)
			s.until("the empty outbox is loaded", asked)
			s.posted(author)
			s.archive(true)
			s.until("the archive has the post", func() bool { return s.store.progress[0].Offset == 1 })
			s.redis.flushAll(s.redis.nodes[0])
			s.noticed()
			s.until("all zones are well", s.wellEverywhere)
			release()
		},
	},
	{
		Name:  "a body that a slow process writes when the tombstone is lost",
		Rule:  "ignore the token in PutBody",
		Stage: func(w *world) { w.shape.apis, w.pace.courtesy = 2, 1 },
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			p, release := s.lateBody()
			s.client("the delete", func(a *api) { a.remove(p) })
			s.until("all have the delete", func() bool {
				return s.store.progress[0].Offset == 2 && s.released(s.posts) == 2
			})
			s.commit()
			s.redis.flushAll(s.redis.nodes[0])
			s.noticed()
			s.until("all zones are well", s.wellEverywhere)
			release()
		},
	},
	{
		Name: "a body that comes again before its delete",
		Rule: "bodies trusted while recovering",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.archive(false)
			s.followed(reader, author)
			p := s.posted(author)
			s.client("the delete", func(a *api) { a.remove(p) })
			s.until("the delete is handled", func() bool { return s.released(s.posts) == 2 })
			s.commit()
			s.limit[s.posts] = 1
			s.redis.flushAll(s.redis.nodes[0])
			s.noticed()
			s.until("the post has come again", func() bool { return s.finished(s.posts) == 1 })
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "a deleted post below the floor",
		Rule:  "no look for tombstones below the floor",
		Stage: func(w *world) { w.layout.FeedLength = 2 },
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			p := s.posted(author)
			for range s.layout.FeedLength {
				s.posted(author)
			}
			s.later(2 * produceTimeout)
			s.until("the archive has passed all of them", s.stored)
			s.archive(false)
			s.client("the delete", func(a *api) { a.remove(p) })
			s.read(s.apis[0], reader)
		},
	},
}

// postedSince is a post that a reader's feed has got, and how long the history of Redis was before it.
func (s *scene) postedSince() (reader, author freshet.Number, snapshot int) {
	reader, author = s.accounts[0], s.accounts[1]
	s.followed(reader, author)
	s.read(s.apis[0], reader)
	s.settled()
	snapshot = len(s.redis.nodes[0].history)
	s.posted(author)
	return reader, author, snapshot
}
