// Package demo is a small lively network for a first look: a few dozen accounts that follow each other and post all the
// time, through the API as anybody would, and a page that shows their feeds.
package demo

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

//go:embed page.html
var page []byte

// postEvery is the mean time between two posts of the network.
const postEvery = 400 * time.Millisecond

var (
	names = []string{
		"ada", "bela", "chidi", "dora", "emeka", "fatima", "goran", "hana", "ines", "jonas", "kofi", "lena", "mira",
		"nils", "olga", "pavel", "quinn", "rosa", "sami", "tove", "uma", "vera", "wim", "xenia", "yusuf", "zofia",
	}
	subjects = []string{
		"the river", "my bicycle", "this bread", "the night train", "our choir", "a fox", "the old map", "rain",
	}
	verbs = []string{"is up again", "sings", "needs a new name", "was late", "smells of summer", "has won", "came back"}
)

// Network is the demo. It answers "/" with the page and "/demo.json" with the accounts.
type Network struct{ accounts []byte }

// New makes a network; Run gives it life.
func New() *Network {
	list, err := json.Marshal(names)
	if err != nil {
		panic(err) // a list of strings always encodes
	}
	return &Network{accounts: list}
}

func (n *Network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/demo.json" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(n.accounts) // who asked has gone
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
	_, _ = w.Write(page)
}

// Run registers the accounts, lets them follow each other, and posts until ctx ends.
func (n *Network) Run(ctx context.Context, url string, log *slog.Logger) error {
	c := &client{url: url, http: &http.Client{Timeout: 10 * time.Second}}
	for _, name := range names {
		if err := c.do(ctx, http.MethodPut, "/v1/accounts/"+name, map[string]string{"name": name}); err != nil {
			return ended(ctx, err)
		}
	}
	for i, name := range names {
		for _, step := range []int{1, 2, 3, 5, 8, 13} {
			target := names[(i+step)%len(names)]
			if err := c.do(ctx, http.MethodPut, "/v1/accounts/"+name+"/following/"+target, nil); err != nil {
				return ended(ctx, err)
			}
		}
	}
	for {
		timer := time.NewTimer(time.Duration(rand.ExpFloat64() * float64(postEvery)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		text := subjects[rand.IntN(len(subjects))] + " " + verbs[rand.IntN(len(verbs))]
		post := map[string]string{"author": names[rand.IntN(len(names))], "text": text}
		if err := c.do(ctx, http.MethodPost, "/v1/posts", post); err != nil && ctx.Err() == nil {
			log.Warn("the demo could not post", "error", err)
		}
	}
}

// ended is nil when the demo was told to stop.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return fmt.Errorf("set the demo up: %w", err)
	}
	return nil
}

type client struct {
	url  string
	http *http.Client
}

var errRefused = errors.New("the API refused")

func (c *client) do(ctx context.Context, method, path string, body any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode a request: %w", err)
		}
		reader = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, reader)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %w: %s: %s", method, path, errRefused, answer.Status, text)
	}
	return nil
}
