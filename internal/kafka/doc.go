// Package kafka is everything between the processors and Kafka that goka and sarama leave open: settings, topics, the
// consumer group, codecs, dead letters and the supervision of what runs.
//
// A message goes through these stages, and each has a file:
//
//	Group (group.go)        joins the consumer group, applies seeks at the start of a session, stays in the group
//	claim (claim.go)        delivers one topic's partition to goka: bounded, held back where wanted
//	window (gather.go)      where wanted, makes one message of those of a key that lie ready together
//	Codec, Handle, Batch    decode without ever failing; what cannot be handled becomes a dead letter
//	callback                the caller's; may defer its commit and may register a follow-up (Group.After)
//	tracker (tracker.go)    finished -> followed up -> passed by the watermark -> released
//	sarama                  commits what is released, and nothing else
//
// Words. A message is delivered when goka has been given it; finished when goka has marked it, that is, when its
// callback has returned and its table write, its emits and its deferred commits are done; settled when its follow-up
// has been acknowledged as well; released when everything before it in its partition is settled, too, and, in a
// watermarked topic, the watermark has passed it. Only the released prefix is committed, so a crash at any moment
// repeats messages and loses none.
//
// A session is the time between two rebalances. Positions, seeks and follow-ups belong to one session; what an older
// one left behind is dropped.
package kafka
