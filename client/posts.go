package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"freshet"
)

// Post is a post as the API shows it.
type Post struct {
	ID         freshet.PostID     `json:"id,string"`
	Author     freshet.AccountID  `json:"author"`
	Text       string             `json:"text"`
	ReplyTo    freshet.PostID     `json:"reply_to,string"` // 0: a reply to nothing
	Visibility freshet.Visibility `json:"visibility"`
	CreatedAt  time.Time          `json:"created_at"`
	EditedAt   time.Time          `json:"edited_at"` // zero: never
}

// NewPost is a post to be published.
type NewPost struct {
	Author     freshet.AccountID  `json:"author"`
	Text       string             `json:"text"`
	ReplyTo    freshet.PostID     `json:"reply_to,string,omitempty"`
	Visibility freshet.Visibility `json:"visibility,omitempty"` // empty: public
}

func postPath(id freshet.PostID) string { return "posts/" + id.String() }

// Publish publishes a post. However often the request has to be sent, the post is published once. Where the API saves
// posts before it publishes them, the post may be one that is shown only later.
func (c *Client) Publish(ctx context.Context, post NewPost) (Post, error) {
	body, err := json.Marshal(post)
	if err != nil {
		return Post{}, fmt.Errorf("encode a post of %s: %w", post.Author, err)
	}
	var made Post
	err = c.do(ctx, request{
		method: http.MethodPost, path: "posts", media: mediaJSON, body: body,
		header: map[string]string{"Idempotency-Key": rand.Text()},
	}, &made)
	return made, err
}

// Result is what became of a post of a batch.
type Result struct {
	Post Post
	Err  *Error // nil if the post was published
}

// PublishBatch publishes many posts in one request, each with a result of its own, in their order. A batch has no name
// by which the API could know it again: when its answer is lost it is not sent again, and the error leaves open which
// of the posts were published.
func (c *Client) PublishBatch(ctx context.Context, posts []NewPost) ([]Result, error) {
	if len(posts) == 0 {
		return nil, nil
	}
	var body bytes.Buffer
	lines := json.NewEncoder(&body)
	for i := range posts {
		if err := lines.Encode(&posts[i]); err != nil {
			return nil, fmt.Errorf("encode post %d of a batch: %w", i, err)
		}
	}
	data, err := c.send(ctx, request{
		method: http.MethodPost, path: "posts/batch", media: "application/x-ndjson", body: body.Bytes(), once: true,
	})
	if err != nil {
		return nil, err
	}
	results := make([]Result, 0, len(posts))
	for answers := json.NewDecoder(bytes.NewReader(data)); ; {
		var line struct {
			Status  int    `json:"status"`
			Post    Post   `json:"post"`
			Problem *Error `json:"problem"`
		}
		if err := answers.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("decode result %d of a batch: %w", len(results), err)
		}
		results = append(results, Result{line.Post, line.Problem})
	}
	if len(results) != len(posts) {
		return nil, fmt.Errorf("a batch of %d posts was answered with %d results", len(posts), len(results))
	}
	return results, nil
}

// Post looks a post up.
func (c *Client) Post(ctx context.Context, id freshet.PostID) (Post, error) {
	var post Post
	err := c.do(ctx, request{method: http.MethodGet, path: postPath(id)}, &post)
	return post, err
}

// Edit gives a post another text.
func (c *Client) Edit(ctx context.Context, id freshet.PostID, text string) (Post, error) {
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return Post{}, fmt.Errorf("encode the text of post %s: %w", id, err)
	}
	var post Post
	err = c.do(ctx, request{method: http.MethodPatch, path: postPath(id), media: mediaJSON, body: body}, &post)
	return post, err
}

// Delete deletes a post; one that is deleted already is no error.
func (c *Client) Delete(ctx context.Context, id freshet.PostID) error {
	return c.do(ctx, request{method: http.MethodDelete, path: postPath(id)}, nil)
}

// FeedPage is a part of an account's home feed, newest first.
func (c *Client) FeedPage(ctx context.Context, id freshet.AccountID, o PageOptions) (Page[Post], error) {
	return page[Post](ctx, c, accountPath(id, "/feed"), o)
}

// Feed is an account's home feed, newest first, down to its first post.
func (c *Client) Feed(ctx context.Context, id freshet.AccountID) iter.Seq2[Post, error] {
	return all[Post](ctx, c, accountPath(id, "/feed"))
}

// PostsPage is a part of an account's own posts, newest first.
func (c *Client) PostsPage(ctx context.Context, id freshet.AccountID, o PageOptions) (Page[Post], error) {
	return page[Post](ctx, c, accountPath(id, "/posts"), o)
}

// Posts is an account's own posts, newest first.
func (c *Client) Posts(ctx context.Context, id freshet.AccountID) iter.Seq2[Post, error] {
	return all[Post](ctx, c, accountPath(id, "/posts"))
}
