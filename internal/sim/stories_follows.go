package sim

import (
	"freshet"
	"freshet/internal/feeds"
	"freshet/processors/fanout"
	"freshet/processors/following"
)

// These are about follows: rows, trees, reports, and the tables that they are in.
var followStories = []Story{
	{
		Name: "no and yes redelivered after a crash with a post in between",
		Rule: "no hold until followers",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.followed(reader, author)
			s.unfollow(reader, author)
			s.followed(reader, author)
			s.read(s.apis[0], reader)
			// Everything comes again; reports get no farther than the log, and after the "no" there is a pause.
			s.stop(s.applied)
			s.limit[s.followers], s.limit[s.posts] = 2, 0
			s.restart()
			h := s.fanout.hosts[0]
			s.until("the tree lets go", func() bool {
				return h.sess != nil && h.sess.ready && h.sess.parts[0].inputs[0].tracker.Finished() == 2
			})
			delete(s.limit, s.posts)
			p := s.post(author)
			s.within(2000, func() bool { return p.due })
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "a zombie's unfollow after a new follow",
		Rule: "a contradiction is left alone",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.unfollow(reader, author)
			s.followed(reader, author)
			s.followers.append(&record{partition: 0, key: author.Key(), at: s.now, value: following.Statement{
				Followee: author, Follower: reader, Version: following.VersionOf(0),
			}})
			s.settled()
		},
	},
	{
		Name: "a report of an old yes after a new follow",
		Rule: "report compared without its version",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.stop(s.applied)
			s.follow(reader, author)
			s.until("the tree reports", func() bool { return s.applied.end(0) == 1 })
			s.limit[s.followers] = s.followers.end(0)
			s.unfollow(reader, author)
			s.follow(reader, author)
			s.until("the row knows", func() bool { return s.rowOf(reader).At() == 3 && s.followers.end(0) == 3 })
			s.limit[s.applied] = 1
			s.until("the old report is compared", func() bool { return s.rowOf(reader).At() == 4 && s.seen(reader) })
			s.read(s.apis[0], reader)
			s.limit[s.followers] = 2 // the tree hears the "no"
			s.until("the tree lets go", func() bool { return s.applied.end(0) == 2 })
			p := s.post(author)
			s.until("the post is due", func() bool { return p.due })
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "a follow below a root whose flush stands still",
		Rule:  "no outbox entry from children",
		Stage: twoBelow,
		Play: func(s *scene) {
			author, reader := s.accounts[0], s.accounts[4]
			for _, follower := range s.accounts[1:4] {
				s.followed(follower, author)
			}
			s.read(s.apis[0], reader)
			s.archive(false)
			release := s.holdRoot(author)
			p := s.post(author)
			s.until("the child has the post", func() bool {
				below := 1 - s.fanoutTable.partition(author.Key())
				return len(p.records) == 2 && p.records[1].released && s.loop.end(below) > 0
			})
			s.followed(reader, author)
			s.read(s.apis[0], reader)
			release()
			s.until("the post is due", func() bool { return p.due })
			s.read(s.apis[0], reader)
		},
	},
	{
		Name:  "a follow that opens a child below a root whose flush stands still",
		Rule:  "a child is opened while a flush is under way",
		Stage: twoBelow,
		Play: func(s *scene) {
			author, reader := s.accounts[0], s.accounts[4]
			for _, follower := range s.accounts[1:3] { // the root's page is full
				s.followed(follower, author)
			}
			s.read(s.apis[0], reader)
			s.archive(false)
			release := s.holdRoot(author)
			p := s.post(author)
			s.within(2000, func() bool { return len(p.records) == 1 && p.records[0].released })
			s.follow(reader, author)
			s.within(2000, func() bool {
				relation, ok := s.rowOf(reader).Relation(author)
				return ok && relation.Applied && s.seen(reader)
			})
			s.read(s.apis[0], reader)
			release()
			s.until("the post is due", func() bool { return p.due })
			s.archive(true)
			s.settled()
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "a follower on two pages",
		Rule: "removal stops at the page that held",
		Stage: func(w *world) {
			author := freshet.NumberAt(0, 1000)
			root := fanout.Address{Author: author}
			w.tree.PageSize = 1
			w.accounts = append([]freshet.Number{author}, onBranch(root, 1, 0, 2)...)
			w.accounts = append(w.accounts, onBranch(root, 2, 0, 1)...)
		},
		Play: func(s *scene) {
			author, first, second, reader := s.accounts[0], s.accounts[1], s.accounts[2], s.accounts[3]
			s.unfollow(first, author)
			s.followed(first, author)
			s.followed(second, author) // opens the child on the path of both
			// The root opens another child, tells it, and loses the row that says so.
			s.blocked[s.fanoutTable] = true
			told := s.loop.end(0)
			s.stop(s.loop)
			s.follow(reader, author)
			s.until("the child is told", func() bool { return s.loop.end(0) > told })
			// When all comes again, the first follower is taken off the page and goes to its child.
			s.restart()
			delete(s.blocked, s.fanoutTable)
			delete(s.limit, s.loop)
			s.settled()
			s.unfollow(reader, author)
			s.settled()
		},
	},
	{
		Name: "a crash between a follow's row and its report",
		Rule: "report before the table and the flush",
		Play: func(s *scene) {
			s.blocked[s.applied] = true
			s.follow(s.accounts[0], s.accounts[1])
			s.within(2000, func() bool { return s.released(s.followers) == 1 })
			s.commit()
			s.restart()
		},
	},
	{
		Name: "a follow behind a post whose flush stands still",
		Rule: "no barrier before a report",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.read(s.apis[0], reader)
			s.archive(false)
			asked, release := s.holdUntilAsked(isOutboxEntry)
			s.post(author)
			s.until("the post is to be flushed", asked)
			s.follow(reader, author)
			s.within(2000, func() bool {
				relation, _ := s.rowOf(reader).Relation(author)
				return relation.Applied && s.seen(reader)
			})
			s.read(s.apis[0], reader)
			release()
		},
	},
	{
		Name: "a post between a follow's row and its tree",
		Rule: "applied without a report",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.read(s.apis[0], reader)
			s.stop(s.followers)
			s.follow(reader, author)
			s.until("the row knows", func() bool { return s.rowOf(reader).Follows(author) && s.seen(reader) })
			s.read(s.apis[0], reader)
			p := s.post(author)
			s.until("the post is due", func() bool { return p.due })
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "a cold build between a flush's logs and its outboxes",
		Rule: "outbox after the logs",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.archive(false)
			s.followed(reader, author)
			asked, release := s.holdUntilAsked(isOutboxEntry)
			s.post(author)
			s.until("the outbox is to get the post", asked)
			s.compacted(reader) // who has never read
			s.read(s.apis[0], reader)
			release()
		},
	},
	{
		Name: "a page on the disk that the changelog never got",
		Rule: "table on disk ahead of the changelog",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.blocked[s.fanoutTable] = true
			s.follow(reader, author)
			s.until("the tree has the follow", func() bool { return s.in(s.followers).next == 1 })
			s.restart()
			delete(s.blocked, s.fanoutTable)
			s.settled()
			s.read(s.apis[0], reader)
			s.commit()
			// Another host goes on, which has nothing but the changelog.
			h := s.fanout.hosts[0]
			h.die()
			h.wipe()
			h.start()
			s.settled()
			s.posted(author)
			s.read(s.apis[0], reader)
		},
	},
	{
		Name: "a zombie's row behind the new owner's",
		Rule: "tables without fences",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.posted(author)
			s.followed(reader, author)
			h := s.following.hosts[0]
			late := &record{key: reader.Key(), at: s.now, value: s.rowOf(reader), epoch: h.sess.parts[0].epoch}
			again(h)
			s.settled()
			s.unfollow(reader, author)
			s.settled()
			s.followingTable.append(late)
			s.settled()
		},
	},
	{
		Name: "a zombie that takes a partition over from its owner",
		Rule: "foreign rows go unnoticed",
		Play: func(s *scene) {
			reader, author := s.accounts[0], s.accounts[1]
			s.posted(author)
			s.followed(reader, author)
			s.followingTable.append(&record{at: s.now, epoch: s.followingTable.end(0), fence: true})
			s.unfollow(reader, author)
			s.settled()
		},
	},
}

// twoBelow is an author, two followers for the root's page, and two for the page of a child that lies in the other
// partition, on another host.
func twoBelow(w *world) {
	w.partitions, w.shape.fanout, w.tree.PageSize = 2, 2, 2
	author := freshet.NumberAt(0, 1000)
	root := fanout.Address{Author: author}
	branch := byte(0)
	for freshet.PartitionOf(root.Child(branch).Key(), 2) == freshet.PartitionOf(root.Key(), 2) {
		branch++
	}
	w.accounts = []freshet.Number{author, freshet.NumberAt(0, 0), freshet.NumberAt(0, 1)}
	w.accounts = append(w.accounts, onBranch(root, branch, 2, 2)...)
}

// holdRoot lets no outbox be written by the host of the author's root, until it is released.
func (s *scene) holdRoot(author freshet.Number) (release func()) {
	stuck := s.fanout.hosts[s.fanoutTable.partition(author.Key())]
	return s.hold(func(by *coro, op feeds.Op) bool {
		_, ok := op.(*feeds.AppendOutbox)
		return ok && by.owner == stuck.proc
	})
}
