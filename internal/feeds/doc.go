// Package feeds keeps home feeds in Redis.
//
// # Layout
//
// Every key begins with its zone's hash tag, {z0} to {zN-1}. Numbers are decimal, ids and offsets in values as said.
//
//	{z}:token               string   names the zone's present life; missing: Redis has lost the zone
//	{z}:marks               hash     input:partition → offset below which every message is flushed
//	{z}:recovering          hash     input:partition → offset to be passed before the zone is well; missing: well
//	{z}:writer:<name>       string   the writer's counter; expires after two days
//
//	{z}:log:<block>         string   entries of 9 bytes: slot, post id (8 bytes, high first); appended only
//	{z}:feeds:<block>       hash     slot → feed; "g" → generation, drawn anew with each change of the hash
//	{z}:outbox:<author>     string   8 bytes of 0xff if the older part was loaded from the store; post ids of 8 bytes
//	{z}:staged:<part>:<gen> log, feeds of a compaction that is about to be carried out; expires after a minute
//	{z}:post:<id>           string   "B<offset in posts>:" and an events.Body, or "T": deleted; expires after two days
//
// A block is 32 accounts with neighbouring numbers: block = number / 32, slot = number mod 32. A feed is
//
//	version 1 · state 1 (1: being built) · day of the last read 4 · row version 8 · build number 8 · lease 8, ms
//	post ids of 8 bytes, newest first, at most FeedLength
//
// Logs and feeds lie in the zone of their block, outboxes in that of the author, bodies in that of the post; token,
// marks, recovering and counters in every zone.
//
// # Files
//
//	layout.go      zones and keys
//	ids.go         post ids in values          header.go      a feed's value
//	ops.go         the operations on Redis
//	redis.go       carried out: connecting     commands.go    by go-redis, with scripts/*.lua
//	gather.go      small ones together         wire.go        a flush, by a connection of its own
//	backlog.go     what waits, and its turn    heads.go       of what waits, that which is written first
//	batch.go       what a flush writes         flusher.go     writing it, and noticing what Redis loses
//	recovery.go    what was lost, and how far to go back
//	compaction.go  logs into feeds             outbox.go      an author's newest posts
//	writer.go      the writer of a process     waiters.go     who waits for it
//	flush.go       its flushes, one after another
//	mend.go        until Redis can be written again
//	note.go        watermarks                  upkeep.go      compaction and trimming beside it
//	unwritten.go   posts of this process that Redis did not take
package feeds
