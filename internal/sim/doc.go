// Package sim runs a whole deployment in one goroutine, from a seed, breaks it in every way that it is meant to
// survive, and compares what readers are shown with the definition of a feed.
//
// What it runs is the project's own code: the rules of following and fanout, feeds.Backlog and feeds.Flusher,
// compaction and outboxes, views.Feeds, kafka.Tracker, freshet.Minter. What it models is what these stand on:
// topics and their partitions, consumer groups and their generations, tables with their changelogs and disks, Redis
// as several nodes of which each keeps the history of its writes, the post store, clocks. Code that waits runs
// unchanged as a coroutine, and before each operation on Redis or the store, and before its answer, anybody else
// may have a step, a process may die, and Redis may lose the end of its history.
//
// The files:
//
//	world.go     one deployment, drawn from a seed
//	run.go       the steps: who is next, what clients ask for, how it comes to rest
//	faults.go    what goes wrong, and what operators do
//	coro.go      code that waits, and its death
//	process.go   processes
//	topics.go    logs and producers
//	group.go     consumer groups, sessions, tables
//	callbacks.go the callbacks of following and fan-out
//	writer.go    what stands around feeds.Flusher on a fan-out host
//	archive.go   the group that fills the post store; store.go is the store
//	redis.go     Redis; the operations themselves are feedstest.Model, which a test holds to the real scripts
//	api.go       API processes: posts, deletes, follows, and their views; accounts.go is the view of closed accounts
//	tiers.go     authors that are pulled: what fan-out states, and what API processes know
//	truth.go     what only the simulator knows
//	check.go     what is checked of a page; rest.go is what is checked at rest
//	aim.go       accidents just before one kind of operation
//	focus.go     what runs are about
//	scene.go     runs that are told rather than drawn; stories.go lists them, stories_*.go tell them
//	mutations.go rules that can be switched off; mutate.go switches them
//	campaign.go  many runs, the report, and the shrinking of a run that failed
//
// # What is checked while a deployment runs
//
// Of every page that a client reads:
//
//   - its posts are in order, each once, below the cursor and not below the next one;
//   - no post whose delete was answered before the read began, or of whose author the process knew then that the
//     account is closed;
//   - no post of an author whom the reader's row does not follow, or mutes or blocks, or who blocks the reader, by the
//     rows that the process had during the read;
//   - if it says that it is complete, it lacks no post that is due. A post is due to a reader when it is in the log and
//     no delete of it is, by the end of the read; by every row that the process had during the read the reader follows
//     the author and nothing hides the author; before the read began fan-out had released the record of posts and every
//     record of its loop that came of it; and the follow that these rows name is the last one in the log, or at least
//     was until then, and Redis has lost nothing since. A post of a process whose clock was behind looks older than it
//     is, as if the archive had to have it; it is due when the archive does.
//
// And of every look that a writer takes at all zones: it finds no loss as long as Redis has lost nothing.
//
// Of authors that are or were pulled, only posts that were due a second before are wanted: a process keeps outboxes
// for so long.
//
// Releases that are not committed do not count any more once Redis loses something: the writer may die as well, and
// then nobody can tell that they ever were; they come again.
//
// A loss of Redis can only be noticed after it has happened. So completeness is not checked of pages that were
// read, even in part, between a loss and the moment at which a writer that looked after it has given every zone a
// new token, or the owners of all partitions have looked and found nothing missing. Of deletes, only those are
// excused whose tombstones were in the node's lost writes, until the same moment or until the tombstone is written
// again; or until a writer has looked that could tell by the tokens that a zone has gone back.
//
// # What is checked at rest
//
// When the faults stop, everything is restarted and drained. Then every account's feed, read to its end through
// every API process in pages of random size, is what a few lines of code find in the logs, text included, and
// complete; profiles and follower lists are right; every relation is applied, the trees hold exactly the followers,
// on their paths and with exact totals, and rows agree with the log.
//
// # What is not modelled
//
// Registration, and names of accounts; the background pass that states everything again, which nothing here needs;
// caches in front of the views; edits of posts that come back in another order; a Redis Cluster that moves slots; dead
// letters; log compaction and retention; processes that stand still for days.
package sim
