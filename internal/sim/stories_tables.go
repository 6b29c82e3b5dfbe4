package sim

// These are about rows, and what is done in the order of a node's messages.
var tableStories = []Story{
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
