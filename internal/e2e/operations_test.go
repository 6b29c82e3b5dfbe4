package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// operation is something that a client does, and how often.
type operation struct {
	weight int
	do     func(*client) error
}

// busy is a mix with everything in it.
var busy = []operation{
	{26, (*client).post}, {4, (*client).postBatch}, {10, (*client).edit}, {12, (*client).delete},
	{2, (*client).deleteAgain}, {6, (*client).look},
	{18, relate("follow", http.MethodPut, "following")}, {12, relate("unfollow", http.MethodDelete, "following")},
	{4, relate("mute", http.MethodPut, "muted")}, {4, relate("unmute", http.MethodDelete, "muted")},
	{2, relate("block", http.MethodPut, "blocked")}, {6, relate("unblock", http.MethodDelete, "blocked")},
	{2, (*client).register}, {1, (*client).closeAccount},
}

func (c *client) mine() *Account {
	if a := c.run.star; a != nil && slices.Contains(c.own, a) && c.rand.IntN(4) == 0 {
		return a
	}
	return c.own[c.rand.IntN(len(c.own))]
}

func (c *client) anybody(open []*Account) *Account {
	if a := c.run.star; a != nil && c.rand.IntN(4) == 0 {
		return a
	}
	return open[c.rand.IntN(len(open))]
}

func (c *client) post() error {
	author := c.mine()
	c.count++
	text := fmt.Sprintf("%s-%d by %s", c.name, c.count, author.ID)
	c.ledger.sending(text, author)
	broken := c.broken.Load()
	a, err := c.ask(http.MethodPost, "/posts", map[string]string{"author": author.ID, "text": text}, false)
	refused := broken && a.status == http.StatusServiceUnavailable // and may be in the log for all that
	if errors.Is(err, errLost) || refused {
		c.ledger.lose(lost{post: text})
	}
	if refused {
		c.run.count("refused post")
	}
	if err != nil || refused {
		return err
	}
	var made item
	err = json.Unmarshal(a.body, &made)
	if err != nil || made.id() == 0 || made.Author != author.ID || made.Text != text {
		c.t.Errorf("post %q by %s was answered %s", text, author.ID, a)
		return errLost
	}
	c.posts = append(c.posts, c.ledger.posted(made.id(), author, text))
	c.run.count("post")
	return c.see(author)
}

// postBatch sends posts in one request, and a line among them that is wrong.
func (c *client) postBatch() error {
	n := 1 + c.rand.IntN(8)
	authors, texts, sent := make([]*Account, n), make([]string, n), lines{}
	broken := c.rand.IntN(2 * n) // none, half of the time
	for i := range n {
		if i == broken {
			sent = append(sent, map[string]string{"author": c.mine().ID})
		}
		c.count++
		authors[i] = c.mine()
		texts[i] = fmt.Sprintf("%s-%d by %s", c.name, c.count, authors[i].ID)
		sent = append(sent, map[string]string{"author": authors[i].ID, "text": texts[i]})
		c.ledger.sending(texts[i], authors[i])
	}
	excused := c.broken.Load()
	a, err := c.ask(http.MethodPost, "/posts/batch", sent, false)
	refused := excused && a.status == http.StatusServiceUnavailable
	if errors.Is(err, errLost) || refused {
		for _, text := range texts {
			c.ledger.lose(lost{post: text})
		}
	}
	if err != nil || refused {
		return err
	}
	if a.status != http.StatusMultiStatus {
		c.t.Errorf("a batch was answered %s", a)
		return errLost
	}
	results := json.NewDecoder(bytes.NewReader(a.body))
	for i := range n {
		var result, refused struct {
			Status int
			Post   item
		}
		if i == broken {
			if err := results.Decode(&refused); err != nil || refused.Status != http.StatusBadRequest {
				c.t.Errorf("the broken line %d of a batch was answered %s", i, a)
				return errLost
			}
		}
		err := results.Decode(&result)
		if excused && result.Status == http.StatusServiceUnavailable {
			c.ledger.lose(lost{post: texts[i]})
			continue
		}
		made := result.Post
		if err != nil || result.Status != http.StatusCreated || made.id() == 0 || made.Author != authors[i].ID ||
			made.Text != texts[i] {
			c.t.Errorf("post %q by %s, in a batch, was answered %s", texts[i], authors[i].ID, a)
			return errLost
		}
		c.posts = append(c.posts, c.ledger.posted(made.id(), authors[i], texts[i]))
	}
	if results.More() {
		c.t.Errorf("%d lines were answered %s", len(sent), a)
	}
	c.run.count("batch")
	return c.see(authors[n-1])
}

