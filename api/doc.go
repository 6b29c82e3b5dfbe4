// Package api is the HTTP API of freshet: JSON under /v1, described by openapi.yaml and served with it.
//
//	api.go        what it needs, its routes, what surrounds every handler
//	server.go     the http.Server, with its time-outs
//	auth.go       who may do what, and as whom somebody sees
//	limits.go     what a caller may ask for, and what a process takes on
//	idempotency.go  requests that name themselves and may come again
//	etag.go       pages that the client has
//	problem.go    errors: application/problem+json, and which error is which status
//	request.go    reading ids, limits and cursors, strictly
//	body.go       reading bodies, strictly
//	respond.go    writing JSON, lists and links; json.go writes posts
//	cursor.go     signed places in lists
//	position.go   Freshet-Position: reads that include an earlier write
//	openapi.go    the description of the API; docs.go makes a page of it
//	stream.go     feeds as they happen: Server-Sent Events
//	accounts.go, relations.go, lists.go, posts.go, batch.go, feed.go   the resources
//
// # Who may do what
//
// auth.go has one table: a route, and who may use it. Callers are service keys, which act for any account, and tokens,
// which act for their own; without authentication everybody is like a service key. Single posts, an account's posts and
// its lists are shown as the token's account sees them; to a service key as the account that Freshet-Viewer names, or
// else as the author does, posts for followers included. A feed is shown as the account sees it. Deleted posts and
// closed accounts are shown to nobody.
//
// # Reading one's own writes
//
// A write is answered once it is in Kafka and this process's views show it, so the next read here includes it. A read
// elsewhere includes it if it sends the write's Freshet-Position back. A write that Kafka has and the views do not show
// within VisibleTimeout is answered with 503 and its position.
package api
