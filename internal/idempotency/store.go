// Package idempotency keeps the answers to requests that name themselves, so that one that is sent again is answered
// alike and done once.
//
// Answers are in Redis, where all API processes find them. What Redis could not be told, because it was away, this
// process remembers; and two requests of the same name in one process are told apart here, whatever Redis says.
package idempotency

import (
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"freshet"
	"freshet/internal/feeds"
)

// Errors of Claim.
var (
	// ErrBusy: a request of this name is being worked on.
	ErrBusy = errors.New("a request of this name is being worked on")
	// ErrOther: the name was given to another request.
	ErrOther = errors.New("the name was given to another request")
)

const (
	// redisGrace bounds what a request waits for Redis, before and after it is done. A Redis that is slower counts as
	// away; it is long, because who names a request would rather wait than have it done twice.
	redisGrace = 3 * time.Second
	// mostBytes bounds what is remembered for Redis; what is oldest goes first.
	mostBytes = 16 << 20
	// entryBytes is what an entry takes beside its answer, roughly.
	entryBytes = 400
)

// Store keeps answers. The zero one keeps them in the process only. It is safe for concurrent use.
type Store struct {
	Conn feeds.Conn // nil: none
	// Now is time.Now if nil.
	Now func() time.Time

	mu    sync.Mutex
	here  map[feeds.AnswerKey]*entry
	done  list.List // of *entry that nobody works on, oldest first
	bytes int
}

// entry is a request that is being worked on here, or of which Redis does not know how it ended.
type entry struct {
	key     feeds.AnswerKey
	request string
	post    freshet.PostID
	answer  []byte // nil: none yet
	until   time.Time
	place   *list.Element // in done; nil: it is being worked on
}

// Claim is the right to do a request, until Keep or Release.
type Claim struct {
	// Post is the id of the post that the request makes: the same for all attempts.
	Post freshet.PostID

	asked freshet.PostID // the id that this attempt brought
	store *Store
	entry *entry
	owner string // in Redis; empty: Redis does not know of the claim
}

// Claim asks to do a caller's request of that name. request tells requests apart; post is the id for a new post. One of
// the claim, the answer of before and the error is there.
func (s *Store) Claim(
	ctx context.Context, caller, name, request string, post freshet.PostID,
) (*Claim, []byte, error) {
	key := feeds.AnswerKey(sha256.Sum256([]byte(caller + "\x00" + name)))
	e, answer, err := s.begin(key, request, post)
	if e == nil {
		return nil, answer, err
	}
	c := &Claim{Post: e.post, store: s, entry: e, asked: post}
	if s.Conn == nil {
		return c, nil, nil
	}
	op := &feeds.ClaimAnswer{Key: key, Owner: rand.Text(), Request: request, Post: e.post}
	ctx, cancel := context.WithTimeout(ctx, redisGrace)
	defer cancel()
	if s.Conn.Do(ctx, op) != nil {
		return c, nil, nil // Redis is away: then it is one process that answers alike
	}
	switch op.State {
	case feeds.AnswerMine:
		c.Post, c.owner = op.Post, op.Owner
		return c, nil, nil
	case feeds.AnswerThere:
		answer = op.Answer
	case feeds.AnswerBusy:
		err = ErrBusy
	case feeds.AnswerOther:
		err = ErrOther
	}
	s.forget(e)
	return nil, answer, err
}

// Keep ends the claim with the answer.
func (c *Claim) Keep(ctx context.Context, answer []byte) {
	if c.tell(ctx, &feeds.EndAnswer{Answer: answer}) {
		c.store.forget(c.entry)
		return
	}
	c.store.remember(c.entry, c.Post, answer)
}

// Release ends the claim without an answer that would do for the next attempt. Unless something may have been done, all
// is forgotten; otherwise the next attempt makes the same post.
func (c *Claim) Release(ctx context.Context, maybeDone bool) {
	maybeDone = maybeDone || c.Post != c.asked // an attempt before this one may have made the post
	told := c.tell(ctx, &feeds.EndAnswer{Forget: !maybeDone})
	if told || !maybeDone {
		c.store.forget(c.entry)
		return
	}
	c.store.remember(c.entry, c.Post, nil)
}

// tell says whether Redis knows how the claim ended. The client may be gone; that changes nothing.
func (c *Claim) tell(ctx context.Context, op *feeds.EndAnswer) bool {
	if c.owner == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisGrace)
	defer cancel()
	op.Key, op.Owner = c.entry.key, c.owner
	return c.store.Conn.Do(ctx, op) == nil && op.OK
}

// begin takes the name in this process.
func (s *Store) begin(key feeds.AnswerKey, request string, post freshet.PostID) (e *entry, answer []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e = s.here[key]
	if e != nil && e.place != nil && !s.now().Before(e.until) {
		s.drop(e)
		e = nil
	}
	switch {
	case e == nil:
		e = &entry{key: key, request: request, post: post}
		if s.here == nil {
			s.here = map[feeds.AnswerKey]*entry{}
		}
		s.here[key] = e
		return e, nil, nil
	case e.request != request:
		return nil, nil, ErrOther
	case e.place == nil:
		return nil, nil, ErrBusy
	case e.answer != nil:
		return nil, e.answer, nil
	}
	s.bytes -= entryBytes
	s.done.Remove(e.place)
	e.place = nil
	return e, nil, nil
}

func (s *Store) forget(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.here, e.key)
}

func (s *Store) remember(e *entry, post freshet.PostID, answer []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.post, e.answer, e.until = post, answer, s.now().Add(feeds.AnswerLife)
	e.place = s.done.PushBack(e)
	for s.bytes += entryBytes + len(answer); s.bytes > mostBytes; {
		s.drop(s.done.Front().Value.(*entry)) //nolint:forcetypeassert // the list holds nothing else
	}
}

// drop forgets an entry that nobody works on.
func (s *Store) drop(e *entry) {
	s.done.Remove(e.place)
	s.bytes -= entryBytes + len(e.answer)
	delete(s.here, e.key)
}

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}
