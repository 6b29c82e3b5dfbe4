// Package streams tells accounts of posts as they come: new ones, edits and deletes, in the order of the log, to as
// many open streams as a process can hold, and to those who come back from where they were.
//
//	hub.go       Hub: which streams are open, who follows whom, and what goes to whom
//	tail.go      reading the posts topic: one reader for all streams of a process
//	held.go      what readers do not find yet, and the streams that wait for it
//	order.go     the order of what is read together
//	ring.go      what was read last
//	stream.go    Stream: one reader of a feed, live
//	resume.go    a stream that begins in the past: from the ring, or from the log
//	late.go      follows that come here after posts
//	position.go  how far a stream is
//	event.go     what is sent, encoded once for all
//
// # How it holds together
//
// A process reads the posts topic once and keeps the last records as references in a ring. Records that are read
// together are a round. For each event of a round that some open stream may want, the post is looked up once, the way
// that pages look it up. Then all of a round goes into the queues of the streams at once, under one lock, so that a
// position, an offset a partition, says of every stream what it has been given. What readers would not find yet is a
// slot in the queues whose event is still to come: the streams that want it wait there, and the others go on, so that
// nothing is skipped, nothing comes before it can be seen, and the order of every stream is that of the log.
//
// Who may want an event is told by an index from authors to streams, made of the rows of following: a row that changes
// marks the streams of its account, and they are indexed anew before the next round is handed out. Whether the event is
// sent is decided when it is written, by freshet.InFeed.
package streams
