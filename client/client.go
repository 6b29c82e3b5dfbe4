package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config says how to reach an API.
type Config struct {
	// URL is where it listens, such as http://127.0.0.1:8080, without /v1.
	URL string
	// Bearer is a service key or a token; empty: none is sent.
	Bearer string
	// Viewer is the account as which a service key sees posts and lists; empty: as their authors do.
	Viewer string
	// HTTP sends the requests; nil is one like http.DefaultClient. It needs no time-out: contexts and AttemptTimeout bound
	// requests, and streams have no end.
	HTTP *http.Client
	// Attempts is how often a request is sent at most; 0 means DefaultAttempts.
	Attempts int
	// AttemptTimeout bounds an attempt; 0 means DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// Pause is about how long the first pause between two attempts is; each is twice as long as the one before, up to
	// MaxPause, and at least what the API asks for. 0 means DefaultPause.
	Pause time.Duration
}

// Defaults of Config.
const (
	DefaultAttempts       = 6
	DefaultAttemptTimeout = 30 * time.Second
	DefaultPause          = 100 * time.Millisecond
	// MaxPause bounds the pauses that the client chooses.
	MaxPause = 10 * time.Second
)

// maxAnswer bounds an answer: more than any that the API gives.
const maxAnswer = 64 << 20

// Client speaks to an API. It is safe for concurrent use. Its methods return an *Error when the API refuses, and the
// context's error when that ends.
type Client struct {
	cfg  Config
	http *http.Client
	own  positions
}

// New makes a client; it connects when it is used.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the API at %q: want http://host:port or https://host", c.URL)
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	c.Attempts = cmp.Or(c.Attempts, DefaultAttempts)
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, DefaultAttemptTimeout)
	c.Pause = cmp.Or(c.Pause, DefaultPause)
	client := &Client{cfg: c, http: c.HTTP}
	if client.http == nil {
		client.http = &http.Client{}
	}
	return client, nil
}

// request is one that may be sent several times.
type request struct {
	method, path string // the path behind /v1, escaped
	media        string // of the body
	body         []byte
	header       map[string]string
	once         bool // it has effects that it does not name: it is not repeated when it may have been done
}

// do sends a request until it is answered for good, and decodes the answer into out, unless that is nil.
func (c *Client) do(ctx context.Context, r request, out any) error {
	data, err := c.send(ctx, r)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: decode the answer: %w", r.method, r.path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, r request) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		data, err := c.attempt(ctx, r)
		if err == nil {
			return data, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, errors.Join(context.Cause(ctx), err))
		}
		wait, again := repeat(err, r.once)
		if !again || attempt >= c.cfg.Attempts {
			return nil, fmt.Errorf("%s %s, attempt %d: %w", r.method, r.path, attempt, err)
		}
		if err := pause(ctx, max(wait, c.pauseAfter(attempt))); err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
	}
}

// pauseAfter is how long to wait after so many attempts: between a half and all of what doubles each time, so that
// clients that failed together do not come back together.
func (c *Client) pauseAfter(attempts int) time.Duration {
	d := min(MaxPause, c.cfg.Pause<<min(attempts-1, 16))
	return d/2 + rand.N(d/2+1)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// repeat says whether another attempt may help, and how long the API wants it to wait. What may have been done is
// repeated only if that changes nothing.
func repeat(err error, once bool) (wait time.Duration, again bool) {
	var refused *Error
	if !errors.As(err, &refused) {
		return 0, !once // nobody knows whether it arrived
	}
	switch refused.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return refused.RetryAfter, true
	case http.StatusConflict: // the same request is being worked on
		return refused.RetryAfter, refused.RetryAfter > 0
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return refused.RetryAfter, !once
	}
	return 0, false
}

func (c *Client) attempt(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.AttemptTimeout)
	defer cancel()
	response, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	c.own.note(response.Header.Values(positionHeader))
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, errorOf(response, data)
	}
	return data, nil
}

func (c *Client) open(ctx context.Context, r request) (*http.Response, error) {
	sent, err := http.NewRequestWithContext(ctx, r.method, c.cfg.URL+"/v1/"+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.media != "" {
		sent.Header.Set("Content-Type", r.media)
	}
	if c.cfg.Bearer != "" {
		sent.Header.Set("Authorization", "Bearer "+c.cfg.Bearer)
	}
	if c.cfg.Viewer != "" {
		sent.Header.Set("Freshet-Viewer", c.cfg.Viewer)
	}
	if own := c.own.header(); own != "" {
		sent.Header.Set(positionHeader, own)
	}
	for name, value := range r.header {
		sent.Header.Set(name, value)
	}
	return c.http.Do(sent)
}
