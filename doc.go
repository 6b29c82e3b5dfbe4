// Package freshet holds the words of a feed service: accounts and their numbers, posts and their ids, who follows whom,
// who may see what, and the name of every Kafka topic, group and key.
//
// One definition decides every question of behaviour:
//
//	feed(U) = the posts of U and of every account U follows now, newest first, without posts that are deleted or
//	hidden, and without authors that U mutes, U blocks, or that block U.
//
// A feed is a pure function of the current state; what lies in Redis is a cache of it. The package imports the standard
// library only, and everything else in the module imports it.
package freshet
