package sim

import (
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
			p := s.posted(s.accounts[1])
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
			s.redis.flushAll(s.redis.nodes[0])
			s.noticed()
			s.read(s.apis[0], reader)
		},
	},
}
