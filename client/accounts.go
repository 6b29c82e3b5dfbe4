package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"

	"freshet"
)

// Account is an account as the API shows it.
type Account struct {
	ID        freshet.AccountID `json:"id"`
	Name      string            `json:"name"`
	CreatedAt time.Time         `json:"created_at"`
	Followers uint64            `json:"followers"`
	Following uint64            `json:"following"`
	Posts     uint64            `json:"posts"`
}

const mediaJSON = "application/json"

func accountPath(id freshet.AccountID, rest string) string {
	return "accounts/" + url.PathEscape(string(id)) + rest
}

// PutAccount registers an account, or returns the one that there is. name, unless nil, becomes its name.
func (c *Client) PutAccount(ctx context.Context, id freshet.AccountID, name *string) (Account, error) {
	r := request{method: http.MethodPut, path: accountPath(id, "")}
	if name != nil {
		var err error
		if r.body, err = json.Marshal(map[string]string{"name": *name}); err != nil {
			return Account{}, fmt.Errorf("encode the name of account %s: %w", id, err)
		}
		r.media = mediaJSON
	}
	var a Account
	err := c.do(ctx, r, &a)
	return a, err
}

// Account looks an account up.
func (c *Client) Account(ctx context.Context, id freshet.AccountID) (Account, error) {
	var a Account
	err := c.do(ctx, request{method: http.MethodGet, path: accountPath(id, "")}, &a)
	return a, err
}

// CloseAccount closes an account: nothing of it is shown any more.
func (c *Client) CloseAccount(ctx context.Context, id freshet.AccountID) error {
	return c.do(ctx, request{method: http.MethodDelete, path: accountPath(id, "")}, nil)
}

func (c *Client) relate(
	ctx context.Context, method string, id freshet.AccountID, kind string, other freshet.AccountID,
) error {
	return c.do(ctx, request{method: method, path: accountPath(id, "/"+kind+"/"+url.PathEscape(string(other)))}, nil)
}

// Follow makes an account follow another one.
func (c *Client) Follow(ctx context.Context, id, other freshet.AccountID) error {
	return c.relate(ctx, http.MethodPut, id, "following", other)
}

// Unfollow ends that.
func (c *Client) Unfollow(ctx context.Context, id, other freshet.AccountID) error {
	return c.relate(ctx, http.MethodDelete, id, "following", other)
}

// Mute keeps the other account's posts out of an account's feed.
func (c *Client) Mute(ctx context.Context, id, other freshet.AccountID) error {
	return c.relate(ctx, http.MethodPut, id, "muted", other)
}

// Unmute ends that.
func (c *Client) Unmute(ctx context.Context, id, other freshet.AccountID) error {
	return c.relate(ctx, http.MethodDelete, id, "muted", other)
}

// Block hides two accounts from each other and ends follows both ways.
func (c *Client) Block(ctx context.Context, id, other freshet.AccountID) error {
	return c.relate(ctx, http.MethodPut, id, "blocked", other)
}

// Unblock ends the block; the follows do not come back.
func (c *Client) Unblock(ctx context.Context, id, other freshet.AccountID) error {
	return c.relate(ctx, http.MethodDelete, id, "blocked", other)
}

// Following is whom an account follows.
func (c *Client) Following(ctx context.Context, id freshet.AccountID) iter.Seq2[freshet.AccountID, error] {
	return c.accounts(ctx, id, "/following")
}

// Followers is who follows an account.
func (c *Client) Followers(ctx context.Context, id freshet.AccountID) iter.Seq2[freshet.AccountID, error] {
	return c.accounts(ctx, id, "/followers")
}

// Muted is whom an account mutes.
func (c *Client) Muted(ctx context.Context, id freshet.AccountID) iter.Seq2[freshet.AccountID, error] {
	return c.accounts(ctx, id, "/muted")
}

// Blocked is whom an account blocks.
func (c *Client) Blocked(ctx context.Context, id freshet.AccountID) iter.Seq2[freshet.AccountID, error] {
	return c.accounts(ctx, id, "/blocked")
}

func (c *Client) accounts(
	ctx context.Context, id freshet.AccountID, list string,
) iter.Seq2[freshet.AccountID, error] {
	type item struct {
		ID freshet.AccountID `json:"id"`
	}
	return func(yield func(freshet.AccountID, error) bool) {
		for one, err := range all[item](ctx, c, accountPath(id, list)) {
			if !yield(one.ID, err) {
				return
			}
		}
	}
}
