// Package views answers look-ups: accounts, whom they follow, their counts, and their feeds.
//
//	accounts.go    Accounts: by id, by number (kept in accountcache.go); the directory's table
//	following.go   Following: an account's row; following's table, decoded rows kept in rowcache.go
//	stats.go       Stats: followers and posts of an account; the stats topic
//	tiers.go       Tiers: authors whose posts are pulled; the tiers topic
//	pulled.go      which outboxes a read merges; kept.go keeps those of pulled authors for a moment
//	feed.go        Feeds: home feeds, profiles and single posts; pager.go walks down a list, hydrate.go finds bodies
//	trees.go       Trees: the follower trees, for an audit; fan-out's table
//	page.go        Page: part of a list of posts
//	table.go       what these have in common: a goka view, gated until it has recovered
//	waits.go       waiting for a row to change
//
// A view is a copy of a table on this machine and a moment behind it. Until it has recovered every look-up fails with
// ErrNotReady, so that "not there" always means so. Who has just written waits for its own write with an Await method,
// which names the offset of the record; rows name the offsets that they have applied.
package views
