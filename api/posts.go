package api

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"unicode/utf8"

	"freshet"
	"freshet/emitters"
	"freshet/views"
)

// createPost publishes a post. The one that it replies to is not looked up: posting needs Kafka alone, or, where posts
// are saved first, the post store and Kafka.
func (a *API) createPost(w http.ResponseWriter, r *http.Request) error {
	body, err := readObject(w, r, false)
	if err != nil {
		return err
	}
	post, author, err := a.newPost(r, body, a.mint)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	position, err := a.Publisher.Publish(r.Context(), post)
	switch {
	case errors.Is(err, emitters.ErrSaved): // it is taken, and whoever asks again gets this answer
		a.Log.Log(r.Context(), slog.LevelWarn, "a post is saved and not published yet", "post", post.ID, "error", err)
		status = http.StatusAccepted
	case err != nil:
		return err
	default:
		wrote(w, position)
	}
	w.Header().Set("Location", "/v1/posts/"+post.ID.String())
	return respondPost(w, status, &post, author)
}

// newPost makes a post of what was sent, with an id from mint.
func (a *API) newPost(
	r *http.Request, body *object, mint func(*http.Request) (freshet.PostID, error),
) (freshet.Post, freshet.AccountID, error) {
	post, id, err := parsePost(body)
	if err != nil {
		return post, "", err
	}
	if err := mayWriteAs(r, id); err != nil {
		return post, "", err
	}
	author, err := a.openAccount(id)
	if err != nil {
		return post, "", err
	}
	post.Author = author.Number
	if post.ID, err = mint(r); err != nil {
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
	post.Text = postText(body)
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
	return respondPost(w, http.StatusOK, &post, author.ID)
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
	return respondPost(w, http.StatusOK, &post, author.ID)
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
	b = append(b, "}\n"...)
	if err := placeOf(r).answering(int64(2 * len(b))); err != nil { // the posts, and what is made of them
		return err
	}
	respondJSON(w, http.StatusOK, b)
	return nil
}
