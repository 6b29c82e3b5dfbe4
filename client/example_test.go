package client_test

import (
	"context"
	"fmt"
	"log/slog"

	"freshet/client"
)

// Follow somebody, post, read the feed, and go on reading as it happens.
func Example() {
	ctx := context.Background()
	c, err := client.New(client.Config{URL: "http://127.0.0.1:8080"})
	if err != nil {
		slog.Error("no client", "error", err)
		return
	}
	if err := c.Follow(ctx, "ann", "bob"); err != nil {
		slog.Error("ann does not follow bob", "error", err)
		return
	}
	if _, err := c.Publish(ctx, client.NewPost{Author: "bob", Text: "hello"}); err != nil {
		slog.Error("bob has not posted", "error", err)
		return
	}
	for event, err := range c.Stream(ctx, "ann", "") {
		if err != nil {
			slog.Error("the stream ended", "error", err)
			return
		}
		switch event.Kind {
		case client.Opened, client.Reset: // from here on nothing is missed
			for post, err := range c.Feed(ctx, "ann") {
				if err != nil {
					slog.Error("the feed cannot be read", "error", err)
					break
				}
				fmt.Println(post.Author, post.Text)
			}
		case client.Posted, client.Edited:
			fmt.Println(event.Post.Author, event.Post.Text)
		case client.Deleted:
			fmt.Println("deleted:", event.Post.ID)
		}
	}
}
