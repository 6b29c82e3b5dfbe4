package sim

import (
	"time"

	"freshet/internal/feeds"
)

// lateBody begins a post of which the own process writes the body late; it needs two API processes.
func (s *scene) lateBody() (p *postTruth, release func()) {
	asked, release := s.holdUntilAsked(func(by *coro, op feeds.Op) bool {
		_, ok := op.(*feeds.PutBody)
		return ok && by.name == "publish"
	})
	s.apis[1].publish(s.accounts[1])
	s.until("the post's own process is about to write it", asked)
	return s.truth.order[0], release
}

// These are about bodies, edits and deletes.
var postStories = []Story{
	{
		Name: "a clock that steps back to the moment of an earlier id",
		Rule: "a step back of the clock is not waited out",
		Play: func(s *scene) {
			p := s.post(s.accounts[1])
			s.later(time.Second)
			s.post(s.accounts[1])
			s.client("the post", func(a *api) {
				a.setBack = s.now.Sub(p.id.Time())
				a.publish(s.accounts[1])
				s.coros[len(s.coros)-1].run() // at this moment
			})
		},
	},
	{
		Name: "a body written again after the archive had passed the delete",
		Rule: "body written though stored",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			p := s.post(author)
			s.until("the post is due", func() bool { return p.due })
			s.read(s.apis[0], reader)
			s.client("the delete", func(a *api) { a.remove(p) })
			s.settled()
			s.later(2 * feeds.BodyLife) // the tombstone has expired
			s.limit[s.posts] = 1        // the post comes again, and its delete not yet
			s.restart()
			h := s.fanout.hosts[0]
			s.until("the post has come again", func() bool {
				return h.sess != nil && h.sess.ready && h.sess.parts[0].inputs[1].tracker.Finished() == 1
			})
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "a tombstone written before the delete was in the log",
		Rule: "tombstone before the log",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			p := s.posted(author)
			s.blocked[s.posts] = true
			s.apis[0].remove(p)
			s.within(500, func() bool { return false })
			s.later(2 * produceTimeout)
			delete(s.blocked, s.posts)
			s.until("the delete has failed", func() bool { return s.apis[0].busy == 0 })
			s.read(s.apis[0], reader)
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
			s.flushAll(s.redis.nodes[0])
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
			s.flushAll(s.redis.nodes[0])
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
	{
		Name:  "a post's body that is written after that of its edit",
		Rule:  "an older body over a later one",
		Stage: func(w *world) { w.shape.apis, w.pace.courtesy = 2, 1 },
		Play: func(s *scene) {
			p, release := s.lateBody()
			s.client("the edit", func(a *api) { a.edit(p) })
			s.until("fan-out has written the edit", func() bool { return s.released(s.posts) == 2 })
			release()
		},
	},
	{
		Name: "an edit that the archive has before fan-out",
		Rule: "an edit leaves a stored post's body",
		Play: func(s *scene) {
			s.archive(false)
			p := s.posted(s.accounts[1])
			s.archive(true)
			s.stop(s.posts)
			s.client("the edit", func(a *api) { a.edit(p) })
			s.until("the writer knows that it is stored", func() bool { return s.fanout.hosts[0].writer.stored[0] == 2 })
		},
	},
	{
		Name: "a lost tombstone of a delete that the archive has yet to store",
		Rule: "the store trusted while recovering",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			p := s.posted(author)
			s.settled()
			s.archive(false)
			s.stop(s.posts)
			s.client("the delete", func(a *api) { a.remove(p) })
			s.flushAll(s.redis.nodes[0])
			s.noticed()
			s.read(s.apis[0], reader)
		},
	},
}
