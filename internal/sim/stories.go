package sim

import (
	"slices"
	"time"

	"freshet"
	"freshet/internal/feeds"
	"freshet/processors/fanout"
	"freshet/processors/following"
)

// Stories are told by TestStories, each with its rule and without it.
var Stories = slices.Concat(stories, postStories, readStories, lossStories, tableStories, tierStories)

var stories = []Story{
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
		Name: "a crash between a flush and its watermark",
		Rule: "commit before watermark",
		Play: func(s *scene) {
			s.followed(s.accounts[0], s.accounts[1])
			s.until("watermarks are noted", func() bool { return s.truth.begun > 0 })
			release := s.hold(isNote)
			s.post(s.accounts[1])
			s.until("the post is flushed", func() bool {
				return s.fanout.hosts[0].sess.parts[0].inputs[1].tracker.Finished() == 1
			})
			s.commit()
			s.restart()
			release()
			s.settled()
		},
	},
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
		Name: "a follow below a root whose flush stands still",
		Rule: "no outbox entry from children",
		Stage: func(w *world) {
			w.partitions, w.shape.fanout, w.tree.PageSize = 2, 2, 2
			// Two on the root's page, two on the page of a child that lies in the other partition, on another host.
			author := freshet.NumberAt(0, 1000)
			root := fanout.Address{Author: author}
			w.accounts = []freshet.Number{author, freshet.NumberAt(0, 0), freshet.NumberAt(0, 1)}
			for branch := byte(0); ; branch++ {
				if freshet.PartitionOf(root.Child(branch).Key(), 2) == freshet.PartitionOf(root.Key(), 2) {
					continue
				}
				w.accounts = append(w.accounts, onBranch(root, branch, 2, 2)...)
				return
			}
		},
		Play: func(s *scene) {
			author, reader := s.accounts[0], s.accounts[4]
			for _, follower := range s.accounts[1:4] {
				s.followed(follower, author)
			}
			s.read(s.apis[0], reader)
			s.archive(false)
			stuck := s.fanout.hosts[s.fanoutTable.partition(author.Key())]
			release := s.hold(func(by *coro, op feeds.Op) bool {
				_, ok := op.(*feeds.AppendOutbox)
				return ok && by.owner == stuck.proc
			})
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
			s.redis.flushAll(s.redis.nodes[1])
			s.noticed()
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
			s.redis.flushAll(s.redis.nodes[1])
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
			s.redis.flushAll(s.redis.nodes[0])
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
			s.redis.flushAll(s.redis.nodes[0])
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
}

// apart is two nodes with a zone each: all of a reader on the first, the outbox of an author on the second.
func apart(w *world) {
	w.shape.nodes = 2
	w.accounts = []freshet.Number{
		find(func(n freshet.Number) bool { return w.layout.OfBlock(n.Block()) == 0 && w.layout.OfAuthor(n) == 0 }),
		find(func(n freshet.Number) bool { return w.layout.OfAuthor(n) == 1 }),
		freshet.NumberAt(1, 0),
	}
}

func find(fits func(n freshet.Number) bool) freshet.Number {
	for offset := int64(0); ; offset++ {
		if n := freshet.NumberAt(0, offset); fits(n) {
			return n
		}
	}
}

// onBranch finds accounts, from an offset on, whose path begins with a branch.
func onBranch(root fanout.Address, branch byte, from int64, count int) (found []freshet.Number) {
	for ; len(found) < count; from++ {
		n := freshet.NumberAt(0, from)
		if b, _ := root.Branch(n); b == branch {
			found = append(found, n)
		}
	}
	return found
}
