package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"testing"
)

// connections are shared by everything that a test asks a process.
func connections(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience()}
}

type answer struct {
	status int
	header http.Header
	body   []byte
	again  bool // the request had been answered "not now"
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, bytes.TrimSpace(a.body)) }

// lines is the body of a batch: each is encoded on a line of its own.
type lines []any

// request sends a request; body is encoded unless it is nil. An error means that no answer came.
func request(client *http.Client, method, address string, body any) (answer, error) {
	var encoded bytes.Buffer
	content, parts := "application/json", lines{body}
	if many, ok := body.(lines); ok {
		content, parts = "application/x-ndjson", many
	}
	for _, part := range parts {
		if err := json.NewEncoder(&encoded).Encode(part); err != nil {
			return answer{}, err
		}
	}
	var reader io.Reader
	if body != nil {
		reader = &encoded
	}
	r, err := http.NewRequestWithContext(context.Background(), method, address, reader)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		r.Header.Set("Content-Type", content)
	}
	response, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	data, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return answer{}, err
	}
	return answer{status: response.StatusCode, header: response.Header, body: data}, nil
}

// item is a post or an account of a list.
type item struct {
	ID     string `json:"id"`
	Author string `json:"author"`
	Text   string `json:"text"`
}

// id is that of a post; an id that is none is the lowest.
func (i item) id() uint64 {
	id, err := strconv.ParseUint(i.ID, 10, 63)
	if err != nil {
		return 0
	}
	return id
}

type page struct {
	Items    []item `json:"items"`
	Next     string `json:"next_cursor"`
	Complete bool   `json:"complete"`
}

// getPage reads a page of a list; the answer is for messages.
func getPage(client *http.Client, list string, limit int, cursor string) (page, answer, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	a, err := request(client, http.MethodGet, list+"?"+query.Encode(), nil)
	p := page{Complete: true} // the lists of accounts do not say it
	if err == nil && a.status == http.StatusOK {
		err = json.Unmarshal(a.body, &p)
	}
	return p, a, err
}

// maxPages bounds a walk: no list of these tests has as many items.
const maxPages = 50_000

var errEndless = errors.New("the list does not end")

// walk reads a list to its end, by pages of the sizes that limit gives. complete is false if any page says so.
func walk(client *http.Client, list string, limit func() int) (items []item, complete bool, err error) {
	complete = true
	cursor := ""
	for range maxPages {
		p, a, err := getPage(client, list, limit(), cursor)
		if err != nil {
			return nil, false, err
		}
		if a.status != http.StatusOK {
			return nil, false, fmt.Errorf("GET %s: %s", list, a)
		}
		items = append(items, p.Items...)
		complete = complete && p.Complete
		if !complete {
			return items, false, nil
		}
		if cursor = p.Next; cursor == "" {
			return items, true, nil
		}
	}
	return nil, false, fmt.Errorf("GET %s: %w", list, errEndless)
}

// inParallel calls f for every item from a few goroutines.
func inParallel[T any](items []T, f func(T)) {
	var wg sync.WaitGroup
	next := make(chan T)
	for range 8 {
		wg.Go(func() {
			for item := range next {
				f(item)
			}
		})
	}
	for _, item := range items {
		next <- item
	}
	close(next)
	wg.Wait()
}
