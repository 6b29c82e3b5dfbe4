package sim

import (
	"time"

	"freshet"
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
		Name: "two compactions, and a post between the log's end and its beginning",
		Rule: "log compared by its length",
		Stage: func(w *world) {
			w.accounts = append(w.accounts[:0:0], freshet.NumberAt(0, 1), freshet.NumberAt(0, 2), freshet.NumberAt(0, 40),
				freshet.NumberAt(0, 41))
		},
		Play: func(s *scene) {
			warm, cold, first, second := s.accounts[0], s.accounts[1], s.accounts[2], s.accounts[3]
			s.followed(cold, first)
			s.followed(warm, second)
			s.read(s.apis[0], warm)
			s.posted(first) // one entry, of somebody who never reads
			late := s.compact(warm)
			read := false
			release := s.hold(func(by *coro, op feeds.Op) bool {
				_, cuts := op.(*feeds.Compact)
				read = read || by == late && cuts
				return by == late && cuts
			})
			s.until("the log is read", func() bool { return read })
			s.compacted(cold)
			s.posted(second)
			release()
			s.until("the log is cut again", func() bool { return late.ended })
			s.read(s.apis[0], warm)
		},
	},
	{
		Name:  "a cold build in a healthy zone from an outbox in a lost one",
		Rule:  "recovering only in lost zones",
		Stage: apart,
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.archive(false)
			s.followed(reader, author)
			s.posted(author)
			s.compacted(reader) // who has never read
			s.hold(func(_ *coro, op feeds.Op) bool {
				_, ok := op.(*feeds.AppendOutbox)
				return ok
			})
			s.flushAll(s.redis.nodes[1])
			s.noticed()
			s.hold(isOpen) // the next session does not begin yet
			s.read(s.apis[0], reader)
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "a cold build before a loss is noticed, and an archive that catches up",
		Rule:  "a feed built from an outbox in a lost zone",
		Stage: apart,
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.archive(false)
			s.followed(reader, author)
			s.posted(author)
			s.compacted(reader) // who has never read
			wr := s.fanout.hosts[0].writer
			wr.noteAt = s.now.Add(time.Hour)
			s.flushAll(s.redis.nodes[1])
			s.read(s.apis[0], reader)
			s.archive(true)
			s.until("the archive has the post", func() bool { return s.store.progress[0].Offset == 1 })
			wr.noteAt = time.Time{}
			s.noticed()
			s.settled()
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "a second reader further behind than the builder",
		Rule:  "complete though the view is behind",
		Stage: func(w *world) { w.shape.apis = 2 },
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			s.posted(author)
			s.compacted(reader) // who has never read
			s.apis[1].view.stallTo = 1 << 40
			s.unfollow(reader, author)
			s.until("one process knows", func() bool { return s.rowOf(reader).At() > 2 && s.seen(reader) })
			s.read(s.apis[0], reader)
			s.read(s.apis[1], reader)
		},
	},
	{
		Name: "a corrupt outbox that held what the archive has yet to store",
		Rule: "a corrupt outbox is loaded anew",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.archive(false)
			s.followed(reader, author)
			s.posted(author)
			s.compacted(reader) // who has never read
			box := &feeds.ReadOutbox{Author: author}
			s.redis.model.Apply(box)
			s.spoil(author, box.Value[1:])
			s.read(s.apis[0], reader)
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "a page that is read before the posts have come again",
		Rule: "complete though a zone recovers",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.archive(false)
			s.followed(reader, author)
			s.posted(author)
			s.flushAll(s.redis.nodes[0])
			s.noticed()
			s.hold(isOpen) // the next session does not begin yet
			s.read(s.apis[0], reader)
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
			s.flushAll(s.redis.nodes[0])
			s.noticed()
			s.until("all zones are well", s.wellEverywhere)
			release()
		},
	},
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
				return ok && by.owner == second.proc && by.build != 0
			})
			second.read(reader, 0, 50)
			s.until("the second has marked the feed", asked)
			release()
			s.until("the first has an answer", func() bool { return first.busy == 0 })
			finish()
		},
	},
}
