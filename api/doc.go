// Package api is the HTTP API of freshet: JSON under /v1, described by openapi.yaml and served with it.
//
//	api.go        what it needs, its routes, what surrounds every handler
//	server.go     the http.Server, with its time-outs
//	problem.go    errors: application/problem+json, and which error is which status
//	request.go    reading ids, limits and cursors, strictly
//	body.go       reading bodies, strictly
//	respond.go    writing JSON, lists and links; json.go writes posts
//	cursor.go     signed places in lists
//	position.go   Freshet-Position: reads that include an earlier write
//	accounts.go, relations.go, lists.go, posts.go, batch.go, feed.go   the resources
//
// # Who may do what
//
// The API does not authenticate yet: a caller stands for the product's own backend and acts for any account. Single
// posts and an account's own posts are therefore shown as their author sees them, those for followers included; a feed
// is shown as the account sees it. Deleted posts and closed accounts are shown to nobody.
//
// # Reading one's own writes
//
// A write is answered once it is in Kafka and this process's views show it, so the next read here includes it. A read
// elsewhere includes it if it sends the write's Freshet-Position back. A write that Kafka has and the views do not show
// within VisibleTimeout is answered with 503 and its position.
package api
