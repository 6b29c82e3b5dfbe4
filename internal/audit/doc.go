// Package audit compares feeds with what they are by definition: the posts of the reader and of every account that it
// follows now, newest first, without what is deleted or hidden.
//
// # What is compared with what
//
// The definition is computed from the table of following, and of each author from the post store and the author's
// outbox together: a post that is in either was published. It is compared with the feed as Redis has it, log of the
// block included, and, for a sample, with the pages that the API serves.
//
// Redis keeps more than readers are shown, and less. So not every departure is a difference:
//
//   - Posts that are deleted, or whose authors are muted, blocked or closed, stay in feeds; readers drop them.
//   - Posts of an author stay after an unfollow. The log of follows tells them from posts that somebody got who never
//     followed the author, or got long after the unfollow: those are extra. Readers drop them as well, but they take
//     the place of others.
//   - Posts of an author whose tree has not reported the reader since the feed was built, of one that is or was pulled,
//     and the reader's own, are read from outboxes. They may be missing from the feed, but not from the outbox.
//   - A feed that is cold is built when it is read. There is nothing to compare but the outboxes of which it will be
//     made; those are compared with the post store for every account.
//   - Below its floor a full feed is served from the post store.
//
// # What is merely on its way
//
// Nothing is reported that will be right by itself in a moment:
//
//   - A post is judged only if fan-out has committed its offset. Offsets are committed after every zone of Redis has
//     noted that all below is flushed. Which ids that are follows from the times of the records at the committed
//     offsets, less the time that a post may take into the log and a difference of clocks; of younger ids, the log
//     itself is read (flushed.go). A group that is moved back commits the lower offset, and so what it is about to
//     deliver again is not judged either.
//   - What pages hand to their children goes through the loop topic. So once the committed offsets of posts are known,
//     the loop's ends are asked for and waited for, as often as a tree is deep.
//   - A relation counts as delivered from the report of the author's tree on, which comes after everything was flushed
//     that the tree's nodes had handed over before. Until then readers merge the outbox, and so does the audit.
//   - Blocks in a zone that is lost or being recovered are left out and counted.
//   - Whatever differs is looked at a second time, after the copies of all tables, the log of follows and the log of
//     posts have reached the ends that their topics had after the first look. Only what differs both times, the same
//     post in the same list, is reported.
//
// # Reading everything
//
// A table is read whole from its changelog into a copy on this machine's disk, the way the API's views are, and kept
// current while the audit runs: 10 million follows take some seconds and 22 bytes of disk each, where a look-up of each
// account at a process that owns it would be a request for each; and the copy passes over rows of processes that had
// lost their partition, as all readers do. Blocks of feeds are read one after another, 32 accounts in one request,
// so an audit costs Redis as much as reading its feeds once. Lists of authors are kept, up to Config.Memory.
//
// Without a post store of its own, where that is embedded in another process, one is made of the log of posts, which is
// kept for good there.
//
//	audit.go      what is audited, and what came of it
//	units.go      which accounts: blocks, samples
//	blocks.go     going over blocks: chunks, second looks; block.go looks at one
//	state.go      what a later run goes on from
//	judge.go      the rule: one account's feed against its row and its authors' lists
//	findings.go   what differs
//	posts.go      what the differences are about: facts of posts, who follows whom
//	lists.go      posts of authors
//	flushed.go    which posts are in Redis
//	sources.go    where everything is read: copies of tables
//	logs.go       and of logs; tail.go follows one from its beginning
//	offsets.go    ends, committed offsets, single records
//	numbers.go    accounts without a copy of everything
//	left.go       who followed whom once
//	trees.go      the follower trees against the table of following
//	served.go     pages of the API
//	why.go        why a post is in a feed or not; sentences.go puts it into words
//	watch.go      at a low rate, for ever
package audit
