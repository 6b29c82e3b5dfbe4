package sim

import (
	"time"

	"freshet"
)

// bigAuthors is a deployment in which whoever has two followers is pulled, once a story says so.
func bigAuthors(w *world) {
	w.tiers.on, w.tiers.slack = true, freshet.PullSlack
}

// followedByTwo gives an author more followers than the limit that begins now, and both of them a feed.
func (s *scene) followedByTwo() (reader, author freshet.Number) {
	reader, author, other := s.accounts[0], s.accounts[1], s.accounts[2]
	for _, follower := range []freshet.Number{reader, other} {
		s.followed(follower, author)
		s.read(s.apis[0], follower)
	}
	s.tree.PullAbove = 1
	return reader, author
}

// These are about authors that are pulled.
var tierStories = []Story{
	{
		Name:  "a statement that takes as long as the slack to get into the log",
		Rule:  "slack from before the acknowledgement",
		Stage: bigAuthors,
		Play: func(s *scene) {
			reader, author := s.followedByTwo()
			s.blocked[s.tiers.log] = true
			s.post(author)
			s.until("the author is to be pulled", func() bool { return s.finished(s.posts) == 1 })
			s.later(s.tiers.slack)
			p := s.post(author)
			then := s.now
			s.until("the next post is handled", func() bool { return s.finished(s.posts) == 2 })
			s.until("the reader knows that nothing is stated", func() bool {
				return s.apis[0].tiers.pulled.AsOf.After(then)
			})
			s.apis[0].tiers.stallTo = 1 << 40
			delete(s.blocked, s.tiers.log)
			s.until("the post is due", func() bool { return p.due })
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "a reader that has yet to hear that an author is pulled",
		Rule:  "no slack before authors are pulled",
		Stage: bigAuthors,
		Play: func(s *scene) {
			reader, author := s.followedByTwo()
			s.apis[0].tiers.stallTo = 1 << 40
			s.posted(author)
			s.posted(author)
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "a reader whose view of tiers has stood still for as long as the slack",
		Rule:  "complete though the view of tiers is behind",
		Stage: bigAuthors,
		Play: func(s *scene) {
			reader, author := s.followedByTwo()
			s.apis[0].tiers.stallTo = 1 << 40
			s.posted(author)
			s.later(s.tiers.slack)
			s.posted(author)
			s.later(time.Second) // past the time for which an outbox is kept
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "an author that is pulled, and then delivered again",
		Rule:  "authors who left pull are forgotten",
		Stage: bigAuthors,
		Play: func(s *scene) {
			reader, author := s.followedByTwo()
			s.posted(author)
			s.later(s.tiers.slack)
			s.posted(author) // only in the outbox
			s.tree.PullAbove = 0
			s.posted(author)
			s.settled()
			s.later(time.Second)
			s.read(s.apis[0], reader)
		},
	},
}
