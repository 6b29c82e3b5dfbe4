package api

import (
	"context"
	"net/http"
	"strconv"
	"unicode/utf8"

	"freshet"
	"freshet/views"
)

// createPost publishes a post. The one that it replies to is not looked up: posting needs Kafka alone.
func (a *API) createPost(w http.ResponseWriter, r *http.Request) error {
	body, err := readObject(w, r, false)
	if err != nil {
		return err
	}
	post, author, err := a.newPost(r.Context(), body)
	if err != nil {
		return err
	}
	position, err := a.Publisher.Publish(r.Context(), post)
	if err != nil {
		return err
	}
	wrote(w, position)
	w.Header().Set("Location", "/v1/posts/"+post.ID.String())
	return respondPost(w, http.StatusCreated, &post, author)
}

// newPost makes a post of what was sent, with an id that is new.
func (a *API) newPost(ctx context.Context, body *object) (freshet.Post, freshet.AccountID, error) {
	post, id, err := parsePost(body)
	if err != nil {
		return post, "", err
	}
	author, err := a.openAccount(id)
	if err != nil {
		return post, "", err
	}
	post.Author = author.Number
	if post.ID, err = a.Minter.Mint(ctx); err != nil {
		return post, "", err
	}
	post.CreatedAt = post.ID.Time()
	return post, author.ID, nil
}

func respondPost(w http.ResponseWriter, status int, post *freshet.Post, author freshet.AccountID) error {
	b := appendPost(make([]byte, 0, 256+len(post.Text)), post, author)
	respondJSON(w, status, append(b, '\n'))
	return nil
}

func parsePost(body *object) (post freshet.Post, author freshet.AccountID, err error) {
	if s := body.needed("author"); body.broken["author"] == "" {
		if author, err = freshet.ParseAccountID(s); err != nil {
			body.breaks("author", err.Error())
		}
	}
	post.Text = body.needed("text")
	length := utf8.RuneCountInString(post.Text)
	body.rule("text", length > 0, "is empty")
	body.rule("text", length <= freshet.MaxText, "has more than %d characters", freshet.MaxText)
	if s, ok := body.text("reply_to"); ok {
		if post.ReplyTo, err = freshet.ParsePostID(s); err != nil {
			body.breaks("reply_to", err.Error())
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

// asAuthor is how a post is shown where no viewer is known: as its author sees it.
func asAuthor(author freshet.Account) freshet.Relationship {
	return freshet.Relationship{Self: true, AuthorClosed: author.Closed}
}

func (a *API) getPost(w http.ResponseWriter, r *http.Request) error {
	id, err := pathPost(r)
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
	if !known || !freshet.CanSee(post, asAuthor(author)) {
		return hidden
	}
	return respondPost(w, http.StatusOK, &post, author.ID)
}

func (a *API) deletePost(w http.ResponseWriter, r *http.Request) error {
	id, err := pathPost(r)
	if err != nil {
		return err
	}
	position, found, err := a.Publisher.Delete(r.Context(), id)
	if err != nil {
		return err
	}
	if !found {
		return notFound("there is no post %s", id)
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
	page, err := a.Posts.ByAuthor(r.Context(), author.Number, freshet.PostID(before), limit)
	if err != nil {
		return err
	}
	page.Posts = visiblePosts(page.Posts, author)
	return a.respondPosts(w, r, page, postsList, author.Number, limit)
}

func visiblePosts(posts []freshet.Post, author freshet.Account) []freshet.Post {
	var shown []freshet.Post
	for _, p := range posts {
		if freshet.CanSee(p, asAuthor(author)) {
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
	size := 256
	for i := range page.Posts {
		size += 192 + len(page.Posts[i].Text)
	}
	b := append(make([]byte, 0, size), `{"items":[`...)
	for i := range page.Posts {
		post := &page.Posts[i]
		author, known, err := a.Accounts.ByNumber(post.Author)
		if err != nil {
			return err
		}
		if !known {
			page.Complete = false
		}
		if !known || author.Closed {
			continue
		}
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = appendPost(b, post, author.ID)
	}
	b = append(b, ']')
	if page.Next != 0 {
		b = append(b, `,"next_cursor":`...)
		b = appendString(b, a.linkNext(w, r, kind, of, limit, uint64(page.Next)))
	}
	b = append(b, `,"complete":`...)
	b = strconv.AppendBool(b, page.Complete)
	respondJSON(w, http.StatusOK, append(b, "}\n"...))
	return nil
}
