package e2e

import (
	"errors"
	"fmt"
	"sync"
)

// ledger is the model and its recent past: for everything that can hide a post, since when it has been so for certain.
// Time counts settled changes. A client says what it is about to do (begin) and that it was answered (settle); between
// the two both states are right. So a page that was asked for at a moment must not show what was hidden for certain at
// that moment and has been since.
type ledger struct {
	mu      sync.Mutex
	world   World
	now     int64
	flags   map[flagKey]*flag
	posts   map[uint64]*postState
	by      map[*Account][]*postState // the posts, by their authors
	opened  []*Account                // what open returns; nil when that has changed
	texts   map[string]*Account       // of every post that was ever sent, with its author
	leaving map[*Account]bool         // accounts of which somebody has asked to be closed
	closed  map[*Account]int64        // when that was answered
	lost    []lost
}

type flagKey struct {
	relation  Relation
	who, whom *Account
}

type flag struct {
	on      bool
	pending int // changes that were sent and not answered
	since   int64
}

type postState struct {
	*Post
	acknowledged int64
	editing      bool  // an edit was sent and not answered
	edited       int64 // when the last was answered, or the post was
	deleting     bool  // a delete was sent
	deleted      int64 // when it was answered; 0: not yet
}

// change is a relation that an operation sets.
type change struct {
	relation  Relation
	who, whom *Account
	on        bool
}

// lost is an operation whose answer never came. One of its fields is set.
type lost struct {
	changes  []change
	post     string // the text of a post
	edited   *Post
	deleted  *Post
	closed   *Account
	register *Account
}

func newLedger() *ledger {
	return &ledger{
		flags: map[flagKey]*flag{}, posts: map[uint64]*postState{}, by: map[*Account][]*postState{},
		texts: map[string]*Account{}, leaving: map[*Account]bool{}, closed: map[*Account]int64{},
	}
}

func (l *ledger) flag(r Relation, who, whom *Account) *flag {
	key := flagKey{r, who, whom}
	f := l.flags[key]
	if f == nil {
		f = &flag{}
		l.flags[key] = f
	}
	return f
}

// clock is the time at which a request is about to be sent.
func (l *ledger) clock() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *ledger) begin(changes ...change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		l.flag(c.relation, c.who, c.whom).pending++
	}
}

// settle ends changes: they were made, or refused.
func (l *ledger) settle(made bool, changes ...change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	for _, c := range changes {
		f := l.flag(c.relation, c.who, c.whom)
		f.pending--
		if made {
			f.on = c.on
			l.world.Set(c.relation, c.who, c.whom, c.on)
		}
		f.since = l.now
	}
}

// imported notes a follow that was there before any client came.
func (l *ledger) imported(who, whom *Account) {
	c := change{Follows, who, whom, true}
	l.begin(c)
	l.settle(true, c)
}

func (l *ledger) addAccount(id string) *Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &Account{ID: id}
	l.world.Accounts, l.opened = append(l.world.Accounts, a), nil
	return a
}

func (l *ledger) leave(a *Account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving[a] = true
}

func (l *ledger) isLeaving(a *Account) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving[a]
}

func (l *ledger) close(a *Account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	a.Closed, l.opened = true, nil
	l.closed[a] = l.now
}

// sending notes the text of a post or an edit, so that a page that shows it before its answer is understood.
func (l *ledger) sending(text string, author *Account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts[text] = author
}

func (l *ledger) posted(id uint64, author *Account, text string) *Post {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	p := &Post{ID: id, Author: author, Text: text}
	l.world.Posts = append(l.world.Posts, p)
	l.posts[id] = &postState{Post: p, acknowledged: l.now, edited: l.now}
	l.by[author] = append(l.by[author], l.posts[id])
	return p
}

func (l *ledger) editing(p *Post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts[p.ID].editing = true
}

func (l *ledger) edited(p *Post, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	p.Text = text
	l.posts[p.ID].editing, l.posts[p.ID].edited = false, l.now
}

// text is what the post says, as far as it was answered.
func (l *ledger) text(id uint64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.posts[id]; p != nil {
		return p.Text
	}
	return ""
}

func (l *ledger) deleting(p *Post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts[p.ID].deleting = true
}

func (l *ledger) deleted(p *Post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	p.Deleted = true
	l.posts[p.ID].deleted = l.now
}

// has is a relation that no operation is about to change.
func (l *ledger) has(r Relation, who, whom *Account) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.world.Has(r, who, whom)
}

func (l *ledger) lose(op lost) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, op)
}

// open is the accounts that are not closed; nobody changes the list.
func (l *ledger) open() []*Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened == nil {
		for _, a := range l.world.Accounts {
			if !a.Closed {
				l.opened = append(l.opened, a)
			}
		}
	}
	return l.opened
}

// judge says what is wrong with a page of the reader's feed that was asked for at a time, with the ids that are below
// before (0: the newest).
func (l *ledger) judge(reader *Account, page page, before uint64, asked int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaving[reader] {
		return nil // the id may be somebody else's by now
	}
	last := before
	shown := map[uint64]bool{}
	var old error // told last: it may be excused
	for _, item := range page.Items {
		id := item.id()
		if last != 0 && id >= last {
			return fmt.Errorf("post %d comes after %d: out of order or twice", id, last)
		}
		last = id
		shown[id] = true
		author := l.texts[item.Text]
		if author == nil || author.ID != item.Author {
			return fmt.Errorf("post %d by %s with the text %q was never written", id, item.Author, item.Text)
		}
		if p := l.posts[id]; p != nil && !p.editing && p.edited <= asked && item.Text != p.Text {
			old = fmt.Errorf("%w: post %d has the text %q, and was edited to %q before", errOld, id, item.Text, p.Text)
		}
		if why := l.hidden(reader, author, asked); why != "" {
			return fmt.Errorf("post %d by %s is shown: %s", id, author.ID, why)
		}
		if p := l.posts[id]; p != nil && p.deleted != 0 && p.deleted <= asked {
			old = fmt.Errorf("%w: post %d by %s is shown: its delete was answered before", errOld, id, author.ID)
		}
	}
	if !page.Complete {
		return old
	}
	// What its author was told is stored is in its own feed at once.
	for _, p := range l.by[reader] {
		in := (before == 0 || p.ID < before) && (page.Next == "" || p.ID >= last)
		if p.acknowledged <= asked && !p.deleting && in && !shown[p.ID] {
			return fmt.Errorf("%w: it says that it is complete, and the reader's own post %d is missing", errOld, p.ID)
		}
	}
	return old
}

// errOld is wrapped by errors for a page that was right at an earlier time, as far as Redis has a say in it: who sees
// whom does not depend on Redis.
var errOld = errors.New("the page is old")

// hidden is why no post of the author must be in the reader's feed, "" if they may be.
func (l *ledger) hidden(reader, author *Account, asked int64) string {
	certain := func(r Relation, who, whom *Account, on bool) bool {
		f := l.flag(r, who, whom)
		return f.pending == 0 && f.on == on && f.since <= asked
	}
	closed, isClosed := l.closed[author]
	switch {
	case isClosed && closed <= asked:
		return "the account was closed before"
	case reader == author:
		return ""
	case certain(Follows, reader, author, false):
		return "the reader does not follow the author"
	case certain(Mutes, reader, author, true):
		return "the reader mutes the author"
	case certain(Blocks, reader, author, true), certain(Blocks, author, reader, true):
		return "one blocks the other"
	}
	return ""
}
