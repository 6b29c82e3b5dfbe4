package sim

import (
	"freshet/internal/feeds"
)

// twoReaders is for readers that get into each other's way.
func twoReaders(w *world) { w.shape.apis = 2 }

// isFeed is the write of a feed that is no mark of a build, by the process a.
func isFeed(a *api) func(by *coro, op feeds.Op) bool {
	return func(by *coro, op feeds.Op) bool {
		swap, ok := op.(*feeds.SwapFeed)
		if !ok || by.owner != a.proc {
			return false
		}
		feed, err := feeds.DecodeFeed(swap.Value)
		return err == nil && !feed.Building
	}
}

// These are about feeds that are built, completed and compacted.
var readStories = []Story{
	{
		Name:  "a compaction between the read of a feed and its write",
		Rule:  "no generation check",
		Stage: twoReaders,
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.read(s.apis[0], reader)
			s.followed(reader, author)
			asked, release := s.holdUntilAsked(isFeed(s.apis[1]))
			s.apis[1].read(reader, 0, 50)
			s.until("the follow is about to be merged into the feed", asked)
			s.posted(author)
			s.compacted(reader)
			release()
		},
	},
	{
		Name:  "a compaction while a feed is built",
		Rule:  "build without marking",
		Stage: twoReaders,
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			asked, release := s.holdUntilAsked(isFeed(s.apis[1]))
			s.apis[1].read(reader, 0, 50)
			s.until("the feed is built", asked)
			s.posted(author)
			s.compacted(reader)
			release()
		},
	},
	{
		Name:  "a builder that finds the mark of another",
		Rule:  "a build ends whoever's it is",
		Stage: twoReaders,
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			first, second := s.apis[1], s.apis[0]
			s.followed(reader, author)
			asked, release := s.holdUntilAsked(func(by *coro, op feeds.Op) bool {
				_, ok := op.(*feeds.ReadBlock)
				return ok && by.owner == first.proc && by.build != 0
			})
			first.read(reader, 0, 50)
			s.until("the first has read the outboxes", asked)
			s.makeCold(reader)
			s.posted(author)
			s.compacted(reader)
			asked, finish := s.holdUntilAsked(func(by *coro, op feeds.Op) bool {
				_, ok := op.(*feeds.ReadOutbox)
				return ok && by.owner == second.proc
			})
			second.read(reader, 0, 50)
			s.until("the second has marked the feed", asked)
			release()
			s.until("the first has an answer", func() bool { return first.busy == 0 })
			finish()
		},
	},
}
