package api

import (
	"net/http"
	"unicode/utf8"

	"freshet"
	"freshet/views"
)

type postJSON struct {
	ID         string             `json:"id"`
	Author     freshet.AccountID  `json:"author"`
	Text       string             `json:"text"`
	ReplyTo    string             `json:"reply_to,omitempty"`
	Visibility freshet.Visibility `json:"visibility"`
	CreatedAt  jsonTime           `json:"created_at"`
	EditedAt   *jsonTime          `json:"edited_at,omitempty"`
}

func postOf(p freshet.Post, author freshet.AccountID) postJSON {
	j := postJSON{
		ID: p.ID.String(), Author: author, Text: p.Text, Visibility: p.Visibility, CreatedAt: jsonTime(p.CreatedAt),
	}
	if p.ReplyTo != 0 {
		j.ReplyTo = p.ReplyTo.String()
	}
	if !p.EditedAt.IsZero() {
		edited := jsonTime(p.EditedAt)
		j.EditedAt = &edited
	}
	return j
}

// createPost mints the post's id. The post it replies to is not looked up: posting needs Kafka alone.
func (a *API) createPost(w http.ResponseWriter, r *http.Request) error {
	body, err := readObject(w, r, false)
	if err != nil {
		return err
	}
	post, id, err := parsePost(body)
	if err != nil {
		return err
	}
	if err := mayWriteAs(r, id); err != nil {
		return err
	}
	author, err := a.openAccount(id)
	if err != nil {
		return err
	}
	post.Author = author.Number
	if post.ID, err = a.mint(r); err != nil {
		return err
	}
	post.CreatedAt = post.ID.Time()
	position, err := a.Publisher.Publish(r.Context(), post)
	if err != nil {
		return err
	}
	wrote(w, position)
	w.Header().Set("Location", "/v1/posts/"+post.ID.String())
	return respond(w, http.StatusCreated, postOf(post, author.ID))
}

func parsePost(body *object) (post freshet.Post, author freshet.AccountID, err error) {
	if s := body.needed("author"); body.broken["author"] == "" {
		if author, err = freshet.ParseAccountID(s); err != nil {
			body.broken["author"] = err.Error()
		}
	}
	post.Text = postText(body)
	if s, ok := body.text("reply_to"); ok {
		if post.ReplyTo, err = freshet.ParsePostID(s); err != nil {
			body.broken["reply_to"] = err.Error()
		}
	}
	post.Visibility = freshet.Public
	if s, ok := body.text("visibility"); ok {
		post.Visibility = freshet.Visibility(s)
		body.rule("visibility", post.Visibility == freshet.Public || post.Visibility == freshet.FollowersOnly,
			"must be %q or %q", freshet.Public, freshet.FollowersOnly)
	}
	return post, author, body.end()
}

func postText(body *object) string {
	text := body.needed("text")
	length := utf8.RuneCountInString(text)
	body.rule("text", length > 0, "is empty")
	body.rule("text", length <= freshet.MaxText, "has more than %d characters", freshet.MaxText)
	return text
}

// asAuthor is how a post is shown where no viewer is known: as its author sees it.
func asAuthor(author freshet.Account) freshet.Relationship {
	return freshet.Relationship{Self: true, AuthorClosed: author.Closed}
}

func (a *API) getPost(w http.ResponseWriter, r *http.Request) error {
	id, err := pathPost(r)
	if err != nil {
		return err
	}
	seer, err := a.viewer(r)
	if err != nil {
		return err
	}
	post, found, err := a.Posts.Post(r.Context(), id)
	if err != nil {
		return err
	}
	hidden := notFound("there is no post %s", id) // hidden and unknown look the same
	if !found {
		return hidden
	}
	author, known, err := a.Accounts.ByNumber(post.Author)
	if err != nil {
		return err
	}
	seen, err := a.relationship(seer, author)
	if err != nil {
		return err
	}
	if !known || !freshet.CanSee(post, seen) {
		return hidden
	}
	return respond(w, http.StatusOK, postOf(post, author.ID))
}

// editPost gives a post another text. The post of a closed account is as unknown as one that never was.
func (a *API) editPost(w http.ResponseWriter, r *http.Request) error {
	id, err := pathPost(r)
	if err != nil {
		return err
	}
	body, err := readObject(w, r, false)
	if err != nil {
		return err
	}
	text := postText(body)
	if err := body.end(); err != nil {
		return err
	}
	unknown := notFound("there is no post %s", id)
	var author freshet.Account
	ctx, cancel := visible(r.Context())
	defer cancel()
	mayChange := a.mayChange(r, unknown)
	post, position, found, err := a.Publisher.Edit(ctx, id, text, func(post freshet.Post) (err error) {
		var known bool
		if author, known, err = a.Accounts.ByNumber(post.Author); err != nil {
			return err
		}
		if !known || author.Closed {
			return unknown
		}
		return mayChange(post)
	})
	if position.Topic != "" {
		wrote(w, position)
	}
	switch {
	case err != nil:
		return err
	case !found:
		return unknown
	}
	return respond(w, http.StatusOK, postOf(post, author.ID))
}

func (a *API) deletePost(w http.ResponseWriter, r *http.Request) error {
	id, err := pathPost(r)
	if err != nil {
		return err
	}
	unknown := notFound("there is no post %s", id)
	position, found, err := a.Publisher.Delete(r.Context(), id, a.mayChange(r, unknown))
	if err != nil {
		return err
	}
	if !found {
		return unknown
	}
	if position.Topic != "" {
		wrote(w, position)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) listPosts(w http.ResponseWriter, r *http.Request) error {
	author, limit, before, err := a.listOf(r, postsList)
	if err != nil {
		return err
	}
	seer, err := a.viewer(r)
	if err != nil {
		return err
	}
	seen, err := a.relationship(seer, author)
	if err != nil {
		return err
	}
	page, err := a.Posts.ByAuthor(r.Context(), author.Number, freshet.PostID(before), limit)
	if err != nil {
		return err
	}
	page.Posts = visiblePosts(page.Posts, seen)
	return a.respondPosts(w, r, page, postsList, author.Number, limit)
}

func visiblePosts(posts []freshet.Post, seen freshet.Relationship) []freshet.Post {
	var shown []freshet.Post
	for _, p := range posts {
		if freshet.CanSee(p, seen) {
			shown = append(shown, p)
		}
	}
	return shown
}

// respondPosts answers with a page. A post whose author this process does not know yet makes the page incomplete; one
// whose author has closed the account is left out.
func (a *API) respondPosts(
	w http.ResponseWriter, r *http.Request, page views.Page, kind listKind, of freshet.Number, limit int,
) error {
	items := make([]postJSON, 0, len(page.Posts))
	for _, p := range page.Posts {
		author, known, err := a.Accounts.ByNumber(p.Author)
		if err != nil {
			return err
		}
		if !known {
			page.Complete = false
			continue
		}
		if !author.Closed {
			items = append(items, postOf(p, author.ID))
		}
	}
	return a.respondList(w, r, list{Items: items, Complete: &page.Complete}, kind, of, limit, uint64(page.Next))
}
