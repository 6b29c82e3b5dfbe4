// Package client speaks to the HTTP API of freshet.
//
//	client.go     Client, and the one path that every request takes: credentials, retries, errors
//	position.go   reads that include the client's own writes, whichever API process answers
//	errors.go     Error: what the API says is wrong
//	accounts.go   accounts, and who follows, mutes and blocks whom
//	posts.go      posts, batches of posts, feeds
//	pages.go      lists, a page at a time or all of it
//	stream.go     feeds as they happen
//
// Requests are repeated as long as that is safe and may help: each says which of its effects it names, so what is
// repeated is done once. Lists are iterators that ask for the next page when it is needed; streams are iterators that
// go on where they were when a connection breaks.
package client