// edit changes a post of this client; half of the time one that may not be everywhere yet. What was answered shows at
// once.
func (c *client) edit() error {
	if len(c.posts) == 0 {
		return nil
	}
	p := c.posts[c.rand.IntN(len(c.posts))]
	if c.rand.IntN(2) == 0 {
		p = c.posts[len(c.posts)-1]
	}
	c.count++
	text := fmt.Sprintf("%s-%d edited by %s", c.name, c.count, p.Author.ID)
	c.ledger.sending(text, p.Author)
	c.ledger.editing(p)
	path := "/posts/" + strconv.FormatUint(p.ID, 10)
	a, err := c.ask(http.MethodPatch, path, map[string]string{"text": text}, true)
	if errors.Is(err, errLost) {
		c.ledger.lose(lost{edited: p})
	}
	if err != nil {
		return err
	}
	if p.Author.Closed {
		if a.status != http.StatusNotFound {
			c.t.Errorf("PATCH %s, whose author has closed the account: %s", path, a)
		}
		c.ledger.edited(p, p.Text)
		return nil
	}
	var made item
	err = json.Unmarshal(a.body, &made)
	if err != nil || a.status != http.StatusOK || made.id() != p.ID || made.Author != p.Author.ID || made.Text != text {
		c.t.Errorf("PATCH %s to %q was answered %s", path, text, a)
		return errLost
	}
	c.ledger.edited(p, text)
	c.run.count("edit")
	if c.rand.IntN(2) == 0 {
		if err := c.lookAt(p); err != nil {
			return err
		}
	}
	return c.see(p.Author)
}

func (c *client) delete() error {
	if len(c.posts) == 0 {
		return nil
	}
	i := c.rand.IntN(len(c.posts))
	if c.rand.IntN(2) == 0 {
		i = len(c.posts) - 1 // it may not be everywhere yet
	}
	p := c.posts[i]
	c.posts[i] = c.posts[len(c.posts)-1]
	c.posts = c.posts[:len(c.posts)-1]
	c.ledger.deleting(p)
	if err := c.end(p); err != nil {
		return err
	}
	c.ledger.deleted(p)
	c.run.count("delete")
	return c.see(p.Author)
}

// end sends a delete.
func (c *client) end(p *Post) error {
	path := "/posts/" + strconv.FormatUint(p.ID, 10)
	a, err := c.ask(http.MethodDelete, path, nil, true)
	if errors.Is(err, errLost) {
		c.ledger.lose(lost{deleted: p})
	}
	if err == nil && a.status != http.StatusNoContent {
		c.t.Errorf("DELETE %s: %s", path, a)
		err = fmt.Errorf("status %d", a.status)
	}
	return err
}

// see reads the newest page of an account that has just done something, now and then: what was answered shows at once.
func (c *client) see(a *Account) error {
	if c.rand.IntN(3) == 0 && !c.readSome(&c.seen, a, 30, 1) {
		return errLost
	}
	return nil
}

// deleteAgain deletes a post twice, one after the other or both at once, which is answered alike.
func (c *client) deleteAgain() error {
	before := len(c.posts)
	if before == 0 {
		return nil
	}
	p := c.posts[before-1]
	c.posts = c.posts[:before-1]
	c.ledger.deleting(p)
	var second errgroup.Group
	if c.rand.IntN(2) == 0 {
		second.Go(func() error { return c.end(p) })
	}
	if err := errors.Join(c.end(p), second.Wait()); err != nil {
		return err
	}
	c.ledger.deleted(p)
	if err := c.end(p); err != nil {
		return err
	}
	c.run.count("delete again")
	return nil
}

// look reads a post that this client has written: it is there, or it is gone for good.
func (c *client) look() error {
	if len(c.posts) == 0 {
		return nil
	}
	c.run.count("look")
	return c.lookAt(c.posts[c.rand.IntN(len(c.posts))])
}

