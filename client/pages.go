package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// Page is a part of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next is where the next page begins; empty if nothing more can come.
	Next string `json:"next_cursor"`
	// Complete, of posts: nothing that belongs on the page could be missing.
	Complete bool `json:"complete"`
}

// PageOptions say which part of a list is wanted.
type PageOptions struct {
	Limit  int    // how many items at most, from 1 to 100; 0 leaves it to the API
	Cursor string // Next of the page before; empty for the first
}

// ErrIncomplete ends a list of which the rest cannot be read now.
var ErrIncomplete = errors.New("the rest of the list cannot be read now")

// pageSize is what iterators ask for at once.
const pageSize = 100

func page[T any](ctx context.Context, c *Client, path string, o PageOptions) (Page[T], error) {
	query := url.Values{}
	if o.Limit != 0 {
		query.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Cursor != "" {
		query.Set("cursor", o.Cursor)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var p Page[T]
	err := c.do(ctx, request{method: http.MethodGet, path: path}, &p)
	return p, err
}

// all is the items of a list. An error ends it, in place of an item.
func all[T any](ctx context.Context, c *Client, path string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		o, stuck := PageOptions{Limit: pageSize}, 0
		for {
			p, err := page[T](ctx, c, path, o)
			if err == nil && p.Next == o.Cursor && p.Next != "" { // what comes next cannot be read yet
				if stuck++; stuck >= c.cfg.Attempts {
					err = fmt.Errorf("GET %s: %w", path, ErrIncomplete)
				} else {
					err = pause(ctx, c.pauseAfter(stuck))
				}
			}
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range p.Items {
				if !yield(item, nil) {
					return
				}
			}
			if p.Next == "" {
				return
			}
			if p.Next != o.Cursor {
				stuck = 0
			}
			o.Cursor = p.Next
		}
	}
}
