package sim

import (
	"time"

	"freshet"
)

// These are about what Redis loses, and how that is noticed.
var lossStories = []Story{
	{
		Name: "a crash between a flush and its watermark",
		Rule: "commit before watermark",
		Play: func(s *scene) {
			s.followed(s.accounts[0], s.accounts[1])
			s.until("watermarks are noted", func() bool { return s.truth.begun > 0 })
			s.noting(s.fanout.hosts[0], false)
			s.post(s.accounts[1])
			s.until("the post is flushed", func() bool { return s.finished(s.posts) == 1 })
			s.commit()
			s.restart()
			s.settled()
		},
	},
	{
		Name: "a new owner's counter registered after it read the watermarks",
		Rule: "counter moved after the watermarks were read",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			s.read(s.apis[0], reader)
			s.settled()
			n := s.redis.nodes[0]
			snapshot := len(n.history)
			s.posted(author)
			h := s.fanout.hosts[0]
			s.restart()
			h.writer.noteAt = s.now.Add(time.Hour)
			s.until("the new owner begins", func() bool { return h.sess != nil && h.sess.ready })
			s.rewind(n, snapshot)
			h.writer.noteAt = time.Time{}
			s.settled()
			s.read(s.apis[0], reader)
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