func (c *client) lookAt(p *Post) error {
	path := "/posts/" + strconv.FormatUint(p.ID, 10)
	stale := c.stale()
	a, err := c.ask(http.MethodGet, path, nil, true)
	if err != nil {
		return err
	}
	want := http.StatusOK
	if p.Author.Closed {
		want = http.StatusNotFound
	}
	if a.status != want {
		c.t.Errorf("GET %s, which was acknowledged: %s, want %d", path, a, want)
	}
	if a.status != http.StatusOK {
		return nil
	}
	var read item
	err = json.Unmarshal(a.body, &read)
	switch {
	case err == nil && read.Text == p.Text:
	case err == nil && stale:
		c.staleSeen.Add(1)
	default:
		c.t.Errorf("GET %s: %s, want the text %q", path, a, p.Text)
	}
	return nil
}

// relate makes an operation on one of the client's accounts and any other.
func relate(kind, method, list string) func(*client) error {
	return func(c *client) error {
		open := c.ledger.open()
		c.life.RLock()
		defer c.life.RUnlock()
		who, whom := c.mine(), c.anybody(open)
		if who == whom || whom.Closed {
			return nil
		}
		pair := c.pair(who, whom)
		pair.Lock()
		defer pair.Unlock()
		return c.relate(kind, method, list, who, whom)
	}
}

func (c *client) relate(kind, method, list string, who, whom *Account) error {
	on := method == http.MethodPut
	var changes []change
	want := http.StatusNoContent
	switch list {
	case "following":
		changes = []change{{Follows, who, whom, on}}
		if on && (c.ledger.has(Blocks, who, whom) || c.ledger.has(Blocks, whom, who)) {
			want = http.StatusForbidden
		}
	case "muted":
		changes = []change{{Mutes, who, whom, on}}
	case "blocked":
		changes = []change{{Blocks, who, whom, on}}
		if on {
			changes = append(changes, change{Follows, who, whom, false}, change{Follows, whom, who, false})
		}
	}
	c.ledger.begin(changes...)
	_, err := c.expect(want, method, "/accounts/"+who.ID+"/"+list+"/"+whom.ID, nil)
	if errors.Is(err, errLost) {
		c.ledger.lose(lost{changes: changes})
	}
	if err != nil {
		return err
	}
	c.ledger.settle(want == http.StatusNoContent, changes...)
	if want == http.StatusForbidden {
		kind = "refused " + kind
	}
	c.run.count(kind)
	return c.see(who)
}

func (c *client) register() error {
	c.life.RLock()
	defer c.life.RUnlock()
	if c.rand.IntN(2) == 0 { // a known one: nothing changes
		_, err := c.expect(http.StatusOK, http.MethodPut, "/accounts/"+c.mine().ID, nil)
		return err
	}
	c.run.count("register")
	c.count++
	return c.newAccount(fmt.Sprintf("%s-%d", c.name, c.count))
}

func (c *client) newAccount(id string) error {
	a := &Account{ID: id}
	_, err := c.expect(http.StatusCreated, http.MethodPut, "/accounts/"+id, map[string]string{"name": "of " + c.name})
	if errors.Is(err, errLost) {
		c.ledger.lose(lost{register: a})
	}
	if err == nil {
		c.own = append(c.own, c.ledger.addAccount(id))
	}
	return err
}

// closeAccount closes an account; half of the time somebody new takes its id.
func (c *client) closeAccount() error {
	if len(c.own) < 3 {
		return nil
	}
	c.life.Lock()
	defer c.life.Unlock()
	i := c.rand.IntN(len(c.own))
	a := c.own[i]
	if a == c.run.star {
		return nil
	}
	c.own = slices.Delete(c.own, i, i+1) // also if the answer is lost: it may be closed then
	c.ledger.leave(a)
	_, err := c.expect(http.StatusAccepted, http.MethodDelete, "/accounts/"+a.ID, nil)
	if errors.Is(err, errLost) {
		c.ledger.lose(lost{closed: a})
	}
	if err != nil {
		return err
	}
	c.ledger.close(a)
	c.run.count("close")
	if c.rand.IntN(2) == 0 {
		return nil
	}
	c.run.count("register again")
	return c.newAccount(a.ID)
}
