package views

import "freshet"

// Page is a part of a list of posts, newest first.
type Page struct {
	Posts []freshet.Post
	// Next is where the next page begins: posts below it. 0 means that nothing more can come; an empty page with a
	// Next is not the end.
	Next freshet.PostID
	// Complete is false while something that belongs on the page could be missing: a feed that is being rebuilt, a
	// view that is behind.
	Complete bool
}
