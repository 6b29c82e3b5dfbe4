package api

import (
	"net/http"

	"freshet"
)

// getFeed answers with the account's home feed. Who may see what in it is the reader's to decide.
func (a *API) getFeed(w http.ResponseWriter, r *http.Request) error {
	reader, limit, before, err := a.listOf(r, feedList)
	if err != nil {
		return err
	}
	page, err := a.Feeds.Feed(r.Context(), reader.Number, freshet.PostID(before), limit)
	if err != nil {
		return err
	}
	return a.respondPosts(w, r, page, feedList, reader.Number, limit)
}
